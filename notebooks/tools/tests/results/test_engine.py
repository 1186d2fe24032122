"""The statements of 02b_what_the_engine_does are true, and its Python code gives the same results.

One run of a copy serves all tests. The copy has additional cells for statements in the text that
no cell of the notebook shows.
"""

import os
import re

import nbformat
import oracle
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from wearable_jupyter.export import charts
from wearable_jupyter.runner import output_tags, strict_run
from wearable_jupyter.setup import paths

NOTEBOOK = paths.NOTEBOOKS / "02b_what_the_engine_does.ipynb"
PYTHON = re.compile(
    r"<details><summary>Python</summary>\n\n```python\n(.*?)\n```\n\n</details>", re.DOTALL
)
# Cells that are not run twice: the first would load the library again, the others are slow.
ONCE = ("load-library", "early-late", "two-orders", "growth", "limited")
ADDED = {
    # "… keeps all rows."
    "sql-subquery": """
        let kept = context.execute(
            "SELECT diary.user_id, older.age FROM diary
             LEFT JOIN (SELECT * FROM users WHERE age >= 40) AS older
             ON diary.user_id = older.user_id",
        )?;
        println!("{} rows", kept.collect()?.height());
    """,
    # The night filter is in the scan if `nightly` runs alone.
    "alone": """println!("{}", nightly.explain(true)?);""",
    # "both go to the same folder, and rows are lost"
    "null-folder": """
        let country = [Some("NO"), None, Some("__HIVE_DEFAULT_PARTITION__")];
        let rows = df!["n" => [1, 2, 3], "country" => country]?.lazy();
        let refused = sink_partitioned(&rows, &paths.output("refused")?, "country").is_err();
        println!("refused: {refused}");
        let keys = vec![col("country")];
        let destination = SinkDestination::Partitioned {
            base_path: PlRefPath::try_from_path(&paths.output("by_country")?)?,
            file_path_provider: None,
            partition_strategy: PartitionStrategy::Keyed {
                keys, include_keys: false, keys_pre_grouped: false,
            },
            max_rows_per_file: IdxSize::MAX,
            approximate_bytes_per_file: u64::MAX,
        };
        let format = FileWriteFormat::Parquet(Arc::new(ParquetWriteOptions::default()));
        let options = UnifiedSinkArgs { mkdir: true, ..Default::default() };
        rows.sink(destination, format, options)?.collect_with_engine(Engine::Streaming)?;
        println!("{} rows", scan(&paths.output("by_country")?)?.collect()?.height());
    """,
    # "Which file skips row groups now?"
    "your-turn": """
        for table in [&by_device, &by_time] {
            let one = table.clone().filter(col("device_id").eq(lit("DEV-00012")));
            println!("{:?}", profile(&one, Engine::Streaming)?.row_groups().unwrap_or_default());
        }
    """,
    # "If you need the order, set `maintain_order`"
    "maintain-order": """
        let numbered = sensor.clone().with_row_index("row", None);
        let mut keep = JoinArgs::new(JoinType::Left);
        keep.maintain_order = MaintainOrderJoin::Left;
        let joined = numbered.join(devices.clone(), [col("device_id")], [col("device_id")], keep);
        let rows = joined.collect_with_engine(Engine::Streaming)?.unwrap_single();
        let sorted = rows.column("row")?.as_materialized_series().is_sorted(Default::default())?;
        println!("sorted: {sorted}");
    """,
    # "A duplicate key is then an error"
    "validate": """
        let mut unique = JoinArgs::new(JoinType::Inner);
        unique.validation = JoinValidation::ManyToOne;
        let checked = sleep_diary.clone().join(sleep_diary.clone(), &date, &date, unique);
        println!("{}", checked.collect().unwrap_err());
    """,
    # "sort + limit becomes the node `bottom-k`"
    "bottom-k": """
        let sorted = sensor.clone().sort(["ts_start"], SortMultipleOptions::default());
        println!("{}", physical_graph(&sorted.limit(10))?.named("bottom-k").count());
    """,
    "rows": """
        write_parquet(&per_segment.frame, &paths.output("early.parquet")?)?;
        write_parquet(&per_group.frame, &paths.output("late.parquet")?)?;
    """,
}


def twice(cell: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """A cell and a copy of it, because learners run cells again."""
    if cell.cell_type == "markdown" or cell.id in ONCE:
        return [cell]
    return [cell, nbformat.v4.new_code_cell(cell.source, id=f"{cell.id}-again")]


@pytest.fixture(scope="module")
def run(small_data, tmp_path_factory):
    """The executed cells by id, and the directory of the files that they wrote."""
    folder = tmp_path_factory.mktemp("engine")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells = [copy for cell in notebook.cells for copy in twice(cell)]
    for name, source in ADDED.items():
        notebook.cells.append(nbformat.v4.new_code_cell(source, id=name))
    copy = folder / NOTEBOOK.name
    nbformat.write(notebook, copy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEARABLE_DATA_DIR", str(small_data))
        patch.setenv("WEARABLE_OUTPUT_DIR", str(folder / "outputs"))
        result = strict_run.run(copy, working_directory=paths.NOTEBOOKS)
    assert result.failure is None, result.failure
    return {cell.id: cell for cell in result.executed.cells}, folder / "outputs"


@pytest.fixture(scope="module")
def cells(run):
    return run[0]


def stdout(cells, name: str) -> str:
    return output_tags.stream(cells[name], "stdout")


def numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text.replace(",", ""))]


