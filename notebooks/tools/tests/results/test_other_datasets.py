"""02a_lazy_join is right on other datasets than the small one."""

from pathlib import Path
from typing import NamedTuple

import oracle
import polars as pl
import pytest
import walkthrough_copy
from polars.testing import assert_frame_equal
from test_oracle import assert_rows_equal

from wearable_jupyter.runner import output_tags
from wearable_jupyter.setup import build


class Dataset(NamedTuple):
    """The generator's options, and the name of the folder of data and outputs."""

    options: tuple[str, ...]
    folder: str


DATASETS = {
    # polars reads `*`, `?` and `[` as a pattern, and `a=b` as a folder of a column.
    "by date": Dataset(("--rows", "50000", "--layout", "by-date"), "a=b [x] *?"),
    "few rows": Dataset(("--rows", "5000"), "few"),
}


class Run(NamedTuple):
    """`data` is a link to the dataset."""

    data: Path
    walkthrough: walkthrough_copy.Walkthrough
    python: dict[str, pl.DataFrame]


@pytest.fixture(scope="module", params=DATASETS)
def run(request, tmp_path_factory):
    """The executed copy, and the frames of its Python code, on a dataset."""
    options, name = DATASETS[request.param]
    folder = tmp_path_factory.mktemp("dataset") / name
    data = folder / "data"
    data.mkdir(parents=True)
    build.run_binary("generate_demo_data", *options, "--output-dir", str(data))
    copy = folder / "walkthrough"
    copy.mkdir()
    walkthrough = walkthrough_copy.run(data, copy, twice=False)
    # DuckDB also reads patterns, so it gets a link with a plain name.
    plain = tmp_path_factory.mktemp("plain")
    python = walkthrough_copy.python_frames(data, plain / "python")
    return Run(plain / "python" / "data", walkthrough, python)


def test_frames_equal_those_of_python(run):
    for name in ("nightly", "joined", "summary", "sorted_out"):
        rust = pl.read_parquet(run.walkthrough.frames / f"{name}.parquet", glob=False)
        order = name not in ("nightly", "joined")
        assert_frame_equal(rust, run.python[name], check_row_order=order, rel_tol=1e-9)


def test_files_and_plans_are_right(run):
    expected = oracle.by_duckdb(run.data, oracle.SUMMARY)
    written = run.walkthrough.outputs / "sleep_hrv_by_group_sink.parquet"
    assert_rows_equal(pl.read_parquet(written, glob=False).rows(), expected, "sink")
    cells = {cell.id: cell for cell in run.walkthrough.result.executed.cells}
    # No column comes from the name of a folder.
    assert "PROJECT 4/14 COLUMNS" in output_tags.stream(cells["explain"], "stdout")
    (schema,) = output_tags.outputs(cells["scan"], "text/plain")
    assert schema.startswith("shape: (14, 2)")
