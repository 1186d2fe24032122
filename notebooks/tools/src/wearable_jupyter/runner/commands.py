"""run, check and html: what they do with the notebooks that are named."""

import sys
import tempfile
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from ..export import charts, html
from ..kernel.template import prepare
from ..setup import dataset, paths
from ..setup.atomic_write import check_writable, write
from ..setup.errors import UserError
from . import provenance, report, selection, snapshots, strict_run
from .load import read

CHECKED = paths.OUTPUTS / "check"


def execute(path: Path, limit: int, **environment: str) -> strict_run.Result:
    """Run a notebook strictly; what fails is printed.

    Without an `environment` of its own, the notebook records on what it was run.
    """
    print(f"Running {selection.label(path)}", flush=True)
    made_from = provenance.fingerprint()
    result = strict_run.run(path, cell_seconds=limit, environment=environment, progress=on_terminal)
    on_terminal("")
    if not environment:
        provenance.record(result.executed, made_from, passed=not result.failures)
    announce(result)
    return result


def on_terminal(line: str) -> None:
    """Put a passing line in place of the one before, for a person; a log gets none."""
    if sys.stdout.isatty():
        print(f"\r\x1b[K{line}", end="", flush=True)


def announce(result: strict_run.Result) -> None:
    """Print at once what failed, and why."""
    name = selection.label(result.notebook)
    for reason in result.failures.values():
        print(f"FAILED {name}, {reason}\n", file=sys.stderr, flush=True)


def keep(executed: NotebookNode, copy: Path) -> None:
    """Write an executed notebook, then give its charts their pictures and write it again.

    The run is kept whatever becomes of the pictures.
    """
    write(copy, nbformat.writes(executed))
    try:
        messages = charts.add_pictures(executed)
    except Exception as error:  # whatever a chart leads to in a library that draws it
        print(
            f"warning: {paths.display_path(copy)} has no static pictures of its charts, because "
            f"drawing one failed: {type(error).__name__}: {error}",
            file=sys.stderr,
            flush=True,
        )
    else:
        write(copy, nbformat.writes(executed))
        for message in messages:
            print(f"warning: {paths.display_path(copy)}: {message}", file=sys.stderr, flush=True)


def write_html(executed: NotebookNode, path: Path, target: Path, **options: bool) -> None:
    """Write an executed notebook's HTML. Raises `UserError` if it cannot be made."""
    try:
        text = html.export(executed, path.stem, directory=path.parent, **options)
    except Exception as error:  # whatever an output leads to in the libraries that render it
        raise UserError(
            f"{paths.display_path(target)} could not be made: {type(error).__name__}: {error}. "
            f"The executed notebook is complete"
        ) from error
    write(target, text)


def finish(results: list[strict_run.Result], written: list[Path]) -> int:
    """Print how the notebooks went and where the files are; the exit code is 1 if one failed."""
    if results:
        print(f"\n{report.table(results)}\n")
    print("\n".join(f"  {paths.display_path(path)}" for path in written))
    failures = sum(bool(result.failures) for result in results)
    if results:
        print(f"{len(results) - failures} of {len(results)} notebooks passed", flush=True)
    return 1 if failures else 0


def run(names: list[str], limit: int, caller: Path) -> int:
    """The main job: data if there are none, every notebook, its executed copy and its HTML."""
    selected = selection.notebooks(names, caller)
    check_writable(paths.OUTPUTS)
    dataset.ensure()
    prepare()
    results, written = [], []
    for path in selected:
        results.append(execute(path, limit))
        to_written(results[-1], "", written)
    return finish(results, written)


def to_written(
    result: strict_run.Result, suffix: str, written: list[Path], **options: bool
) -> None:
    """Write a result's executed notebook, and its HTML if nothing failed."""
    copy = selection.output(result.notebook)
    keep(result.executed, copy)
    written.append(copy)
    if not result.failures:
        add_html(result, suffix, written, **options)


def add_html(result: strict_run.Result, suffix: str, written: list[Path], **options: bool) -> None:
    """Write a result's HTML; if that is impossible, the notebook has failed."""
    target = selection.output(result.notebook, f"{suffix}.html")
    try:
        write_html(result.executed, result.notebook, target, **options)
        written.append(target)
    except UserError as error:
        result.failures[None] = str(error)
        announce(result)


def check(names: list[str], limit: int, caller: Path, update: bool) -> int:
    """Run notebooks as in a new clone, on the small dataset, and compare what they show.

    They find no data and generate them; data and files go to a passing folder, so that a check
    always sees the same and leaves what is in `data/` alone. The executed notebooks go to a folder
    of their own, because they show other data than those of `run`.
    """
    selected = selection.notebooks(names, caller)
    check_writable(paths.OUTPUTS)
    prepare()
    results, written = [], []
    paths.TARGET.mkdir(exist_ok=True)
    for path in selected:
        with tempfile.TemporaryDirectory(prefix="check-", dir=paths.TARGET) as scratch:
            result = execute(
                path,
                limit,
                WEARABLE_DATA_DIR=f"{scratch}/data",
                WEARABLE_OUTPUT_DIR=f"{scratch}/outputs",
            )
        results.append(result)
        if not result.failures:
            if update:
                kept = snapshots.file(path)
                write(kept, snapshots.render(result.executed))
                written.append(kept)
            else:
                remedy = selection.command("check --update", path, caller)
                result.failures = snapshots.differences(result.executed, path, remedy)
                announce(result)
        copy = selection.output(path, folder=CHECKED)
        keep(result.executed, copy)
        written.append(copy)
    return finish(results, [*written, *report.write(results, paths.OUTPUTS)])


def to_html(names: list[str], limit: int, caller: Path, slides: bool, no_code: bool) -> int:
    """HTML of notebooks: of the executed copy in `outputs/` if it is up to date, else run anew."""
    selected = selection.notebooks(names, caller)
    check_writable(paths.OUTPUTS)
    dataset.ensure()
    suffix = ("-slides" if slides else "") + ("-no-code" if no_code else "")
    options = {"slides": slides, "no_code": no_code}
    results, written, failures = [], [], 0
    for path in selected:
        copy = selection.output(path)
        if provenance.is_current(path, copy):
            again = selection.command("run", path, caller)
            print(f"{selection.label(path)} has not changed since it was last run; {again} runs it")
            unchanged = strict_run.Result(path, executed=read(copy))
            add_html(unchanged, suffix, written, **options)
            failures += bool(unchanged.failures)
        else:
            prepare()
            results.append(execute(path, limit))
            to_written(results[-1], suffix, written, **options)
    return finish(results, written) or min(failures, 1)
