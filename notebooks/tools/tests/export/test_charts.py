"""Static pictures of charts are correct, and unsupported charts get none."""

import base64
import struct

import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from wearable_jupyter.export import charts


def packed(code: str, kind: str, *numbers, **more) -> dict:
    """An array in the binary encoding of newer plotly versions."""
    content = struct.pack(f"<{len(numbers)}{code}", *numbers)
    return {"dtype": kind, "bdata": base64.b64encode(content).decode()} | more


def vega_lite(*traces, **layout) -> dict:
    """Convert a figure to Vega-Lite, and check that it renders as PNG."""
    figure = charts.Figure.read({"data": list(traces), "layout": layout})
    assert figure.picture().startswith(b"\x89PNG")
    return charts._Picture(figure).vega_lite()


def rows(layer: dict, *names: str) -> list[tuple]:
    return [tuple(row[name] for name in names) for row in layer["data"]["values"]]


def bars_of(chart: dict) -> list[list[tuple]]:
    """The center, width, start and end of each bar, by layer."""
    return [
        [
            (round((a + b) / 2, 6), round(b - a, 6), c, d)
            for a, b, c, d in rows(layer, "a", "b", "c", "d")
        ]
        for layer in chart["layer"]
    ]


DAY = 86_400_000
XY = {"x": [1, 2], "y": [3, 4]}


def test_dates_get_a_temporal_axis():
    days = ["2026-03-01", "2026-03-02T12:00:00.5", "2026-03-03 00:00:00+02:00", None]
    chart = vega_lite({"x": days, "y": [1, 2, 3, 4], "mode": "markers"})
    layer = chart["layer"][0]
    x = layer["encoding"]["x"]
    assert (x["type"], x["scale"]["type"]) == ("temporal", "utc")
    first = rows(layer, "x")[0][0]
    assert [x - first for (x,) in rows(layer, "x")] == [0, 1.5 * DAY + 500, 2 * DAY]


def test_log_axis_becomes_log_scale():
    trace = {"x": [1, 10, 0], "y": [0.1, 1000, 5], "mode": "markers"}
    chart = vega_lite(trace, xaxis={"type": "log"}, yaxis={"type": "log", "range": [-2, 4]})
    layer = chart["layer"][0]
    assert layer["encoding"]["x"]["scale"]["type"] == "log"
    assert layer["encoding"]["y"]["scale"]["domain"] == [0.01, 10_000]
    assert rows(layer, "x", "y") == [(1, 0.1), (10, 1000)]
    bars = vega_lite({"type": "bar", "x": ["a", "b"], "y": [10, 2000]}, yaxis={"type": "log"})
    assert bars_of(bars) == [[(0, 0.8, 1.0, 10), (1, 0.8, 1.0, 2000)]]
    assert bars["layer"][0]["encoding"]["y"]["scale"]["domainMin"] == 1.0


def test_horizontal_bars_swap_axes():
    chart = vega_lite({"type": "bar", "orientation": "h", "y": ["a", "b"], "x": [3, -1]})
    encoding = chart["layer"][0]["encoding"]
    assert (encoding["x"]["field"], encoding["y"]["field"]) == ("c", "a")
    assert bars_of(chart) == [[(0, 0.8, 0, 3), (1, 0.8, 0, -1)]]
    assert '["a", "b"]' in encoding["y"]["axis"]["labelExpr"]


FEMALE = {"type": "bar", "x": ["a", "b"], "y": [1, 2], "name": "f"}
MALE = {"type": "bar", "x": ["b", "c"], "y": [3, -1], "name": "m"}


def test_grouped_bars_are_side_by_side():
    expected = [[(-0.2, 0.4, 0, 1), (0.8, 0.4, 0, 2)], [(1.2, 0.4, 0, 3), (2.2, 0.4, 0, -1)]]
    assert bars_of(vega_lite(FEMALE, MALE)) == expected
    assert bars_of(vega_lite(FEMALE, MALE, barmode="group")) == expected


def test_stacked_bars_start_where_the_previous_bar_ends():
    chart = vega_lite(FEMALE, MALE, barmode="relative")
    assert bars_of(chart) == [[(0, 0.8, 0, 1), (1, 0.8, 0, 2)], [(1, 0.8, 2, 5), (2, 0.8, 0, -1)]]
    positive = MALE | {"y": [3, 1]}
    assert bars_of(vega_lite(FEMALE, positive, barmode="stack"))[1] == [
        (1, 0.8, 2, 5),
        (2, 0.8, 0, 1),
    ]


