"""The statements, outputs and files of 02a_lazy_join are true, and equal those of other engines."""

import math
import re
from html.parser import HTMLParser

import nbformat
import oracle
import polars as pl
import pytest
import walkthrough_copy
from polars.testing import assert_frame_equal
from test_oracle import assert_rows_equal

from wearable_jupyter.bench import measure
from wearable_jupyter.runner import output_tags
from wearable_jupyter.runner.streams import without_colors

SUMMARY_FILES = (
    *("sleep_hrv_by_group.parquet", "sleep_hrv_by_group.csv"),
    "sleep_hrv_by_group_sink.parquet",
)
# Frames whose rows have no defined order.
UNORDERED = ("nightly", "joined", "by_hour")


@pytest.fixture(scope="session")
def cells(walkthrough):
    """The executed cells by id."""
    return {cell.id: cell for cell in walkthrough.result.executed.cells}


def stdout(cell) -> str:
    return output_tags.stream(cell, "stdout")


class Table(HTMLParser):
    """The rows of an HTML table's body."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "tbody":
            self.rows = []
        elif tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.text = ""

    def handle_endtag(self, tag):
        if tag == "td":
            self.rows[-1].append(self.text)

    def handle_data(self, data):
        self.text += data


def table(cell) -> list[list[str]]:
    (text,) = output_tags.outputs(cell, "text/html")
    return Table(text).rows


def rounded(value: object) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def test_all_cells_run_without_stderr(walkthrough):
    code = [cell for cell in walkthrough.result.executed.cells if cell.cell_type == "code"]
    assert len(code) == walkthrough.result.cells
    assert all(cell.execution_count for cell in code)
    assert not any(output_tags.stream(cell, "stderr") for cell in code)


def test_each_cell_can_be_run_again(walkthrough):
    """Cells keep the variables of earlier cells, so a learner can edit any of them."""
    again = [name for name in walkthrough.added if name.endswith("-again")]
    assert len(again) == walkthrough.result.cells - len(walkthrough_copy.ONCE)


def test_files_contain_the_summary(walkthrough, small_data):
    expected = oracle.by_duckdb(small_data, oracle.SUMMARY)
    assert len(expected) == 18
    written = sorted(path.name for path in walkthrough.outputs.iterdir())
    assert written == sorted([*SUMMARY_FILES, "sensor_sample.csv"])
    for name in SUMMARY_FILES:
        read = pl.read_csv if name.endswith("csv") else pl.read_parquet
        assert_rows_equal(read(walkthrough.outputs / name).rows(), expected, name)
        assert f" - {name}\n" in stdout(walkthrough.added["write-again"])


def test_parquet_file_uses_snappy(walkthrough):
    import duckdb

    path = walkthrough.outputs / SUMMARY_FILES[0]
    query = f"select distinct compression from parquet_metadata('{path}')"
    assert duckdb.sql(query).fetchall() == [("SNAPPY",)]


@pytest.fixture(scope="session")
def python_frames(small_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("python") / "notebook"
    return walkthrough_copy.python_frames(small_data, folder)


def test_cells_have_python_code_unless_they_show_something_of_rust_or_this_project():
    notebook = nbformat.read(measure.WALKTHROUGH, as_version=4)
    code = {cell.id for cell in notebook.cells if cell.cell_type == "code"}
    rust, python = measure.same_work(notebook)
    without = {"moved", "physical-plan", "memory", "global-sort-picture", "plotly"}
    assert code - {cell.id for cell in rust} == without
    assert len(python) == len(rust) - 1  # all but data-setup


def test_python_code_defines_the_same_frames_as_rust(python_frames):
    assert python_frames.keys() == {*walkthrough_copy.FRAMES, "bench"}


@pytest.mark.parametrize("name", walkthrough_copy.FRAMES)
def test_rows_of_python_and_rust_are_equal(name, walkthrough, python_frames):
    rust = pl.read_parquet(walkthrough.frames / f"{name}.parquet")
    assert rust.height
    assert_frame_equal(
        rust, python_frames[name], check_row_order=name not in UNORDERED, rel_tol=1e-9
    )


def test_translation_table_is_right(walkthrough):
    notebook = nbformat.read(measure.WALKTHROUGH, as_version=4)
    values = [value for value, _ in walkthrough_copy.translated(notebook)]
    assert len(values) >= 15
    variables: dict[str, object] = {}
    exec("import polars as pl" + walkthrough_copy.EXAMPLE_PYTHON, variables)
    frames = [walkthrough_copy.as_frame(value, variables["lf"]) for value in values]
    assert sum(frame is None for frame in frames) == 1
    for number, expected in enumerate(frames):
        file = walkthrough.frames / f"{number}.parquet"
        assert file.exists() == (expected is not None)
        if expected is not None:
            assert_frame_equal(pl.read_parquet(file), expected, check_row_order=False)
    assert stdout(walkthrough.added["options"]) == "5\n"


def test_cells_have_the_same_plans_as_the_builders(walkthrough):
    lines = stdout(walkthrough.added["builders"]).splitlines()
    assert lines == [f"{name} true" for name in walkthrough_copy.BUILDERS]


def test_edited_night_changes_the_count_in_the_next_cell(walkthrough, cells, small_data):
    ((nights, segments),) = table(cells["nightly"])
    ((_, more_segments),) = table(walkthrough.added["edited-nightly"])
    added = oracle.by_duckdb(
        small_data,
        """select count(*) from sensor_hrv
           where missingness_score <= 0.35 and hour(ts_start) = 21""",
    )
    assert (nights, int(more_segments) - int(segments)) == ("5250", added[0][0]) and added[0][0]


def test_edited_summary_reads_fewer_columns(walkthrough):
    plan = stdout(walkthrough.added["edited-summary"])
    assert "PROJECT 3/14 COLUMNS" in plan and "sdnn" not in plan


def test_moved_variable_fails_and_still_exists(walkthrough, cells):
    (error,) = (o for o in cells["moved"].outputs if o.output_type == "error")
    message = without_colors("\n".join(error.traceback))
    assert "use of moved value: `users`" in message or "borrow of moved value: `users`" in message
    assert not walkthrough.added["moved-repaired"].outputs


def test_tables_show_the_summary(cells, small_data):
    expected = [[rounded(v) for v in row] for row in oracle.summary(small_data)]
    assert table(cells["collect-streaming"]) == expected[:10]
    assert table(cells["sink-check"]) == expected[:5]


def test_printed_counts_match_the_files(cells, small_data):
    counts = [
        int(n.replace(",", "")) for n in re.findall(r"([\d,]+) rows", stdout(cells["data-setup"]))
    ]
    assert counts[-3:] == [150, 150 * 35, 1_000_000]
    for cell in ("collect-streaming", "collect-default"):
        assert "collect: 18 rows in" in stdout(cells[cell])
        assert re.search(r"Result memory: 0\.[1-9] kB", stdout(cells[cell]))
    assert "Rows written: 18" in stdout(cells["sink-check"])
    assert "5250 rows in" in stdout(cells["global-sort"])
    for query in (
        "select count(*) from sleep_diary a join sleep_diary b using (date)",
        "select sum(n * n)::int from (select count(*) n from sleep_diary group by date)",
    ):
        ((pairs,),) = oracle.by_duckdb(small_data, query)
        assert table(cells["many-to-many"]) == [[str(pairs)]]


def test_sql_and_expressions_have_one_plan(cells):
    plans = re.search(
        r"expressions:\n(.*)\n\nSQL:\n(.*)\n\n✓", stdout(cells["same-plan"]), re.DOTALL
    )
    assert plans[1] == plans[2]
    assert "PROJECT 7/14 COLUMNS" in plans[1] and "simple π 6/6" in plans[1]
    assert "SELECTION: " in plans[1] and "FILTER" not in plans[1]


def test_plan_shows_what_its_text_lists(cells):
    plan = stdout(cells["explain"])
    (selection,) = re.findall(r"PROJECT 4/14 COLUMNS\s+SELECTION: (.*)", plan)
    assert "missingness_score" in selection and "hour()" in selection
    assert "FILTER" not in plan and plan.count("AGGREGATE") == 2
    assert plan.count(" INNER JOIN:") == plan.count(" LEFT JOIN:") == 1
    assert not re.search(r"PROJECT \*/", plan)
    # The five aggregations of a night are one in the plan.
    assert len(re.findall(r"alias\(\"n(?:um|ight)_\w+\"\)", plan)) == 1


def test_plan_of_the_sort_shows_what_its_text_lists(walkthrough, cells):
    plan = stdout(cells["global-sort"])
    assert plan.startswith("--- Global sort query plan ---\nSORT BY [")
    assert "PROJECT 7/14 COLUMNS" in plan and "PROJECT */9 COLUMNS" in plan
    # The original's partition sort has the same plan.
    stable = stdout(walkthrough.added["stable-sort"])
    assert plan.partition("\n\n")[0].splitlines()[1:] == stable.splitlines()


@pytest.mark.parametrize("cell", ["physical-plan", "global-sort-picture"])
def test_physical_plan_shows_a_memory_intensive_sort_and_no_fallback(cell, cells):
    (graph,) = output_tags.outputs(cells[cell], "text/plain")
    assert "sort (memory-intensive)" in graph and "(streaming)" in graph
    assert "fallback" not in graph and "in-memory" not in graph


def test_sorted_rows_match_duckdb(walkthrough, small_data):
    expected = oracle.by_duckdb(small_data, oracle.SORTED)
    for name in ("global_sorted", "within_users"):
        rows = pl.read_parquet(walkthrough.frames / f"{name}.parquet").rows()
        assert_rows_equal(rows, expected, name)


def test_night_hours_are_counted_correctly(cells, small_data):
    expected = oracle.by_duckdb(
        small_data,
        """select hour(ts_start) as h, count(*) from sensor_hrv
           where missingness_score <= 0.35 and (h >= 22 or h <= 6) group by h order by h""",
    )
    assert table(cells["night-hours"]) == [[str(v) for v in row] for row in expected]
    # The devices charge from 0 to 6 o'clock.
    charging = sum(n for hour, n in expected if hour < 6)
    assert charging < 0.05 * sum(n for _, n in expected)


def test_correlation_is_close_to_zero(cells, small_data):
    query = "select corr(sleep_efficiency, night_mean_sdnn) from joined"
    ((correlation,),) = oracle.by_duckdb(small_data, query)
    assert abs(correlation) < 0.1
    assert all(abs(float(row[-1])) < 0.2 for row in table(cells["collect-streaming"]))


def test_csv_without_a_schema_has_text_for_times(cells):
    assert stdout(cells["csv"]).splitlines() == [
        "ts_start is guessed as str",
        "ts_start is read as datetime[μs] with the schema",
    ]


def test_bar_chart_shows_the_measured_seconds(cells):
    (chart,) = output_tags.outputs(cells["bar-chart"], output_tags.CHART)
    (bars,) = chart["data"]
    assert bars["type"] == "bar" and bars["x"] == ["streaming", "default"]
    assert chart["layout"]["title"]["text"] == "Streaming vs Default"
    assert chart["layout"]["yaxis"]["title"]["text"] == "Execution time (s)"


def test_printed_seconds_are_those_of_the_bars(walkthrough):
    """Both cells ran a second time before the chart's second run."""
    added = walkthrough.added
    (chart,) = output_tags.outputs(added["bar-chart-again"], output_tags.CHART)
    bars = zip(chart["data"][0]["y"], ("collect-streaming", "collect-default"), strict=True)
    for seconds, cell in bars:
        assert f"in {seconds:.3f} s" in stdout(added[f"{cell}-again"])


