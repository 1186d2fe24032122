"""Charts as static pictures: what is drawn is right, and what can't be drawn is left out."""

import base64
import struct

import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from wearable_jupyter.export import charts


def packed(code: str, kind: str, *numbers, **more) -> dict:
    """An array as newer versions of plotly encode it."""
    content = struct.pack(f"<{len(numbers)}{code}", *numbers)
    return {"dtype": kind, "bdata": base64.b64encode(content).decode()} | more


def picture_of(*traces, **layout) -> dict:
    """The Vega-Lite chart of a figure."""
    figure = charts.Figure.read({"data": list(traces), "layout": layout})
    assert figure.picture().startswith(b"\x89PNG")
    return charts._Picture(figure).vega_lite()


def rows(layer: dict, *names: str) -> list[tuple]:
    return [tuple(row[name] for name in names) for row in layer["data"]["values"]]


def bars_of(chart: dict) -> list[list[tuple]]:
    """Of each layer of bars: the middle, the width, and both ends."""
    return [
        [
            (round((a + b) / 2, 6), round(b - a, 6), c, d)
            for a, b, c, d in rows(layer, "a", "b", "c", "d")
        ]
        for layer in chart["layer"]
    ]


DAY = 86_400_000
XY = {"x": [1, 2], "y": [3, 4]}


def test_dates_have_an_axis_of_dates():
    days = ["2026-03-01", "2026-03-02T12:00:00.5", "2026-03-03 00:00:00+02:00", None]
    chart = picture_of({"x": days, "y": [1, 2, 3, 4], "mode": "markers"})
    layer = chart["layer"][0]
    x = layer["encoding"]["x"]
    assert (x["type"], x["scale"]["type"]) == ("temporal", "utc")
    first = rows(layer, "x")[0][0]
    assert [x - first for (x,) in rows(layer, "x")] == [0, 1.5 * DAY + 500, 2 * DAY]


def test_logarithmic_axes_are_logarithmic():
    trace = {"x": [1, 10, 0], "y": [0.1, 1000, 5], "mode": "markers"}
    chart = picture_of(trace, xaxis={"type": "log"}, yaxis={"type": "log", "range": [-2, 4]})
    layer = chart["layer"][0]
    assert layer["encoding"]["x"]["scale"]["type"] == "log"
    assert layer["encoding"]["y"]["scale"]["domain"] == [0.01, 10_000]
    assert rows(layer, "x", "y") == [(1, 0.1), (10, 1000)]
    bars = picture_of({"type": "bar", "x": ["a", "b"], "y": [10, 2000]}, yaxis={"type": "log"})
    assert bars_of(bars) == [[(0, 0.8, 1.0, 10), (1, 0.8, 1.0, 2000)]]
    assert bars["layer"][0]["encoding"]["y"]["scale"]["domainMin"] == 1.0


def test_horizontal_bars_lie():
    chart = picture_of({"type": "bar", "orientation": "h", "y": ["a", "b"], "x": [3, -1]})
    encoding = chart["layer"][0]["encoding"]
    assert (encoding["x"]["field"], encoding["y"]["field"]) == ("c", "a")
    assert bars_of(chart) == [[(0, 0.8, 0, 3), (1, 0.8, 0, -1)]]
    assert '["a", "b"]' in encoding["y"]["axis"]["labelExpr"]


FEMALE = {"type": "bar", "x": ["a", "b"], "y": [1, 2], "name": "f"}
MALE = {"type": "bar", "x": ["b", "c"], "y": [3, -1], "name": "m"}


def test_grouped_bars_stand_side_by_side():
    expected = [[(-0.2, 0.4, 0, 1), (0.8, 0.4, 0, 2)], [(1.2, 0.4, 0, 3), (2.2, 0.4, 0, -1)]]
    assert bars_of(picture_of(FEMALE, MALE)) == expected
    assert bars_of(picture_of(FEMALE, MALE, barmode="group")) == expected


