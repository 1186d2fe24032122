"""Other engines read the generated files with the same schema, values and statistics."""

import datetime as dt
import json
import subprocess
from pathlib import Path

import duckdb
import polars as pl
import pytest

from wearable_jupyter.setup.build import run_binary
from wearable_jupyter.setup.venvs import ensure_venv

HERE = Path(__file__).parent
ROWS, ROW_GROUP_ROWS = 60_000, 7_000
TYPES = {
    "device_id": (pl.String, "VARCHAR", "string"),
    "ts_start": (pl.Datetime("us"), "TIMESTAMP", "timestamp[us]"),
    "ts_end": (pl.Datetime("us"), "TIMESTAMP", "timestamp[us]"),
    "heart_rate": (pl.Int64, "BIGINT", "int64"),
    "hrv_sdnn": (pl.Float64, "DOUBLE", "double"),
    "hrv_rmssd": (pl.Float64, "DOUBLE", "double"),
    "hrv_lf_hf_ratio": (pl.Float64, "DOUBLE", "double"),
    "bvp_mean": (pl.Float64, "DOUBLE", "double"),
    "spo2": (pl.Float64, "DOUBLE", "double"),
    "eda_mean": (pl.Float64, "DOUBLE", "double"),
    "skin_temp": (pl.Float64, "DOUBLE", "double"),
    "acc_magnitude": (pl.Float64, "DOUBLE", "double"),
    "steps": (pl.Int64, "BIGINT", "int64"),
    "missingness_score": (pl.Float64, "DOUBLE", "double"),
}
# Runs in pyarrow's own virtual environment. Checks the statistics, and prints each file's content.
PYARROW = """
import json, sys
import pyarrow.parquet as pq
files = []
for path in sys.argv[1:]:
    file = pq.ParquetFile(path)
    groups = []
    for number in range(file.num_row_groups):
        metadata, rows = file.metadata.row_group(number), file.read_row_group(number)
        for index, name in enumerate(rows.column_names):
            column, statistics = metadata.column(index), metadata.column(index).statistics
            values = rows[name].to_pylist()
            assert (statistics.min, statistics.max) == (min(values), max(values)), (path, name)
            assert statistics.null_count == 0 and rows[name].null_count == 0
            assert column.compression == "SNAPPY" and column.has_dictionary_page
        groups.append(metadata.num_rows)
    table = file.read()
    types = {field.name: str(field.type) for field in table.schema}
    values = {n: [str(v) for v in table[n].to_pylist()] for n in table.column_names}
    files.append({"types": types, "groups": groups, "values": values})
json.dump(files, sys.stdout)
"""


@pytest.fixture(scope="module", params=["unsorted", "by-device", "by-date"])
def files(request, tmp_path_factory):
    """Sorted paths of a dataset's sensor files, for each layout."""
    folder = tmp_path_factory.mktemp(request.param)
    run_binary(
        "generate_demo_data",
        *("--quiet", "--rows", str(ROWS), "--chunk-rows", "25000"),
        *("--row-group-rows", str(ROW_GROUP_ROWS), "--layout", request.param),
        *("--output-dir", str(folder)),
    )
    return sorted((folder / "sensor_hrv").rglob("*.parquet"))


def test_three_engines_read_the_same_values(files):
    by_polars = [pl.read_parquet(path, hive_partitioning=False) for path in files]
    assert sum(frame.height for frame in by_polars) == ROWS
    python = ensure_venv("readers", HERE / "readers.txt") / "python"
    result = subprocess.run([python, "-c", PYARROW, *files], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for path, frame, by_pyarrow in zip(files, by_polars, json.loads(result.stdout), strict=True):
        assert dict(frame.schema) == {name: kinds[0] for name, kinds in TYPES.items()}
        relation = duckdb.sql(f"SELECT * FROM read_parquet('{path}', hive_partitioning = false)")
        assert dict(zip(relation.columns, map(str, relation.types), strict=True)) == {
            name: kinds[1] for name, kinds in TYPES.items()
        }
        assert frame.rows() == relation.fetchall()
        # polars writes strings as string_view, which pyarrow reports as another type.
        arrow_types = {n: kind.replace("_view", "") for n, kind in by_pyarrow["types"].items()}
        assert arrow_types == {name: kinds[2] for name, kinds in TYPES.items()}
        assert sum(by_pyarrow["groups"]) == frame.height
        assert all(rows == ROW_GROUP_ROWS for rows in by_pyarrow["groups"][:-1])
        for name, values in by_pyarrow["values"].items():
            assert values == [str(value) for value in frame[name].to_list()], (path, name)


def test_floats_have_the_documented_decimals(files):
    """Each float is the nearest one to its decimal value."""
    frame = pl.concat(pl.read_parquet(path, hive_partitioning=False) for path in files)
    places = {"spo2": 1, "skin_temp": 1, "hrv_sdnn": 2, "hrv_rmssd": 2}
    for name, (kind, *_) in TYPES.items():
        if kind == pl.Float64:
            decimals = places.get(name, 3)
            assert all(float(f"{x:.{decimals}f}") == x for x in frame[name].unique()), name
    assert (frame["ts_end"] - frame["ts_start"]).unique().to_list() == [dt.timedelta(minutes=5)]
