"""A smoke test: a new kernel runs two cells, at the end of setup and of the doctor.

A kernel may fail to start, or to report failing cells, although everything is compiled. So one cell
must pass and one must fail in the strict runner.
"""

import shlex
import tempfile
from pathlib import Path

import nbformat

from ..setup import paths
from ..setup.errors import UserError
from . import strict_run
from .clean import KERNELSPEC

CELL_SECONDS = 120
PASSES = f"""\
:dep {paths.CRATE} = {{ path = {paths.toml_string(paths.LIBRARY)} }}
use {paths.CRATE}::prelude::*;
println!("{{}}", 40 + 2);
"""
FAILS = 'panic!("a cell that must fail");'


def check_kernel() -> None:
    """Run both cells in a new kernel. Raises `UserError` unless one passes and one fails."""
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": KERNELSPEC})
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in (PASSES, FAILS)]
    with tempfile.TemporaryDirectory(prefix="smoke-") as folder:
        path = Path(folder) / "smoke.ipynb"
        nbformat.write(notebook, path)
        result = strict_run.run(path, cell_seconds=CELL_SECONDS)
    fault = find_fault(result)
    if fault is not None:
        fix = f"rm -rf {shlex.quote(str(paths.TEMPLATE))} && ./justw setup"
        raise UserError(f"a new kernel does not work: {fault}. Run: {fix}")


def find_fault(result: strict_run.Result) -> str | None:
    """The fault of the run, or None if the first cell passed and the second one failed."""
    others = [reason for index, reason in result.failures.items() if index != 1]
    if others:
        return others[0]
    printed = "".join(
        output.text for output in result.executed.cells[0].outputs if output.output_type == "stream"
    )
    if printed.strip() != "42":
        return f"a cell that prints 42 printed {printed!r}"
    if "a cell that must fail" not in result.failures.get(1, ""):
        outcome = result.failures.get(1, "it passed")
        return f"a cell that panics was not reported with its message: {outcome}"
    return None
