"""The recorded runs of 03_beyond_one_machine are real, and its statements about them are true."""

import csv
import re
import shutil

import nbformat
import oracle
import polars as pl
import pytest
from test_oracle import assert_rows_equal

from wearable_jupyter.cluster import commands
from wearable_jupyter.export import charts
from wearable_jupyter.runner import output_tags, strict_run
from wearable_jupyter.setup import paths

NOTEBOOK = paths.NOTEBOOKS / "03_beyond_one_machine.ipynb"
RUNS = ("sail", "spark", "spark-lost-worker")


def table(name: str) -> list[dict[str, str]]:
    """A recorded CSV file, one dictionary per row."""
    with (commands.RECORDED_RUNS / name).open(newline="") as file:
        return list(csv.DictReader(file))


def complete(run: str) -> list[dict[str, str]]:
    return [row for row in table(f"{run}/stages.csv") if row["status"] == "COMPLETE"]


@pytest.mark.parametrize("run", RUNS)
def test_recorded_rows_are_those_of_polars_and_duckdb(run, small_data):
    rows = pl.read_parquet(commands.RECORDED_RUNS / run / "summary.parquet").rows()
    assert_rows_equal(rows, oracle.summary(small_data), run)
    assert_rows_equal(rows, oracle.by_duckdb(small_data, oracle.SUMMARY), run)


@pytest.mark.parametrize("run", RUNS)
def test_recorded_run_has_a_time_a_plan_and_no_path_of_the_machine(run):
    folder = commands.RECORDED_RUNS / run
    (row,) = table(f"{run}/run.csv")
    assert float(row["seconds"]) > 0 and row["data"] == "data"
    assert "== Physical Plan ==" in (folder / "plan.txt").read_text()
    for name in ("run.csv", "stages.csv", "plan.txt"):
        assert not re.search(r"(?<![\w.])/(tmp|home|root|work)\b", (folder / name).read_text())


def test_python_code_gives_the_same_rows(small_data):
    text = "\n".join(cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells)
    (code,) = re.findall(r"<summary>Python</summary>\n\n```python\n(.*?)\n```", text, re.DOTALL)
    variables = {
        "pl": pl,
        "sensor": pl.scan_parquet(small_data / "sensor_hrv" / "**" / "*.parquet"),
        "sleep_diary": pl.scan_parquet(small_data / "sleep_diary.parquet"),
        "users": pl.scan_parquet(small_data / "user_profile.parquet"),
        "summary_sql": commands.SQL.read_text(),
    }
    exec(code, variables)
    assert_rows_equal(variables["by_sql"].rows(), oracle.summary(small_data), "Python code")


def test_recorded_exchange_has_a_row_for_each_task_and_group(small_data):
    ((groups,),) = oracle.by_duckdb(small_data, "select count(*) from nightly")
    (scan,) = [row for row in complete("spark") if row["input_records"] == "1000000"]
    assert int(scan["shuffle_write_records"]) == int(scan["num_tasks"]) * groups == 10_500


def test_recorded_loss_repeats_a_stage_of_40_tasks():
    (run,) = table("spark-lost-worker/run.csv")
    assert run["lost_workers"] == "1"
    repeated = [row for row in complete("spark-lost-worker") if row["num_tasks"] == "40"]
    assert [row["input_records"] for row in repeated] == ["1000000", "1000000"]


def test_recorded_measurement_shows_the_price_of_spark():
    scale = table("scale.csv")
    seconds = {(r["engine"], r["workers"], r["rows"]): float(r["seconds"]) for r in scale}
    for rows in {row["rows"] for row in scale}:
        spark = [s for (engine, _, n), s in seconds.items() if engine == "spark" and n == rows]
        assert len(spark) == 3
        assert seconds["polars", "1", rows] < min(spark)


@pytest.fixture(scope="module")
def cells(small_data, tmp_path_factory):
    """The executed cells by id; a run of Spark is in the outputs before."""
    outputs = tmp_path_factory.mktemp("cluster") / "outputs"
    shutil.copytree(commands.RECORDED_RUNS / "spark", outputs / "cluster" / "spark")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEARABLE_DATA_DIR", str(small_data))
        patch.setenv("WEARABLE_OUTPUT_DIR", str(outputs))
        result = strict_run.run(NOTEBOOK)
    assert result.failure is None, result.failure
    return {cell.id: cell for cell in result.executed.cells}


def stdout(cells, name: str) -> str:
    return output_tags.stream(cells[name], "stdout")


def test_recorded_and_own_runs_equal_polars_in_the_notebook(cells):
    assert stdout(cells, "runs").count("the rows of polars: true") == 2
    assert "the rows of polars: true" in stdout(cells, "lost-worker")
    sail, spark = stdout(cells, "own-run").splitlines()
    assert sail == "sail: no run of your own"
    assert re.fullmatch(r"spark: your run took [\d.]+ s, the rows of polars: true", spark)


def test_picture_has_the_stages_that_its_text_lists(cells):
    (picture,) = output_tags.outputs(cells["stages"], "text/html")
    for part in (
        *("scan sleep_diary", "scan user_profile", "scan sensor_hrv"),
        *("partial aggregation by user_id, date", "final aggregation by user_id, date"),
        "⇄ broadcast to all workers",
    ):
        assert part in picture, part
    assert picture.count("⇄ broadcast to all workers") >= 2


def test_partial_aggregation_sends_at_most_one_row_per_file_and_group(cells, small_data):
    ((segments, groups),) = oracle.by_duckdb(
        small_data, "select sum(num_segments)::bigint, count(*) from nightly"
    )
    files = len(list((small_data / "sensor_hrv").rglob("*.parquet")))
    first, second = stdout(cells, "partial").splitlines()
    assert first == f"{segments} night segments, {groups} groups"
    sent = int(second.split()[0])
    assert groups < sent <= files * groups < segments


def test_chart_shows_the_recorded_seconds(cells):
    (chart,) = output_tags.outputs(cells["scale-chart"], charts.MIME)
    recorded = table("scale.csv")
    assert {trace["name"] for trace in chart["data"]} == {"polars", "sail", "spark"}
    for trace in chart["data"]:
        rows = [r for r in recorded if r["engine"] == trace["name"] and r["workers"] == "1"]
        assert trace["y"] == [float(row["seconds"]) for row in rows]


def test_estimate_exchanges_less_than_it_reads(cells):
    lines = "".join(output_tags.outputs(cells["on-paper"], "text/plain")).splitlines()
    names, rows = lines[0].split(), [line.split() for line in lines[1:5]]
    estimate = [dict(zip(names, map(float, row), strict=True)) for row in rows]
    assert [row["rows"] for row in estimate] == [1e6, 1e8, 1e10, 1e12]
    assert all(row["shuffled_gigabytes"] < row["gigabytes"] for row in estimate)