def test_scatter_shows_2000_nights_of_the_joined_table(cells, small_data):
    (chart,) = output_tags.outputs(cells["scatter"], output_tags.CHART)
    layout = chart["layout"]
    assert layout["title"]["text"] == "Sleep Quality vs HRV (sample of 2000 nights)"
    assert layout["xaxis"]["title"]["text"] == "Sleep Efficiency (%)"
    assert layout["yaxis"]["title"]["text"] == "Nighttime HRV SDNN (ms)"
    assert layout["legend"]["title"]["text"] == "gender"
    nights: dict[tuple, list[float]] = {}
    for efficiency, sdnn, occupation, gender in oracle.by_duckdb(
        small_data, "select sleep_efficiency, night_mean_sdnn, occupation, gender from joined"
    ):
        nights.setdefault((efficiency, f"{occupation}, {gender}"), []).append(sdnn)
    points = 0
    assert [trace["name"] for trace in chart["data"]] == ["Female", "Male", "Non-binary"]
    for trace in chart["data"]:
        assert trace["marker"]["opacity"] == 0.3
        for x, y, text in zip(trace["x"], trace["y"], trace["text"], strict=True):
            assert text.endswith(f", {trace['name']}")
            assert any(math.isclose(y, sdnn, rel_tol=1e-9) for sdnn in nights[x, text])
            points += 1
    assert points == 2000
    template = chart["data"][0]["hovertemplate"]
    assert all(part in template for part in ("%{text}", "%{x}", "%{y", "sleep_efficiency"))
    # "Many points are on the line at 100 %."
    values = [x for trace in chart["data"] for x in trace["x"]]
    assert 0.3 < values.count(100.0) / len(values) < 0.7


def test_plotly_cell_changes_only_the_axis(cells):
    (before,), (after,) = (
        output_tags.outputs(cells[cell], output_tags.CHART) for cell in ("scatter", "plotly")
    )
    assert before["data"] == after["data"]
    (low, high) = after["layout"]["xaxis"]["range"]
    values = [x for trace in after["data"] for x in trace["x"]]
    assert low > 0 and high > max(values) and "range" not in before["layout"]["xaxis"]
