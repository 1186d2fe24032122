"""A copy of 02a_lazy_join with additional cells, so that one run serves many tests."""

import os
import re
from pathlib import Path
from typing import NamedTuple

import nbformat
import polars as pl
import pytest

from wearable_jupyter.bench.measure import WALKTHROUGH, same_work
from wearable_jupyter.runner import strict_run
from wearable_jupyter.setup import paths

# Names of frames that the Python code and the Rust cells of the notebook both define.
FRAMES = (
    *("users", "sleep_diary", "sensor_raw", "sensor_expr", "sensor_sql", "sensor"),
    *("sensor_keyed", "night_segments", "nightly", "joined", "summary"),
    *("out_streaming", "out_default", "result", "global_sorted", "sorted_out", "within_users"),
    *("pairs", "sample", "by_hour", "sensor_csv"),
)
# Variables of the notebook, each with the library's builder for the same step.
BUILDERS = {
    "sensor_expr": "query::quality_filter(&sensor_raw)",
    "sensor_sql": "query::quality_filter_sql(&sensor_raw)?",
    "sensor_keyed": "query::with_keys(&sensor)",
    "night_segments": "query::night_segments(&sensor_keyed)",
    "nightly": "query::nightly(&night_segments)",
    "joined": "query::joined(&sleep_diary, &nightly, &users)",
    "summary": "query::summary(&joined)",
    "global_sorted": "query::global_sort(&joined)",
    "within_users": "query::sort_within_users(&joined)",
}
# Cells that are not run twice: the first would load the library again, the others are slow or fail.
ONCE = ("load-library", "memory", "moved")
# The frames of the translation table's examples, in Python and in Rust.
EXAMPLE_PYTHON = """
lf = pl.LazyFrame({"x": [1, 2, 3], "y": [0, 2, 4]}).with_columns(t=pl.col("x").cast(pl.Datetime))
other = pl.LazyFrame({"x": [1, 3], "z": [10, 30]})
a, b = pl.col("x") > 1, pl.col("y") > 2
"""
EXAMPLE_RUST = """
let time = col("x").cast(DataType::Datetime(TimeUnit::Microseconds, None)).alias("t");
let lf = df!["x" => [1i64, 2, 3], "y" => [0i64, 2, 4]]?.lazy().with_columns([time]);
let other = df!["x" => [1i64, 3], "z" => [10i64, 30]]?.lazy();
let (a, b) = (col("x").gt(lit(1)), col("y").gt(lit(2)));
"""


class Walkthrough(NamedTuple):
    """An executed copy of 02a_lazy_join.

    `result` is the run's, with the notebook's own cells. `outputs` is the directory of the files
    that the cells wrote, and `frames` has a Parquet file for each frame. `added` has the executed
    additional cells by id.
    """

    result: strict_run.Result
    outputs: Path
    frames: Path
    added: dict[str, nbformat.NotebookNode]


