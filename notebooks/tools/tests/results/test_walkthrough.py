"""Outputs and files of 02a_lazy_join equal the results of other engines."""

import math
import re
from html.parser import HTMLParser

import oracle
import polars as pl
import pytest
from test_oracle import assert_rows_equal

from wearable_jupyter.runner import output_tags

FILES = ("sleep_hrv_by_group.parquet", "sleep_hrv_by_group.csv", "sleep_hrv_by_group_sink.parquet")


@pytest.fixture(scope="session")
def cells(walkthrough):
    """The executed cells by id."""
    return {cell.id: cell for cell in walkthrough[0].executed.cells}


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
    result, _ = walkthrough
    code = [cell for cell in result.executed.cells if cell.cell_type == "code"]
    assert len(code) == result.cells > 30
    assert all(cell.execution_count for cell in code)
    assert not any(output_tags.stream(cell, "stderr") for cell in code)


def test_files_contain_the_summary(walkthrough, small_data):
    _, outputs = walkthrough
    expected = oracle.by_duckdb(small_data, oracle.SUMMARY)
    assert len(expected) == 18
    assert sorted(p.name for p in outputs.iterdir()) == sorted(FILES)
    for name in FILES:
        read = pl.read_csv if name.endswith("csv") else pl.read_parquet
        assert_rows_equal(read(outputs / name).rows(), expected, name)


@pytest.mark.parametrize("file", [FILES[0], FILES[2]])
def test_parquet_files_use_snappy(walkthrough, file):
    import duckdb

    path = walkthrough[1] / file
    query = f"select distinct compression from parquet_metadata('{path}')"
    assert duckdb.sql(query).fetchall() == [("SNAPPY",)]


def test_tables_show_the_summary(cells, small_data):
    expected = [[rounded(v) for v in row] for row in oracle.summary(small_data)]
    assert table(cells["collect-streaming"]) == expected[:10]
    assert table(cells["sink-check"]) == expected[:5]


def test_printed_row_counts_match_the_files(cells, small_data):
    guard = [int(n) for n in re.findall(r"(\d+) rows", stdout(cells["guard"]))]
    assert guard == [150, 150 * 35, 1_000_000]
    (kept,) = oracle.by_duckdb(
        small_data, "select count(*) from sensor_hrv where missingness_score <= 0.35"
    )[0]
    assert f"both give the same {kept} rows" in stdout(cells["same-plan"])
    assert "Rows written: 18" in stdout(cells["sink-check"])
    ((pairs,),) = oracle.by_duckdb(
        small_data, "select count(*) from sleep_diary a join sleep_diary b using (date)"
    )
    assert f"on either side give {pairs} rows" in stdout(cells["many-to-many"])
    for cell in ("global-sort", "sort-within"):
        assert "5250 rows, a result of" in stdout(cells[cell])


def test_night_hours_are_counted_correctly(cells, small_data):
    expected = oracle.by_duckdb(
        small_data,
        """select hour(ts_start) as h, count(*) from sensor_hrv
           where missingness_score <= 0.35 and (h >= 22 or h <= 6) group by h order by h""",
    )
    assert table(cells["night-hours"]) == [[str(v) for v in row] for row in expected]
    charging = sum(n for hour, n in expected if hour < 6) / sum(n for _, n in expected)
    assert f"hold {100 * charging:.1f} % of" in stdout(cells["night-hours"])


def test_correlation_matches_duckdb(cells, small_data):
    ((expected,),) = oracle.by_duckdb(
        small_data, "select corr(sleep_efficiency, night_mean_sdnn) from joined"
    )
    assert f"is {expected:.3f}, close to zero" in stdout(cells["correlation"])


def test_bar_chart_shows_the_measured_seconds(cells):
    (chart,) = output_tags.outputs(cells["bar-chart"], output_tags.CHART)
    (bars,) = chart["data"]
    assert bars["type"] == "bar" and bars["x"] == ["streaming", "default"]
    assert chart["layout"]["title"]["text"] == "Streaming vs Default"
    assert chart["layout"]["yaxis"]["title"]["text"] == "≈ Execution time (s)"
    for seconds, cell in zip(bars["y"], ("collect-streaming", "collect-default"), strict=True):
        assert f"≈ {seconds:.3f} s" in stdout(cells[cell])


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


def test_shown_sources_equal_the_compiled_file(cells):
    from wearable_jupyter.setup import paths

    query = (paths.ROOT / "crates/wearable_demo/src/query.rs").read_text()
    for cell in ("filter-expression", "keys", "night-segments", "nightly", "joined", "summary"):
        (text,) = output_tags.outputs(cells[cell], "text/markdown")
        assert text.removeprefix("```rust\n").removesuffix("\n```") in query
