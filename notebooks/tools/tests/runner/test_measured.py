"""Snapshots of cells with measurements compare everything but measured values."""

import nbformat
import pytest

from wearable_jupyter.export import charts
from wearable_jupyter.runner import measured, output_tags, snapshots

DIRECTORIES = {"/tmp/x1/data": "data", "/tmp/x1/outputs": "outputs", "/home/ann/clone": ""}
TIME, BYTES, ROWS = measured.UNITS


def normal(*tags: str) -> measured.Normalizer:
    return measured.Normalizer(tags, DIRECTORIES)


def shown(*outputs, tags=()) -> str:
    """The snapshot of a cell with these outputs."""
    cell = nbformat.v4.new_code_cell("x", id="c", outputs=list(outputs))
    cell.metadata["tags"] = list(tags)
    notebook = nbformat.v4.new_notebook(cells=[cell])
    return snapshots.shown_texts(notebook, DIRECTORIES).get("c", "")


def displayed(**data):
    names = {"plain": "text/plain", "html": "text/html", "chart": charts.MIME}
    return nbformat.v4.new_output("display_data", {names[k]: v for k, v in data.items()})


@pytest.mark.parametrize(
    ("tag", "one", "other"),
    [
        (TIME, "0.123 s", "12.5 s"),
        (TIME, "took 950µs.", "took 1.02ms."),
        (TIME, "12 ms, 18 rows", "9 ms, 18 rows"),
        (TIME, "1 min 5 s", "1 min 15 s"),
        (TIME, "0.120 to 0.130 s", "0.1 to 1.13 s"),
        (TIME, "120 ms \u2013 1.3 s", "90 ms \u2013 0.3 s"),
        (TIME, "(median    3.5 s)", "(median   13.5 s)"),
        (TIME, "1e-3 s", "2.5e-2 s"),
        (TIME, "speed-up 1.3x", "speed-up 0.9x"),
        (TIME, "1.2 \u00d7 as fast", "2\u00d7 as fast"),
        (TIME, "1.2 times as long", "11.7 times as long"),
        (TIME, "12.3 million rows/s", "1.5 million rows/s"),
        (TIME, "12.3 MB/s", "1.5 GB/s"),
        (TIME, "\x1b[1m0.1\x1b[0m s", "0.25 s"),
        (BYTES, "20.7 MB", "1,020.7 kB"),
        (BYTES, "peak 12 MiB", "peak 1.2 GiB"),
        (BYTES, "allocation of 1234 bytes failed", "allocation of 98 bytes failed"),
        (BYTES, "NaN MB", "12 MB"),
        (BYTES, "3.1 times the memory", "2.9 times the memory"),
        (ROWS, "23,541 rows of 100", "9 rows of 100"),
    ],
)
def test_measured_values_are_compared_only_without_their_tag(tag, one, other):
    assert normal(tag).text(one) == normal(tag).text(other)
    assert normal().text(one) != normal().text(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("18 rows in 0.1 s", "19 rows in 0.1 s"),
        ("mean 87.31, 0.1 s", "mean 87.32, 0.1 s"),
        ("35 % of 1 MB", "36 % of 1 MB"),
        ("4/14 COLUMNS", "5/14 COLUMNS"),
        ("10 times the rows", "12 times the rows"),
        ("3 \u00d7 4 cells", "5 \u00d7 4 cells"),
        ("read 4 / 100 row groups", "read 5 / 100 row groups"),
        ("sorted: 0.1 s", "unsorted: 0.1 s"),
        ("SORT BY [col(user_id)]", "SORT BY [col(date)]"),
        ("2024-01-10 03:00:00", "2024-01-10 04:00:00"),
        ("35 days", "36 days"),
        ("hrv_sdnn 87.3", "hrv_sdnn 88.3"),
        ("18 rows: 0.1 s", "18 rows: 0.1 s, 0.2 s"),
    ],
)
def test_results_are_compared_in_every_cell(one, other):
    tags = (TIME, BYTES)
    assert normal(*tags).text(one) != normal(*tags).text(other)


def test_each_tag_covers_only_its_own_unit():
    text = "18 rows, 0.8 kB, 0.1 s"
    assert normal(TIME).text(text) == "18 rows, 0.8 kB, <time>"
    assert normal(BYTES).text(text) == "18 rows, <bytes>, 0.1 s"
    assert normal(ROWS).text(text) == "<rows>, 0.8 kB, 0.1 s"
    assert normal(*measured.UNITS).text("1.5 million rows/s") == "<time>"
    assert normal(BYTES, ROWS).text("1 MB/s, 2 rows/s") == "1 MB/s, 2 rows/s"


