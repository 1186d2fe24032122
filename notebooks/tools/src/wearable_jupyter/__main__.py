"""The commands behind the justfile's recipes: python -m wearable_jupyter COMMAND."""

import argparse
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import nbformat

from . import charts, doctor, expected, html, layout, normalise, report, runner
from .layout import Problem
from .prepare import build_workspace, cargo, prepare, prerequisites, run_binary


def write(path: Path, text: str) -> None:
    """Write a file so that nobody ever finds half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part-{os.getpid()}")
    try:
        part.write_text(text)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


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
    return found


def data(size: str) -> None:
    """Write a dataset: `small`, `large`, or a number of sensor rows."""
    prerequisites()
    rows = size.replace("_", "").replace(",", "")
    if size in ("small", "large"):
        arguments = ["--size", size]
    elif rows.isdigit() and int(rows) > 0:
        arguments = ["--rows", rows]
    else:
        raise Problem(f"data takes small, large or a number of rows from 1, not {size}")
    build_workspace()
    run_binary("generate_demo_data", *arguments)


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


def ensure_data() -> None:
    """Write the small dataset if there is none."""
    if not any((layout.data_directory() / "sensor_hrv").glob("*.parquet")):
        data("small")


def run(names: list[str], limit: int) -> int:
    """The main job: data if there are none, every notebook, its executed copy and its HTML."""
    selected = notebooks(names)
    ensure_data()
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
            executed = nbformat.read(copy, as_version=4)
        else:
            ensure_data()
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


def fmt() -> None:
    """Format Rust, Python and notebooks."""
    cargo("fmt", "--all")
    ruff("format")
    ruff("check", "--fix")
    for path in notebooks([]):
        write(path, normalise.text(path))


def lint() -> None:
    """Check formatting and lints of Rust, Python and notebooks; warnings are errors."""
    cargo("fmt", "--all", "--check")
    ruff("format", "--check")
    ruff("check")
    for path in notebooks([]):
        if path.read_text() != normalise.text(path):
            raise Problem(f"{path.name} has outputs or is not in its normal form. Run: ./justw fmt")
    build_workspace()
    clippy = ("clippy", "--workspace", "--all-targets", "--locked", "--quiet")
    cargo(*clippy, "--", "--deny", "warnings")


def ruff(*arguments: str) -> None:
    """Run ruff on the Python tools."""
    binary = Path(sys.executable).parent / "ruff"
    tools = layout.NOTEBOOKS / "tools"
    if subprocess.run([binary, *arguments, "--quiet", tools], cwd=tools).returncode != 0:
        raise Problem("ruff found something, see above. What it can mend itself: ./justw fmt")


def test(arguments: list[str]) -> int:
    """Linters, Rust's tests and Python's; `arguments` go to pytest."""
    prepare()
    lint()
    print(cargo("test", "--workspace", "--locked"), flush=True)
    command = [sys.executable, "-m", "pytest", *(arguments or [str(layout.NOTEBOOKS / "tools")])]
    return subprocess.run(command, cwd=layout.NOTEBOOKS / "tools").returncode


def main() -> int:
    # No abbreviations: `--upd` must not overwrite what is expected.
    new_parser = partial(argparse.ArgumentParser, allow_abbrev=False)
    parser = new_parser(prog="wearable_jupyter", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=new_parser)
    commands.add_parser("setup", help="install and compile everything")
    taking_notebooks = {}
    for name, text in (
        ("run", "run notebooks, write them and their HTML"),
        ("check", "run notebooks as a reviewer does, and compare what they show"),
        ("html", "write notebooks as HTML"),
    ):
        command = taking_notebooks[name] = commands.add_parser(name, help=text)
        command.add_argument("notebooks", nargs="*", help="names or paths; all if none")
        command.add_argument("--cell-seconds", type=int, default=runner.CELL_SECONDS)
    taking_notebooks["check"].add_argument(
        "--update", action="store_true", help="keep what is shown now as what is expected"
    )
    html_parser = taking_notebooks["html"]
    html_parser.add_argument("--slides", action="store_true", help="slides of reveal.js")
    html_parser.add_argument("--no-code", action="store_true", help="without the cells' code")
    commands.add_parser("data", help="write a dataset").add_argument(
        "size", nargs="?", default="small"
    )
    commands.add_parser("doctor", help="say what is ready and what is not")
    bench_parser = commands.add_parser("bench", help="measure")
    bench_parser.add_argument("what", choices=["kernel", "lab", "queries"])
    bench_parser.add_argument("--rounds", type=int)
    commands.add_parser("fmt", help="format everything")
    commands.add_parser("lint", help="check formats and lints")
    commands.add_parser("test", help="run all tests", add_help=False)
    options, rest = parser.parse_known_args()
    if rest and options.command != "test":
        parser.error(f"unknown arguments: {' '.join(rest)}")
    match options.command:
        case "setup":
            prepare()
            print("Everything is ready: ./justw lab, ./justw run or ./justw test")
        case "run":
            return run(options.notebooks, options.cell_seconds)
        case "check":
            return check(options.notebooks, options.cell_seconds, options.update)
        case "html":
            return to_html(options.notebooks, options.cell_seconds, options.slides, options.no_code)
        case "data":
            data(options.size)
        case "bench":
            from . import bench  # what it measures with is for development only

            measured = getattr(bench, options.what)
            measured(*([options.rounds] if options.rounds else []))
        case "doctor":
            return doctor.report()
        case "fmt":
            fmt()
        case "lint":
            prerequisites()
            lint()
        case "test":
            return test(rest)
    return 0


if __name__ == "__main__":
    sys.exit(layout.exit_code(main))
