"""run, check and html: what they do with the notebooks that are named."""

import sys
import tempfile
from pathlib import Path

import nbformat

from ..export import charts, html
from ..kernel.template import prepare
from ..setup import data, layout
from ..setup.files import write
from ..setup.layout import Problem
from . import expected, report, runner
from .reading import read


def notebooks(names: list[str]) -> list[Path]:
    """The notebooks of those names or paths; all of the project's if there are none."""
    if not names:
        return sorted(layout.NOTEBOOKS.glob("*.ipynb"))
    found = []
    for name in names:
        candidates = (Path(name), layout.NOTEBOOKS / f"{Path(name).stem}.ipynb")
        path = next((p for p in candidates if p.is_file() and p.suffix == ".ipynb"), None)
        if path is None:
            known = ", ".join(p.stem for p in sorted(layout.NOTEBOOKS.glob("*.ipynb")))
            raise Problem(f"There is no notebook {name}. Those of the project are: {known}")
        found.append(path.resolve())
        read(found[-1])  # before anything runs: it says what is no notebook
    return found


def execute(path: Path, limit: int, **environment: str) -> runner.Result:
    """Run a notebook strictly and give its charts their pictures; what fails is printed."""
    print(f"Running {path.name}", flush=True)
    result = runner.run(path, cell_seconds=limit, environment=environment, progress=on_terminal)
    on_terminal("")
    charts.add_pictures(result.executed)
    announce(result)
    return result


def on_terminal(line: str) -> None:
    """Put a passing line in place of the one before, for a person; a log gets none."""
    if sys.stdout.isatty():
        print(f"\r\x1b[K{line}", end="", flush=True)


def announce(result: runner.Result) -> None:
    """Say at once what failed, and why."""
    for reason in result.failures.values():
        print(f"FAILED {result.notebook.name}, {reason}\n", file=sys.stderr, flush=True)


def finish(results: list[runner.Result], written: list[Path]) -> int:
    """Say how the notebooks went and where the files are; the exit code is 1 if one failed."""
    print(f"\n{report.table(results)}\n")
    print("\n".join(f"  {layout.shown(path)}" for path in written))
    failures = sum(bool(result.failures) for result in results)
    print(f"{len(results) - failures} of {len(results)} notebooks passed", flush=True)
    return 1 if failures else 0


def run(names: list[str], limit: int) -> int:
    """The main job: data if there are none, every notebook, its executed copy and its HTML."""
    selected = notebooks(names)
    data.ensure()
    prepare()
    results, written = [], []
    for path in selected:
        results.append(execute(path, limit))
        written.append(layout.OUTPUTS / path.name)
        write(written[-1], nbformat.writes(results[-1].executed))
        if not results[-1].failures:
            written.append(written[-1].with_suffix(".html"))
            write(written[-1], html.export(results[-1].executed, path.stem))
    return finish(results, written)


def check(names: list[str], limit: int, update: bool) -> int:
    """Run notebooks as in a new clone, on the small dataset, and compare what they show.

    They find no data and generate them; data and files go to a passing folder, so that a check
    always sees the same and leaves what is in `data/` alone.
    """
    selected = notebooks(names)
    prepare()
    results, written = [], []
    layout.TARGET.mkdir(exist_ok=True)
    for path in selected:
        with tempfile.TemporaryDirectory(prefix="check-", dir=layout.TARGET) as scratch:
            result = execute(
                path,
                limit,
                WEARABLE_DATA_DIR=f"{scratch}/data",
                WEARABLE_OUTPUT_DIR=f"{scratch}/outputs",
            )
        results.append(result)
        if result.failures:
            continue
        if update:
            written.append(expected.file(path))
            write(written[-1], expected.render(result.executed))
        else:
            result.failures = expected.differences(result.executed, path)
            announce(result)
    return finish(results, [*written, *report.write(results, layout.OUTPUTS)])


def newest_source() -> float:
    """When anything was last changed that a notebook's results depend on."""
    files = [layout.ROOT / "Cargo.lock", *(layout.ROOT / "crates").rglob("*.rs")]
    files += [*(layout.data_directory() / "sensor_hrv").glob("*.parquet")]
    return max(file.stat().st_mtime for file in files)


def to_html(names: list[str], limit: int, slides: bool, no_code: bool) -> int:
    """HTML of notebooks: of the executed copy in `outputs/` if it is up to date, else run anew."""
    selected = notebooks(names)
    results, written = [], []
    for path in selected:
        copy = layout.OUTPUTS / path.name
        if runner.is_current(path, copy, newest_source()):
            print(f"{path.name} has not changed since it was last run: ./justw run runs it anew")
            executed = read(copy)
        else:
            data.ensure()
            prepare()
            results.append(execute(path, limit))
            write(copy, nbformat.writes(results[-1].executed))
            executed = results[-1].executed
            if results[-1].failures:
                continue
        suffix = ("-slides" if slides else "") + ("-no-code" if no_code else "")
        written.append(copy.with_name(f"{path.stem}{suffix}.html"))
        write(written[-1], html.export(executed, path.stem, slides=slides, no_code=no_code))
    if results:
        return finish(results, written)
    print("\n".join(f"  {layout.shown(path)}" for path in written))
    return 0