def test_stacked_bars_stand_on_each_other():
    chart = picture_of(FEMALE, MALE, barmode="relative")
    assert bars_of(chart) == [[(0, 0.8, 0, 1), (1, 0.8, 0, 2)], [(1, 0.8, 2, 5), (2, 0.8, 0, -1)]]
    positive = MALE | {"y": [3, 1]}
    assert bars_of(picture_of(FEMALE, positive, barmode="stack"))[1] == [
        (1, 0.8, 2, 5),
        (2, 0.8, 0, 1),
    ]


def test_bars_may_stand_on_numbers_and_dates():
    assert bars_of(picture_of({"type": "bar", "x": [0, 2, 6], "y": [1, 2, 3]}))[0][1] == (
        2,
        1.6,
        0,
        2,
    )
    chart = picture_of({"type": "bar", "x": ["2026-01-01", "2026-01-02"], "y": [1, 2]})
    assert bars_of(chart)[0][0][1] == 0.8 * DAY


def test_arrays_may_be_encoded():
    chart = picture_of({"x": packed("d", "f8", 3, 1, 2), "y": packed("h", "i2", 1, -2, 3)})
    assert rows(chart["layer"][0], "x", "y") == [(3, 1), (1, -2), (2, 3)]
    assert charts.values(packed("B", "u1", 1, 2, 3, 4, shape="2, 2")) == [[1, 2], [3, 4]]


def test_gaps_stay_gaps_and_lines_keep_the_order_of_rows():
    nan, inf = float("nan"), float("inf")
    trace = {"mode": "lines", "x": [3, 2, 1, 0, 5, 6], "y": [1, None, 2, nan, inf, 4]}
    layer = picture_of(trace)["layer"][0]
    assert rows(layer, "x", "segment") == [(3, 0), (1, 1), (6, 3)]
    assert layer["encoding"]["order"] == {"field": "i"}
    joined = picture_of(trace | {"connectgaps": True})["layer"][0]
    assert {segment for (segment,) in rows(joined, "segment")} == {0}


def test_modes_and_defaults_are_those_of_plotly():
    kinds = [layer["mark"]["type"] for layer in picture_of(XY)["layer"]]
    assert kinds == ["line", "point"]
    long = {"y": list(range(20))}
    assert [layer["mark"]["type"] for layer in picture_of(long)["layer"]] == ["line"]
    assert rows(picture_of(long)["layer"][0], "x")[:2] == [(0,), (1,)]
    assert picture_of(XY | {"x": None, "y": [1]}, width="?", height=None)["height"] == 290


def test_categories_are_ordered_and_named():
    trace = {"mode": "markers", "x": ["b", "a", "<b>c</b>"], "y": [1, 2, 3]}
    layer = picture_of(trace, xaxis={"categoryorder": "category ascending"})["layer"][0]
    assert rows(layer, "x") == [(1,), (0,), (2,)]
    layer = picture_of(trace, xaxis={"categoryarray": ["a", "z"]})["layer"][0]
    assert rows(layer, "x") == [(2,), (0,), (3,)]
    layer = picture_of({"type": "bar", "x": [True, False], "y": [1, 2]})["layer"][0]
    assert '["true", "false"]' in layer["encoding"]["x"]["axis"]["labelExpr"]


def test_hidden_traces_and_legends():
    hidden = XY | {"visible": "legendonly", "name": "h"}
    chart = picture_of(hidden, XY | {"mode": "lines"}, XY | {"mode": "lines", "name": "n"})
    colours = [layer["encoding"]["color"] for layer in chart["layer"]]
    assert [colour["datum"] for colour in colours] == ["trace 1", "n"]
    assert colours[0]["scale"]["range"] == list(charts.COLOURS[1:3])
    assert colours[0]["legend"]["values"] == ["trace 1", "n"]
    assert picture_of(XY, showlegend=False)["layer"][0]["encoding"]["color"]["legend"] is None


