"""fmt, lint and test: Rust, Python and notebooks together."""

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from . import rust_tests
from .bootstrap import platform
from .bootstrap.command_environment import user_environment
from .exercises import notebooks as exercises
from .kernel.template import prepare
from .runner import clean
from .runner.selection import project_notebooks
from .setup import paths
from .setup.atomic_write import write
from .setup.build import build_workspace, cargo, prerequisites
from .setup.errors import UserError

TOOLS = paths.NOTEBOOKS / "tools"
# A limit for all Python tests together. pyproject.toml has the limit for each.
PYTHON_TESTS_SECONDS = 2 * 60 * 60
# pytest's options that show or read the terminal while a test runs.
TERMINAL_OPTIONS = {"-s", "--capture=no", "--pdb", "--trace"}
# How long an interrupted program has until it is killed.
INTERRUPT_SECONDS = 20

Stages = dict[str, Callable[[], object]]


def run_stages(stages: Stages) -> int:
    """Run all stages, also after a failure; print those that failed and return the exit code."""
    failed = []
    for name, work in stages.items():
        print(f"\n==> {name}", flush=True)
        try:
            work()
        except UserError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            failed.append(name)
    if failed:
        print(f"\nFAILED: {', '.join(failed)} ({len(failed)} of {len(stages)} stages)", flush=True)
        return 1
    print(f"\nAll {len(stages)} stages passed", flush=True)
    return 0


def run_limited(name: str, command: Sequence[str | Path], seconds: float, **options) -> None:
    """Run a program. Kill it and its children after `seconds`, or after an interrupt.

    Raises `UserError` if the program fails or takes longer.
    """
    running = subprocess.Popen(command, start_new_session=True, **options)
    try:
        code = running.wait(seconds)
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"{name} exceeded {seconds:.0f} s and were killed. "
            "To see which tests run at the end: ./justw test --verbose"
        ) from error
    except KeyboardInterrupt:
        # Let pytest print its results so far and end its kernels.
        platform.signal_group(running.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            running.wait(INTERRUPT_SECONDS)
        raise
    finally:
        platform.signal_group(running.pid, signal.SIGKILL)
        running.wait()
    if code != 0:
        raise UserError(f"{name} failed; see above")


def ruff(*arguments: str) -> None:
    """Run ruff on the Python tools."""
    binary = Path(sys.executable).parent / "ruff"
    if subprocess.run([binary, *arguments, "--quiet", TOOLS], cwd=TOOLS).returncode != 0:
        raise UserError("ruff reported errors; see above. Apply its automatic fixes: ./justw fmt")


def format_notebooks() -> None:
    for path in project_notebooks():
        write(path, clean.cleaned(path))


def check_notebooks() -> None:
    """Raise `UserError` if a notebook contains outputs or other traces of a run."""
    names = [
        path.name
        for path in project_notebooks()
        if path.read_bytes() != clean.cleaned(path).encode()
    ]
    if names:
        raise UserError(
            f"These notebooks contain outputs or are not formatted: {', '.join(names)}. "
            "Run: ./justw fmt"
        )


def check_exercises() -> None:
    """Raise `UserError` if an exercise notebook differs from its sources."""
    if names := [path.name for path in exercises.outdated()]:
        raise UserError(
            f"These notebooks differ from their sources in crates/wearable_demo/exercises/: "
            f"{', '.join(names)}. Edit the sources, then run: ./justw exercises --update-notebooks"
        )


def clippy() -> None:
    build_workspace()
    arguments = ("clippy", "--workspace", "--all-targets", "--locked", "--quiet")
    cargo(*arguments, "--", "--deny", "warnings")


def rustdoc() -> None:
    words = ("doc", "--workspace", "--no-deps", "--locked", "--quiet")
    cargo(*words, RUSTDOCFLAGS="--deny warnings")


def run_rust_tests() -> None:
    # Compile first, without a time limit.
    cargo("test", "--workspace", "--locked", "--no-run", "--quiet")
    rust_tests.run()


def run_python_tests(options: list[str]) -> None:
    """Run pytest with two worker processes, or with none if tests use the terminal.

    tests/conftest.py assigns the tests to the workers. `-n 0` in `options` starts no workers.
    """
    workers = () if TERMINAL_OPTIONS.intersection(options) else ("--numprocesses=2",)
    arguments = (*paths.PYTHON_MODULE, "pytest", *workers, *(options or [TOOLS / "tests"]))
    # Workers do not inherit Python's option for UTF-8.
    environment = user_environment() | {"PYTHONUTF8": "1"}
    run_limited("Python tests", arguments, PYTHON_TESTS_SECONDS, cwd=TOOLS, env=environment)


LINTS: Stages = {
    "Toolchain": prerequisites,
    "Format of Rust": lambda: cargo("fmt", "--all", "--check"),
    "Format of Python": lambda: ruff("format", "--check"),
    "Lints of Python": lambda: ruff("check"),
    "Format of notebooks": check_notebooks,
    "Exercise notebooks": check_exercises,
    "Lints of Rust": clippy,
    "Documentation of Rust": rustdoc,
}


def fmt() -> int:
    """Format Rust, Python and notebooks."""
    return run_stages(
        {
            "Rust": lambda: cargo("fmt", "--all"),
            "Python": lambda: ruff("format"),
            "Lints of Python": lambda: ruff("check", "--fix"),
            "Notebooks": format_notebooks,
        }
    )


def lint() -> int:
    """Check formatting and lints of Rust, Python and notebooks; warnings are errors."""
    return run_stages(LINTS)


def test(options: list[str]) -> int:
    """Linters, Rust's tests and Python's; `options` go to pytest."""
    tests = {"Rust tests": run_rust_tests, "Python tests": lambda: run_python_tests(options)}
    return run_stages({"Set-up": prepare} | LINTS | tests)
