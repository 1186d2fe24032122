"""A new kernel runs two cells: set-up and the doctor end with this.

Everything may be installed and compiled, and still no kernel starts, or a kernel that does not
report failing cells. So one cell must pass and one must fail, in the strict runner.
"""

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
    """Start a kernel and run both cells. Raises `UserError` unless they end as they must."""
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": KERNELSPEC})
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in (PASSES, FAILS)]
    with tempfile.TemporaryDirectory(prefix="smoke-") as folder:
        path = Path(folder) / "smoke.ipynb"
        nbformat.write(notebook, path)
        result = strict_run.run(path, cell_seconds=CELL_SECONDS)
    fault = judge(result)
    if fault is not None:
        raise UserError(f"a new kernel does not work: {fault}")


def judge(result: strict_run.Result) -> str | None:
    """What is wrong with the run, None if the first cell passed and the second one failed."""
    others = [reason for index, reason in result.failures.items() if index != 1]
    if others:
        return others[0]
    printed = "".join(
        output.text for output in result.executed.cells[0].outputs if output.output_type == "stream"
    )
    if printed.strip() != "42":
        return f"a cell that prints 42 printed {printed!r}"
    if "a cell that must fail" not in result.failures.get(1, ""):
        found = result.failures.get(1, "it passed")
        return f"a cell that panics was not reported with its message: {found}"
    return None