def box(names: list[str], *rows: list[str]) -> str:
    """A table as polars prints it."""
    cells = [names, ["---"] * len(names), ["f64"] * len(names), *rows]
    widths = [max(len(row[n]) for row in cells) for n in range(len(names))]
    lines = ["│ " + " ┆ ".join(map(str.ljust, row, widths)) + " │" for row in cells]
    top, middle, bottom = (
        edge[0] + edge[1].join(edge[2] * (w + 2) for w in widths) + edge[3]
        for edge in ("┌┬─┐", "╞╪═╡", "└┴─┘")
    )
    head, body = lines[:3], lines[3:]
    return "\n".join([f"shape: ({len(rows)}, 2)", top, *head, middle, *body, bottom, "end"])


def test_measured_columns_of_a_polars_table_are_omitted():
    names = ["node", "ms", "rows"]
    fast = box(names, ["sort", "1.25", "12"], ["scan", "null", "3"])
    slow = box(names, ["sort", "1234.567", "12"], ["scan", "null", "3"])
    text = normal(TIME).text(fast)
    assert text == normal(TIME).text(slow)
    assert "│ sort ┆ <time> ┆ 12   │" in text and "│ scan ┆ null   ┆ 3    │" in text
    assert len({len(line) for line in text.split("\n")[1:-1]}) == 1
    assert text.startswith("shape: (2, 2)\n┌──────┬────────┬──────┐") and text.endswith("\nend")
    other = box(names, ["sort", "1.25", "13"], ["scan", "null", "3"])
    assert normal(TIME).text(other) != text
    assert normal(TIME).text(box(names, ["sort", "1.25", "12"])) != text
    assert normal(BYTES).text(fast) == fast != normal(BYTES).text(slow)
    assert "│ sort ┆ 1.25 ┆ <rows> │" in normal(ROWS).text(fast)
    slower = box(["speedup"], ["1.5"])
    assert "│ <factor> │" in normal(BYTES).text(slower) and normal().text(slower) == slower


@pytest.mark.parametrize(
    "text", ["┌\n│ 1 s │\n└", "┌\n└", "┌┐\n│1 s┆│\n│1 s│\n└┘", "┌1 s", "│ 1 s"]
)
def test_incomplete_tables_are_lines_of_text(text):
    assert normal(TIME).text(text) == text.replace("1 s", "<time>")


def test_table_with_paths_has_the_same_width_in_every_clone():
    here = box(["file"], ["/tmp/x1/data/a.parquet"])
    there = measured.Normalizer([], {"/home/user/clone/data": "data"})
    assert normal().text(here) == there.text(box(["file"], ["/home/user/clone/data/a.parquet"]))
    assert "│ data/a.parquet │" in normal().text(here)


def test_measured_columns_of_a_displayed_table_are_omitted():
    def table(seconds: str, rows: int):
        width = max(len("seconds"), len(seconds))
        plain = (
            f"engine     {'seconds'.ljust(width)}  peak_mb  speedup\n"
            f"streaming  {seconds.ljust(width)}  12.5     1.3\n\n{rows} rows"
        ).replace("\n\n", "\n")
        return displayed(plain=plain, html="<table><tr><td>…</td></tr></table>")

    text = shown(table("0.1", 1), tags=[TIME])
    assert text == shown(table("0.123456", 1), tags=[TIME])
    assert text.splitlines()[1].split() == ["streaming", "<time>", "12.5", "<factor>"]
    assert text != shown(table("0.1", 2), tags=[TIME])
    assert shown(table("0.1", 1)) != shown(table("0.2", 1))


def chart(seconds: list[float], rows: list[float], x: str = "", y: str = "Time (s)"):
    traces = [{"type": "bar", "name": "a", "x": rows, "y": seconds}]
    layout = {"title": {"text": "t"}, "xaxis": {"title": {"text": x}}, "yaxis": {"title": y}}
    return displayed(chart={"data": traces, "layout": layout}, plain="chart")