def profile_rows(cells) -> list[list[str]]:
    """The rows of the profile's table."""
    lines = "".join(output_tags.outputs(cells["profile"], "text/plain")).splitlines()
    return [[v.strip() for v in line[1:-1].split("┆")] for line in lines if line[0] == "│"][3:]


def test_each_cell_can_be_run_again(cells):
    again = [name for name in cells if name.endswith("-again")]
    assert len(again) >= 18
    for name in again:
        first = name.removesuffix("-again")
        if "measures-time" not in cells[first].metadata.get("tags", []):
            assert stdout(cells, name) == stdout(cells, first), first


def test_only_matching_rows_leave_the_scan(cells, small_data):
    ((matching,),) = oracle.by_duckdb(small_data, "select sum(num_segments)::bigint from nightly")
    ((groups,),) = oracle.by_duckdb(small_data, "select count(*) from nightly")
    rows_out = {row[0]: row[3] for row in profile_rows(cells)}
    assert rows_out["with-columns"] == str(matching)
    assert rows_out["multi-scan[parquet]"] == str(matching)
    assert rows_out["group-by"] == str(groups)
    assert f"{matching:,} rows" in "".join(output_tags.outputs(cells["picture"], "text/html"))
    assert "SELECTION:" in stdout(cells, "alone") and "FILTER" not in stdout(cells, "alone")


def test_text_after_the_aggregation_gives_the_same_rows(run):
    cells, outputs = run
    early, late = (pl.read_parquet(outputs / f"{name}.parquet") for name in ("early", "late"))
    late = late.select("user_id", "heart_rate")
    assert early.height == late.height == 150
    assert_frame_equal(early, late, check_row_order=False)
    per_segment, per_group = map(float, re.findall(r"([\d.]+) s", stdout(cells, "early-late")))
    assert per_group < per_segment


def test_two_results_share_one_scan_without_the_night_filter(cells):
    text = stdout(cells, "shared")
    assert "1 scan, read 2 times" in text and "1 filter above the scan" in text
    assert "5250 nights and 24 hours" in text


def test_sql_left_join_with_a_range_condition_loses_rows(cells, small_data):
    text = stdout(cells, "sql-join")
    ((with_age, all_rows),) = oracle.by_duckdb(
        small_data,
        """select count(*) filter (age >= 40), count(*)
           from sleep_diary left join user_profile using (user_id)""",
    )
    assert text.startswith("INNER JOIN") and f"{with_age} of {all_rows} rows" in text
    assert with_age < all_rows == numbers(stdout(cells, "sql-subquery"))[0]


def test_only_a_range_on_the_sorted_column_skips_row_groups(cells, small_data):
    ((day,),) = oracle.by_duckdb(
        small_data, "select count(*) from sensor_hrv where ts_start::date = '2024-01-10'"
    )
    (by_device, by_time) = stdout(cells, "one-day").splitlines()
    assert numbers(by_device) == [100, 100, day]
    assert numbers(by_time)[0] <= 5 and numbers(by_time)[1:] == [100, day]
    plan = stdout(cells, "as-date")
    assert 'SELECTION: (col("ts_start").dt.date()' in plan and "FILTER" not in plan
    assert re.search(r"read: [1-5] as a range, 100 as a date", plan)
    device, time = (numbers(line) for line in stdout(cells, "your-turn").splitlines())
    assert device[0] <= 2 and time == [100, 100]


def test_folder_name_leaves_one_file_in_the_plan(cells):
    (scanned,) = re.findall(r"SCAN \[(.*)\]", stdout(cells, "by-date"))
    assert "/date=2024-01-10/" in scanned and "sources" not in scanned


def test_null_and_its_literal_share_a_folder(cells):
    """polars loses one of three rows; the library refuses such a column."""
    assert stdout(cells, "null-folder") == "refused: true\n2 rows\n"


def test_each_barrier_keeps_its_filter_above_the_scan(cells):
    plans = stdout(cells, "barriers").strip().split("\n\n")
    assert len(plans) == 3
    assert all(plan.startswith("FILTER") and "SELECTION" not in plan for plan in plans)


def test_join_holds_the_short_side_and_keeps_order_on_request(cells):
    assert stdout(cells, "build-side").splitlines() == [
        "segments, devices: holds the right side",
        "devices, segments: holds the left side",
    ]
    assert stdout(cells, "maintain-order") == "sorted: true\n"