def text(notebook: nbformat.NotebookNode) -> str:
    """All Markdown of a notebook."""
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def translations(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """The rows of the table from Python to Rust."""
    (table,) = re.findall(r"\| polars in Python .*?\n\n", text(notebook) + "\n\n", re.DOTALL)
    rows = [
        re.fullmatch(r"\| `(.+)` \| `(.+)` \|", line) for line in table.splitlines()[2:] if line
    ]
    return [(row[1].replace(r"\|", "|"), row[2].replace(r"\|", "|")) for row in rows]


def translated(notebook: nbformat.NotebookNode) -> list[tuple[object, str]]:
    """For each row of the table, the value of its Python code, and its Rust code."""
    variables: dict[str, object] = {}
    exec("import polars as pl" + EXAMPLE_PYTHON, variables)
    return [(eval(python, variables), rust) for python, rust in translations(notebook)]


def as_frame(value: object, lf: pl.LazyFrame) -> pl.DataFrame | None:
    """The rows of an example's value, or None if it has no rows."""
    if isinstance(value, pl.Expr):
        value = lf.select(value.alias("value"))
    return value.lazy().collect() if isinstance(value, pl.LazyFrame | pl.DataFrame) else None


def rust_example(number: int, value: object, code: str) -> str:
    """Rust code that runs an example and writes its rows into a file."""
    frame = {
        pl.Expr: f'lf.select([({code}).alias("value")])',
        pl.LazyFrame: code,
        pl.DataFrame: f"{code}.lazy()",
    }.get(type(value))
    write = f'write_parquet(&frame.collect()?, &folder.join("{number}.parquet"))?;'
    run = f"let _ = {code};" if frame is None else f"let frame = {frame}; {write}"
    clones = "let (lf, other, a, b) = (lf.clone(), other.clone(), a.clone(), b.clone());"
    return f"{{ {clones} let _ = (&lf, &other, &a, &b); {run} }}"


def additional_cells(notebook: nbformat.NotebookNode, frames: Path) -> dict[str, str]:
    """Sources of cells to run after those of the notebook."""
    source = {cell.id: cell.source for cell in notebook.cells}
    folder = f'let folder = std::path::PathBuf::from("{frames}");\n'
    (options,) = re.findall(r"```rust\n(.*?)\n```", text(notebook), re.DOTALL)
    without = [line for line in source["summary"].splitlines() if 'sdnn")' not in line]
    examples = enumerate(translated(notebook))
    return {
        "builders": "\n".join(
            f'println!("{name} {{}}", {name}.explain(false)? == {builder}.explain(false)?);'
            for name, builder in BUILDERS.items()
        ),
        "frames": folder
        + "\n".join(
            f'write_parquet(&{name}.clone().lazy().collect()?, &folder.join("{name}.parquet"))?;'
            for name in FRAMES
        ),
        "examples": folder
        + EXAMPLE_RUST
        + "\n".join(rust_example(number, *example) for number, example in examples),
        "options": f'let file = data.join("user_profile.parquet");\nlet five = {options};\n'
        'println!("{}", five.collect()?.height());',
        "stable-sort": "let order = order.clone().with_maintain_order(true);\n"
        'println!("{}", joined.clone().sort(["user_id", "date"], order).explain(true)?);',
        "moved-repaired": source["moved"].replace("users.filter", "users.clone().filter"),
        "edited-summary": "\n".join(without) + '\nprintln!("{}", summary.explain(true)?);',
        "edited-night-segments": source["night-segments"].replace("lit(22)", "lit(21)"),
        "edited-nightly": source["nightly"],
    }


def run(data: Path, folder: Path, *, twice: bool = True) -> Walkthrough:
    """Run the copy strictly on the dataset in `data`, and most cells twice.

    With `twice=False`, each cell runs once. The slow memory measurement and all additional cells
    but `frames` are left out.
    """
    notebook = nbformat.read(WALKTHROUGH, as_version=4)
    if not twice:
        notebook.cells = [cell for cell in notebook.cells if cell.id != "memory"]
    own = {cell.id for cell in notebook.cells}
    outputs, frames = folder / "outputs", folder / "frames"
    frames.mkdir()
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if twice and cell.cell_type == "code" and cell.id not in ONCE:
            cells.append(nbformat.v4.new_code_cell(cell.source, id=f"{cell.id}-again"))
    for name, source in additional_cells(notebook, frames).items():
        if twice or name == "frames":
            cells.append(nbformat.v4.new_code_cell(source, id=name))
    copy = folder / WALKTHROUGH.name
    notebook.cells = cells
    nbformat.write(notebook, copy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEARABLE_DATA_DIR", str(data))
        patch.setenv("WEARABLE_OUTPUT_DIR", str(outputs))
        result = strict_run.run(copy, working_directory=paths.NOTEBOOKS)
    assert result.failure is None, result.failure
    executed = result.executed.cells
    result.notebook = WALKTHROUGH
    result.executed.cells = [cell for cell in executed if cell.id in own]
    result.cells = sum(cell.cell_type == "code" for cell in result.executed.cells)
    added = {cell.id: cell for cell in executed if cell.id not in own}
    return Walkthrough(result, outputs, frames, added)


def python_frames(data: Path, folder: Path) -> dict[str, pl.DataFrame]:
    """The frames that the notebook's Python code defines, on the dataset in `data`."""
    folder.mkdir()
    (folder / "data").symlink_to(data)
    (folder / "outputs").mkdir()
    before, variables = os.getcwd(), {}
    os.chdir(folder)
    try:
        for code in same_work(nbformat.read(WALKTHROUGH, as_version=4))[1]:
            exec(code, variables)
        return {
            name: value.lazy().collect()
            for name, value in variables.items()
            if isinstance(value, pl.LazyFrame | pl.DataFrame)
        }
    finally:
        os.chdir(before)
