"""fmt, lint and test: Rust, Python and notebooks together."""

import subprocess
import sys
from pathlib import Path

from . import rust_tests
from .kernel.template import prepare
from .notebook import normal_form
from .notebook.commands import notebooks
from .setup import layout
from .setup.files import write
from .setup.layout import Problem
from .setup.prepare import build_workspace, cargo, prerequisites


def fmt() -> None:
    """Format Rust, Python and notebooks."""
    cargo("fmt", "--all")
    ruff("format")
    ruff("check", "--fix")
    for path in notebooks([]):
        write(path, normal_form.text(path))


def lint() -> None:
    """Check formatting and lints of Rust, Python and notebooks; warnings are errors."""
    prerequisites()
    cargo("fmt", "--all", "--check")
    ruff("format", "--check")
    ruff("check")
    for path in notebooks([]):
        if path.read_text() != normal_form.text(path):
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


def test(options: list[str]) -> int:
    """Linters, Rust's tests and Python's; `options` go to pytest."""
    prepare()
    lint()
    rust_tests.run()
    command = [
        sys.executable,
        "-m",
        "pytest",
        *(options or [str(layout.NOTEBOOKS / "tools" / "tests")]),
    ]
    return subprocess.run(command, cwd=layout.NOTEBOOKS / "tools").returncode
