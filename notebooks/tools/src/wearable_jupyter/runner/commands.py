"""The commands run, check and html."""

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
    """Run a notebook strictly, and print failures.

    Without an `environment`, the hash of the inputs is recorded in the notebook.
    """
    print(f"Running {selection.label(path)}", flush=True)
    made_from = provenance.inputs_hash()
    result = strict_run.run(path, cell_seconds=limit, environment=environment, progress=on_terminal)
    on_terminal("")
    if not environment:
        provenance.record(result.executed, made_from, passed=not result.failures)
    print_failures(result)
    return result


def on_terminal(line: str) -> None:
    """Replace the progress line on a terminal; print nothing in a log."""
    if sys.stdout.isatty():
        print(f"\r\x1b[K{line}", end="", flush=True)


def print_failures(result: strict_run.Result) -> None:
    """Print the failures of a notebook."""
    name = selection.label(result.notebook)
    for reason in result.failures.values():
        print(f"FAILED {name}, {reason}\n", file=sys.stderr, flush=True)


def write_executed(executed: NotebookNode, copy: Path) -> None:
    """Write an executed notebook, then add static pictures of its charts and write it again.

    So the executed notebook exists even if rendering a picture fails.
    """
    write(copy, nbformat.writes(executed))
    try:
        messages = charts.add_pictures(executed)
    except Exception as error:  # the rendering library can raise any error
        print(
            f"warning: {paths.display_path(copy)} has no static pictures of its charts, because "
            f"rendering one failed: {type(error).__name__}: {error}",
            file=sys.stderr,
            flush=True,
        )
    else:
        write(copy, nbformat.writes(executed))
        for message in messages:
            print(f"warning: {paths.display_path(copy)}: {message}", file=sys.stderr, flush=True)


def write_html(executed: NotebookNode, path: Path, target: Path, **options: bool) -> None:
    """Write an executed notebook's HTML. Raises `UserError` if rendering fails."""
    try:
        text = html.export(executed, path.stem, directory=path.parent, **options)
    except Exception as error:  # the rendering libraries can raise any error
        raise UserError(
            f"{paths.display_path(target)} could not be rendered: {type(error).__name__}: {error}. "
            f"The executed notebook is complete; open it in JupyterLab instead"
        ) from error
    write(target, text)


def finish(results: list[strict_run.Result], written: list[Path]) -> int:
    """Print the results and the written files; the exit code is 1 if a notebook failed."""
    if results:
        print(f"\n{report.table(results)}\n")
    print("\n".join(f"  {paths.display_path(path)}" for path in written))
    failures = sum(bool(result.failures) for result in results)
    if results:
        print(f"{len(results) - failures} of {len(results)} notebooks passed", flush=True)
    return 1 if failures else 0


def run(names: list[str], limit: int, caller: Path) -> int:
    """Run notebooks and write executed copies and HTML. Generates a dataset if none exists."""
    selected = selection.notebooks(names, caller)
    check_writable(paths.OUTPUTS)
    dataset.ensure()
    prepare()
    results, written = [], []
    for path in selected:
        results.append(execute(path, limit))
        write_outputs(results[-1], "", written)
    return finish(results, written)


def write_outputs(
    result: strict_run.Result, suffix: str, written: list[Path], **options: bool
) -> None:
    """Write an executed notebook, and its HTML if it passed."""
    copy = selection.output(result.notebook)
    write_executed(result.executed, copy)
    written.append(copy)
    if not result.failures:
        add_html(result, suffix, written, **options)


def add_html(result: strict_run.Result, suffix: str, written: list[Path], **options: bool) -> None:
    """Write an executed notebook's HTML; if rendering fails, so does the notebook."""
    target = selection.output(result.notebook, f"{suffix}.html")
    try:
        write_html(result.executed, result.notebook, target, **options)
        written.append(target)
    except UserError as error:
        result.failures[None] = str(error)
        print_failures(result)


def check(names: list[str], limit: int, caller: Path, update: bool) -> int:
    """Run notebooks as in a new clone, and compare their outputs with the snapshots.

    Notebooks generate the small dataset into a temporary folder. So a check is reproducible and
    does not change `data/`. The executed notebooks are in a separate folder, because `run` may use
    another dataset.
    """
    selected = selection.notebooks(names, caller)
    check_writable(paths.OUTPUTS)
    prepare()
    results, written = [], []
    paths.TARGET.mkdir(exist_ok=True)
    for path in selected:
        with tempfile.TemporaryDirectory(prefix="check-", dir=paths.TARGET) as scratch:
            data, outputs = f"{scratch}/data", f"{scratch}/outputs"
            result = execute(path, limit, WEARABLE_DATA_DIR=data, WEARABLE_OUTPUT_DIR=outputs)
            directories = {data: "data", outputs: "outputs", str(paths.ROOT): ""}
        results.append(result)
        if not result.failures:
            if update:
                snapshot = snapshots.file(path)
                write(snapshot, snapshots.render(result.executed, directories))
                written.append(snapshot)
            else:
                update_command = selection.command("check --update", path, caller)
                result.failures = snapshots.differences(
                    result.executed, path, update_command, directories
                )
                print_failures(result)
        copy = selection.output(path, folder=CHECKED)
        write_executed(result.executed, copy)
        written.append(copy)
    return finish(results, [*written, *report.write(results, paths.OUTPUTS)])


def to_html(names: list[str], limit: int, caller: Path, slides: bool, no_code: bool) -> int:
    """Write notebooks as HTML; run those without an up-to-date copy in `outputs/`."""
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
            print(f"{selection.label(path)} has not changed since its last run. To rerun: {again}")
            unchanged = strict_run.Result(path, executed=read(copy))
            add_html(unchanged, suffix, written, **options)
            failures += bool(unchanged.failures)
        else:
            prepare()
            results.append(execute(path, limit))
            write_outputs(results[-1], suffix, written, **options)
    return finish(results, written) or min(failures, 1)