def test_measured_axis_of_a_chart_is_omitted():
    def text(*arguments, tags=(TIME,), **titles):
        return shown(chart(*arguments, **titles), tags=tags)

    first = text([0.1, 0.2], [1, 2])
    assert first == "Chart: t. a: Time (s) as bars: 1 <time>; 2 <time>."
    assert first == text([0.3, 0.4], [1, 2])
    assert first != text([0.1, 0.2], [1, 3])
    assert first != text([0.1, 0.2, 0.3], [1, 2, 3])
    assert first != text([0.1, 0.2], [1, 2], y="Seconds")
    # An axis without the unit of a tag is compared.
    assert text([0.1, 0.2], [1, 2], y="Result") != text([0.3, 0.2], [1, 2], y="Result")
    assert text([0.1, 0.2], [1, 2], tags=()) != text([0.3, 0.2], [1, 2], tags=())
    assert text([0.1, 0.2], [1, 2], tags=(BYTES,)) != text([0.3, 0.2], [1, 2], tags=(BYTES,))
    notebooks = []
    for seconds in ([0.1, 0.2], [0.3, 0.4]):
        cell = nbformat.v4.new_code_cell("x", id="c", outputs=[chart(seconds, [1, 2])])
        cell.metadata["tags"] = [TIME]
        notebooks.append(snapshots.outputs(nbformat.v4.new_notebook(cells=[cell])))
    assert notebooks[0] == notebooks[1]


def test_second_axis_and_binary_values_are_omitted_too():
    trace = {"type": "scatter", "x": [1], "y": {"dtype": "f8", "bdata": "AAAAAAAA8D8="}}
    layout = {"yaxis": {"title": "rows"}, "yaxis2": {"title": "peak MB", "range": [0, 3.5]}}
    figure = {"data": [trace, trace | {"yaxis": "y2"}], "layout": layout}
    first, second = normal(BYTES).chart(figure)["data"]
    assert first["y"] == trace["y"] and second["y"] == ["<bytes>"]
    assert normal(BYTES).chart(figure)["layout"]["yaxis2"] == {"title": "peak MB"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/tmp/x1/data", "data"),
        ('"/tmp/x1/data/a b.parquet",', '"data/a b.parquet",'),
        ("SCAN [/tmp/x1/data/p/0.parquet]", "SCAN [data/p/0.parquet]"),
        ("/tmp/x1/outputs/", "outputs/"),
        ("/home/ann/clone/crates/x.rs:3", "crates/x.rs:3"),
        ("in /home/ann/clone.", "in /home/ann/clone."),
        ("in /home/ann/clone", "in ."),
        ("/home/ann/clone2/x", "/home/ann/clone2/x"),
        ("/tmp/x1/database", "/tmp/x1/database"),
        ("/mnt/tmp/x1/data", "/mnt/tmp/x1/data"),
    ],
)
def test_project_paths_are_replaced_in_every_cell(path, expected):
    assert normal().text(path) == expected
    error = nbformat.v4.new_output("error", ename="E", evalue=path, traceback=[])
    assert shown(error) == f"E: {expected}"
    assert shown(displayed(plain=path)) == expected


def test_inner_directory_is_replaced_before_the_outer_one():
    nested = measured.Normalizer([], {"/c": "", "/c/d/large": "data"})
    assert nested.text("/c/d/large/a, /c/d/small/a") == "data/a, d/small/a"


def test_difference_in_measured_values_names_the_missing_tag(tmp_path):
    def executed(text: str, *tags: str):
        stream = nbformat.v4.new_output("stream", text=text)
        cell = nbformat.v4.new_code_cell("x", id="c", outputs=[stream])
        cell.metadata["tags"] = list(tags)
        return nbformat.v4.new_notebook(cells=[cell])

    notebook = tmp_path / "n.ipynb"
    snapshots.file(notebook).parent.mkdir()

    def difference(one: str, other: str, *tags: str) -> str:
        snapshots.file(notebook).write_text(snapshots.render(executed(one, *tags)))
        return snapshots.differences(executed(other, *tags), notebook, "update").get(0, "")

    assert "add to the cell: the tag measures-time\n" in difference("0.1 s", "0.2 s")
    assert "the tag measures-bytes\n" in difference("0.1 s, 2 kB", "0.2 s, 3 kB", TIME)
    both = difference("0.1 s, 2 kB", "0.2 s, 3 kB")
    assert "the tag measures-time, the tag measures-bytes\n" in both
    wrong = difference("1 table, 0.1 s", "2 tables, 0.2 s")
    assert "-1 table" in wrong and "the tag" not in wrong
    assert difference("0.1 s", "0.2 s", TIME) == ""


def test_unknown_measurement_fails_the_cell():
    cell = nbformat.v4.new_code_cell("x", metadata={"tags": ["measures-tim"]})
    assert "unknown tag measures-tim. Use one of: measures-time" in output_tags.fault(cell)
    cell.metadata.tags = list(measured.UNITS)
    assert output_tags.fault(cell) is None