def test_bars_are_positioned_on_numbers_and_dates():
    assert bars_of(vega_lite({"type": "bar", "x": [0, 2, 6], "y": [1, 2, 3]}))[0][1] == (
        2,
        1.6,
        0,
        2,
    )
    chart = vega_lite({"type": "bar", "x": ["2026-01-01", "2026-01-02"], "y": [1, 2]})
    assert bars_of(chart)[0][0][1] == 0.8 * DAY


def test_binary_arrays_are_decoded():
    chart = vega_lite({"x": packed("d", "f8", 3, 1, 2), "y": packed("h", "i2", 1, -2, 3)})
    assert rows(chart["layer"][0], "x", "y") == [(3, 1), (1, -2), (2, 3)]
    assert charts.values(packed("B", "u1", 1, 2, 3, 4, shape="2, 2")) == [[1, 2], [3, 4]]


def test_missing_values_split_lines_and_row_order_is_kept():
    nan, inf = float("nan"), float("inf")
    trace = {"mode": "lines", "x": [3, 2, 1, 0, 5, 6], "y": [1, None, 2, nan, inf, 4]}
    layer = vega_lite(trace)["layer"][0]
    assert rows(layer, "x", "segment") == [(3, 0), (1, 1), (6, 3)]
    assert layer["encoding"]["order"] == {"field": "i"}
    joined = vega_lite(trace | {"connectgaps": True})["layer"][0]
    assert {segment for (segment,) in rows(joined, "segment")} == {0}


def test_default_mode_coordinates_and_size_match_plotly():
    kinds = [layer["mark"]["type"] for layer in vega_lite(XY)["layer"]]
    assert kinds == ["line", "point"]
    long = {"y": list(range(20))}
    assert [layer["mark"]["type"] for layer in vega_lite(long)["layer"]] == ["line"]
    assert rows(vega_lite(long)["layer"][0], "x")[:2] == [(0,), (1,)]
    assert vega_lite(XY | {"x": None, "y": [1]}, width="?", height=None)["height"] == 290


def test_categories_are_ordered_and_labelled():
    trace = {"mode": "markers", "x": ["b", "a", "<b>c</b>"], "y": [1, 2, 3]}
    layer = vega_lite(trace, xaxis={"categoryorder": "category ascending"})["layer"][0]
    assert rows(layer, "x") == [(1,), (0,), (2,)]
    layer = vega_lite(trace, xaxis={"categoryarray": ["a", "z"]})["layer"][0]
    assert rows(layer, "x") == [(2,), (0,), (3,)]
    layer = vega_lite({"type": "bar", "x": [True, False], "y": [1, 2]})["layer"][0]
    assert '["true", "false"]' in layer["encoding"]["x"]["axis"]["labelExpr"]


def test_hidden_traces_are_omitted_from_legend():
    hidden = XY | {"visible": "legendonly", "name": "h"}
    chart = vega_lite(hidden, XY | {"mode": "lines"}, XY | {"mode": "lines", "name": "n"})
    colours = [layer["encoding"]["color"] for layer in chart["layer"]]
    assert [colour["datum"] for colour in colours] == ["trace 1", "n"]
    assert colours[0]["scale"]["range"] == list(charts.COLOURS[1:3])
    assert colours[0]["legend"]["values"] == ["trace 1", "n"]
    assert vega_lite(XY, showlegend=False)["layer"][0]["encoding"]["color"]["legend"] is None