def test_memory_grows_only_where_rows_are_held(cells):
    (chart,) = output_tags.outputs(cells["growth-chart"], charts.MIME)
    grows = {}
    for trace in chart["data"]:
        assert trace["x"] == [1.0, 3.0, 10.0]
        grows[trace["name"]] = trace["y"][-1] / trace["y"][0] > 3
    assert grows == {
        **{"mean": False, "sort + limit": False, "sink": False},
        **{"collect": True, "sort": True},
    }
    assert stdout(cells, "bottom-k") == "1\n"


def test_only_queries_that_hold_few_rows_fit_the_limit(cells):
    ends = dict(re.findall(r"^(.+?): (finished|out of memory)", stdout(cells, "limited"), re.M))
    fitting = {name for name, end in ends.items() if end == "finished"}
    streaming = ("mean", "sort + limit", "sink")
    assert len(ends) == 10
    assert fitting == {f"Streaming engine, {name}" for name in streaming} | {
        "InMemory engine, sink"
    }


def test_join_rows_are_predicted_and_duplicates_refused(cells, small_data):
    ((pairs,),) = oracle.by_duckdb(
        small_data, "select count(*) from sleep_diary a join sleep_diary b using (date)"
    )
    assert str(pairs) in "".join(output_tags.outputs(cells["join-count"], "text/plain"))
    assert "m:1" in stdout(cells, "validate")


def support(cells, name: str) -> dict[str, str]:
    """The column `ran` of a table of `streaming_support`."""
    lines = "".join(output_tags.outputs(cells[name], "text/plain")).splitlines()
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines[1:-1]]
    return {row[0]: row[1] for row in rows}


def test_fallbacks_are_those_of_the_key_insight(cells):
    ran = support(cells, "streaming-support")
    assert set(ran.values()) == {"streaming", "memory-intensive", "fallback, in memory"}
    for name in ("median", "sort", "shift"):
        assert ran[f"group_by: {name}"] == "fallback, in memory"
    for name in ("mean", "n_unique"):
        assert ran[f"group_by: {name}"] == "memory-intensive"
    assert ran["filter"] == ran["limit"] == "streaming"


def test_mark_as_sorted_avoids_the_fallback_and_is_trusted(cells, small_data):
    assert support(cells, "promise") == {
        "unmarked": "fallback, in memory",
        "marked": "memory-intensive",
    }
    ((users, nights),) = oracle.by_duckdb(
        small_data, "select count(distinct user_id), count(*) from sleep_diary"
    )
    unmarked, marked = stdout(cells, "false-promise").splitlines()
    assert f"{users} groups of {users}" in unmarked and f"{nights} groups of {users}" in marked


def test_python_code_gives_the_same_results(cells, small_data, tmp_path, capsys):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    snippets = PYTHON.findall(text)
    assert len(snippets) >= 10
    assert text.count("<summary>Python") == len(snippets)
    variables = python_variables(small_data)
    before = os.getcwd()
    os.chdir(tmp_path)
    try:
        (tmp_path / "outputs").mkdir()
        for snippet in snippets:
            exec(snippet, variables)
    finally:
        os.chdir(before)
    early, late = (variables[name].collect() for name in ("early", "late"))
    assert_frame_equal(early, late.select("user_id", "heart_rate"), check_row_order=False)
    assert (variables["nights"].height, variables["hours"].height) == (5250, 24)
    ((pairs,),) = oracle.by_duckdb(
        small_data, "select count(*) from sleep_diary a join sleep_diary b using (date)"
    )
    assert variables["predicted"] == variables["pairs"] == pairs
    printed = capsys.readouterr().out
    assert "date=2024-01-10" in printed and printed.count("FILTER") == 3


def python_variables(data):
    """The variables that 02a's Python code and 02b's Rust cells define before the snippets."""
    import datetime

    sensor = pl.scan_parquet(data / "sensor_hrv" / "**" / "*.parquet", hive_partitioning=False)
    good = sensor.filter(pl.col("missingness_score") <= 0.35).select(
        "device_id", "ts_start", "hrv_sdnn", "hrv_rmssd", "heart_rate", "steps"
    )
    return {
        "pl": pl,
        "datetime": datetime,
        "sensor": sensor,
        "good": good,
        "rows": sensor.sort("ts_start"),
        "file": "outputs/sensor_by_time.parquet",
        "row_group": 10_000,
        "by_time": sensor.sort("ts_start"),
        "sleep_diary": pl.scan_parquet(data / "sleep_diary.parquet"),
        "users": pl.scan_parquet(data / "user_profile.parquet"),
        "joined": oracle.joined(data),
        "nightly": good.group_by(
            pl.concat_str([pl.lit("USER-"), pl.col("device_id").str.split("-").list.get(1)]).alias(
                "user_id"
            ),
            pl.col("ts_start").dt.date().alias("date"),
        ).agg(pl.len()),
    }