BAR = {"type": "bar", "x": ["a", "b"], "y": [1, 2]}
LEFT_OUT = {
    "pie": ([{"type": "pie", "values": [1]}], {}),
    "heatmap": ([{"type": "heatmap", "z": [[1]]}], {}),
    "histogram": ([{"type": "histogram", "x": [1]}], {}),
    "box": ([{"type": "box", "y": [1]}], {}),
    "3d": ([{"type": "scatter3d", "x": [1], "y": [1], "z": [1]}], {}),
    "type is no name": ([{"type": ["x"]}], {}),
    "mixed values": ([{"x": [1, "a"], "y": [1, 2]}], {}),
    "levels": ([{"x": [["a"], ["b"]], "y": [1, 2]}], {}),
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
    "open range": ([XY], {"xaxis": {"range": [None, 3]}}),
    "equal scales": ([XY], {"yaxis": {"scaleanchor": "x"}}),
    "order": ([BAR], {"xaxis": {"categoryorder": "total ascending"}}),
    "normed bars": ([BAR], {"barnorm": "percent"}),
    "negative stack": ([BAR | {"y": [1, -2]}], {"barmode": "stack"}),
    "two bars in a place": ([BAR | {"x": ["a", "a"]}], {}),
    "both directions": ([BAR, BAR | {"orientation": "h"}], {}),
    "no values": ([{"x": [None], "y": [1]}], {}),
    "no traces": ([], {}),
    "too many": ([{"y": list(range(100_001))}], {}),
    "bad base64": ([{"y": {"dtype": "f8", "bdata": "!"}}], {}),
    "bad dtype": ([{"y": {"dtype": "f9", "bdata": ""}}], {}),
    "log of zero": ([BAR | {"y": [0, 0]}], {"yaxis": {"type": "log"}}),
}


@pytest.mark.parametrize("figure", LEFT_OUT.values(), ids=LEFT_OUT)
def test_chart_that_cannot_be_drawn_has_no_picture_but_a_description(figure):
    data, layout = figure
    with pytest.raises(charts.UnsupportedChart):
        charts.Figure.read({"data": data, "layout": layout}).picture()
    assert charts.description({"data": data, "layout": layout}).startswith("Chart: ")


@pytest.mark.parametrize(
    "content", [None, 5, "x", [], {"data": 5}, {"data": [1]}, {"data": [None]}]
)
def test_content_that_is_no_figure_is_reported(content):
    output = new_output("display_data")
    output.data[charts.MIME] = content
    notebook = new_notebook(cells=[new_code_cell("x", outputs=[output])])
    [message] = charts.add_pictures(notebook)
    assert message.startswith("cell 1: a chart has no static picture, because ")
    assert list(output.data) == [charts.MIME]
    assert charts.description(content) == "Chart: not readable."


def test_each_chart_has_its_picture_even_after_one_that_fails(monkeypatch):
    def outputs():
        return [new_output("display_data", data={charts.MIME: {"data": [XY]}}) for _ in range(2)]

    notebook = new_notebook(cells=[new_code_cell("x", outputs=outputs())])
    real, calls = charts.Figure.picture, []

    def fails_once(figure):
        calls.append(figure)
        if len(calls) == 1:
            raise ValueError("the renderer\nfailed")
        return real(figure)

    monkeypatch.setattr(charts.Figure, "picture", fails_once)
    messages = charts.add_pictures(notebook)
    assert messages == ["cell 1: a chart has no static picture, because the renderer failed."]
    first, second = notebook.cells[0].outputs
    assert "image/png" not in first.data
    assert second.metadata["image/png"]["alt"].startswith("Chart: ")


def test_descriptions_name_the_extent_of_each_trace():
    dates = {"mode": "markers", "x": ["2026-01-02", "2026-01-01"], "y": [1.23456, None]}
    assert charts.description({"data": [dates], "layout": {"title": "A<br>b"}}) == (
        "Chart: A b. 2 points, x 2026-01-01 to 2026-01-02, y 1.235 to 1.235."
    )
    lying = {"type": "bar", "orientation": "h", "y": ["a"], "x": [2]}
    assert charts.description({"data": [lying]}) == "Chart: without a title. x as bars: a 2."
    mixed = charts.description({"data": [{"x": [1, "a", {}], "y": [[1]]}], "layout": None})
    assert "x 3 values" in mixed