BAR = {"type": "bar", "x": ["a", "b"], "y": [1, 2]}
UNSUPPORTED = {
    "pie": ([{"type": "pie", "values": [1]}], {}),
    "heatmap": ([{"type": "heatmap", "z": [[1]]}], {}),
    "histogram": ([{"type": "histogram", "x": [1]}], {}),
    "box": ([{"type": "box", "y": [1]}], {}),
    "3d": ([{"type": "scatter3d", "x": [1], "y": [1], "z": [1]}], {}),
    "type is not a string": ([{"type": ["x"]}], {}),
    "mixed values": ([{"x": [1, "a"], "y": [1, 2]}], {}),
    "nested categories": ([{"x": [["a"], ["b"]], "y": [1, 2]}], {}),
    "second axis": ([XY, XY | {"yaxis": "y2"}], {}),
    "error bars": ([XY | {"error_y": {"array": [1, 1]}}], {}),
    "text": ([XY | {"mode": "markers+text", "text": ["a", "b"]}], {}),
    "text on bars": ([BAR | {"text": ["a", "b"]}], {}),
    "annotation": ([XY], {"annotations": [{"text": "x"}]}),
    "shape": ([XY], {"shapes": [{"type": "line"}]}),
    "area": ([XY | {"fill": "tozeroy"}], {}),
    "stacked area": ([XY | {"stackgroup": "a"}], {}),
    "colour scale": ([XY | {"marker": {"color": [1, 2]}}], {}),
    "sizes": ([XY | {"marker": {"size": [1, 2]}}], {}),
    "unknown colour": ([XY | {"marker": {"color": "nocolour"}}], {}),
    "spline": ([XY | {"line": {"shape": "spline"}}], {}),
    "ticks": ([XY], {"xaxis": {"tickvals": [1], "ticktext": ["one"]}}),
    "range with an open end": ([XY], {"xaxis": {"range": [None, 3]}}),
    "equal scales": ([XY], {"yaxis": {"scaleanchor": "x"}}),
    "order": ([BAR], {"xaxis": {"categoryorder": "total ascending"}}),
    "normalised bars": ([BAR], {"barnorm": "percent"}),
    "negative stack": ([BAR | {"y": [1, -2]}], {"barmode": "stack"}),
    "two bars at one position": ([BAR | {"x": ["a", "a"]}], {}),
    "both directions": ([BAR, BAR | {"orientation": "h"}], {}),
    "no values": ([{"x": [None], "y": [1]}], {}),
    "no traces": ([], {}),
    "too many": ([{"y": list(range(100_001))}], {}),
    "bad base64": ([{"y": {"dtype": "f8", "bdata": "!"}}], {}),
    "bad dtype": ([{"y": {"dtype": "f9", "bdata": ""}}], {}),
    "log of zero": ([BAR | {"y": [0, 0]}], {"yaxis": {"type": "log"}}),
}


@pytest.mark.parametrize("figure", UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_unsupported_chart_has_a_description_but_no_picture(figure):
    data, layout = figure
    with pytest.raises(charts.UnsupportedChart):
        charts.Figure.read({"data": data, "layout": layout}).picture()
    assert charts.description({"data": data, "layout": layout}).startswith("Chart: ")


@pytest.mark.parametrize(
    "content", [None, 5, "x", [], {"data": 5}, {"data": [1]}, {"data": [None]}]
)
def test_invalid_figure_is_reported(content):
    output = new_output("display_data")
    output.data[charts.MIME] = content
    notebook = new_notebook(cells=[new_code_cell("x", outputs=[output])])
    [message] = charts.add_pictures(notebook)
    assert message.startswith("cell 1: the chart has no static picture: ")
    assert list(output.data) == [charts.MIME]
    assert charts.description(content) == "Chart: not readable."


def test_charts_after_a_failed_chart_get_pictures(monkeypatch):
    def outputs():
        return [new_output("display_data", data={charts.MIME: {"data": [XY]}}) for _ in range(2)]

    notebook = new_notebook(cells=[new_code_cell("x", outputs=outputs())])
    render, calls = charts.Figure.picture, []

    def fails_once(figure):
        calls.append(figure)
        if len(calls) == 1:
            raise ValueError("the renderer\nfailed")
        return render(figure)

    monkeypatch.setattr(charts.Figure, "picture", fails_once)
    messages = charts.add_pictures(notebook)
    assert messages == ["cell 1: the chart has no static picture: the renderer failed."]
    first, second = notebook.cells[0].outputs
    assert "image/png" not in first.data
    assert second.metadata["image/png"]["alt"].startswith("Chart: ")


def test_description_contains_the_range_of_each_trace():
    dates = {"mode": "markers", "x": ["2026-01-02", "2026-01-01"], "y": [1.23456, None]}
    assert charts.description({"data": [dates], "layout": {"title": "A<br>b"}}) == (
        "Chart: A b. 2 points, x 2026-01-01 to 2026-01-02, y 1.235 to 1.235."
    )
    horizontal = {"type": "bar", "orientation": "h", "y": ["a"], "x": [2]}
    assert charts.description({"data": [horizontal]}) == "Chart: without a title. x as bars: a 2."
    mixed = charts.description({"data": [{"x": [1, "a", {}], "y": [[1]]}], "layout": None})
    assert "x 3 values" in mixed
