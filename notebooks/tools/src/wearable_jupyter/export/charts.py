"""A plotly chart for those who do not see it drawn: a description, and a picture.

A viewer that runs no scripts (a code host's preview, a mail, a printed page) shows nothing of
plotly's MIME type, and a screen reader finds no words in it. So an executed notebook also carries
each chart as PNG, with the description as its alternative text. vl-convert draws it, which is one
package without a browser.
"""

import base64
import math
from collections.abc import Iterator
from itertools import cycle

from nbformat import NotebookNode

MIME = "application/vnd.plotly.v1+json"
WIDTH, HEIGHT = 700, 450
# plotly's first colours, for traces that name none.
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b")
MARKS = {"points": {"type": "circle"}, "bars": {"type": "bar"}, "line": {"type": "line"}}


def charts(notebook: NotebookNode) -> Iterator[tuple[NotebookNode, NotebookNode]]:
    """Every cell output that is a chart, with its cell."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if MIME in output.get("data", {}):
                yield cell, output


def text(title: object) -> str:
    """A title of plotly's, which is a string or an object with a text."""
    return str(title.get("text") or "") if isinstance(title, dict) else str(title or "")


def axis(figure: dict, name: str) -> str:
    """The title of an axis, or its name."""
    return text(figure["layout"].get(f"{name}axis", {}).get("title")) or name


def kind(trace: dict) -> str:
    """What a trace is drawn as, in a word."""
    if trace.get("type", "scatter") == "scatter":
        return "points" if trace.get("mode") == "markers" else "line"
    return {"bar": "bars"}.get(trace["type"], trace["type"])


def rounded(value: object) -> str:
    """A number in at most four digits, anything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def extent(values: list) -> str:
    """From where to where values reach, or which they are if they are few names."""
    known = [v for v in values if v is not None and not (isinstance(v, float) and math.isnan(v))]
    if not known:
        return "no values"
    if all(isinstance(value, str) for value in known):
        names = list(dict.fromkeys(known))
        return ", ".join(names) if len(names) <= 6 else f"{len(names)} names"
    return f"{rounded(min(known))} to {rounded(max(known))}"


def description(figure: dict) -> str:
    """A chart in words: its title, its axes, and of each trace its size and reach.

    `figure` is what plotly's MIME type holds: `data`, a list of traces, and `layout`.
    """
    sentences = [f"Chart: {text(figure['layout'].get('title')) or 'without a title'}."]
    for trace in figure["data"]:
        x, y = list(trace.get("x", [])), list(trace.get("y", []))
        name = f"{trace['name']}: " if trace.get("name") else ""
        if kind(trace) == "bars" and len(x) <= 6:
            bars = "; ".join(f"{key} {rounded(value)}" for key, value in zip(x, y, strict=False))
            sentences.append(f"{name}{axis(figure, 'y')} as bars: {bars}.")
        else:
            sentences.append(
                f"{name}{max(len(x), len(y))} {kind(trace)}, {axis(figure, 'x')} {extent(x)}, "
                f"{axis(figure, 'y')} {extent(y)}."
            )
    return " ".join(sentences)


def colours(figure: dict) -> list[str]:
    """The colour of each trace: its own, or the next of plotly's."""
    own = [trace.get("marker", {}).get("color") for trace in figure["data"]]
    return [c if isinstance(c, str) else d for c, d in zip(own, cycle(COLOURS), strict=False)]


def layer(figure: dict, trace: dict, colour: str) -> dict:
    """A trace as a layer of a Vega-Lite chart."""
    layout, name = figure["layout"], trace.get("name")
    x, y = list(trace.get("x", [])), list(trace.get("y", []))
    number = {"type": "quantitative", "scale": {"zero": kind(trace) == "bars"}}
    named = {"type": "nominal", "sort": None, "axis": {"labelAngle": 0}}
    encoding = {
        "x": {"field": "x", "title": text(layout.get("xaxis", {}).get("title"))}
        | (named if any(isinstance(value, str) for value in x) else number),
        "y": {"field": "y", "title": text(layout.get("yaxis", {}).get("title"))} | number,
    }
    if name:
        # A constant, which Vega-Lite gathers into the chart's legend.
        encoding["color"] = {"datum": name, "type": "nominal"}
    opacity = trace.get("marker", {}).get("opacity", 1)
    return {
        "data": {"values": [{"x": a, "y": b} for a, b in zip(x, y, strict=False)]},
        "mark": MARKS[kind(trace)] | {"color": colour, "opacity": opacity},
        "encoding": encoding,
    }


def picture(figure: dict) -> bytes | None:
    """A chart as PNG, or None for one that has a trace other than points, lines and bars."""
    traces, layout, margin = figure["data"], figure["layout"], figure["layout"].get("margin", {})
    if not traces or any(kind(trace) not in MARKS for trace in traces):
        return None
    layers = [layer(figure, *pair) for pair in zip(traces, colours(figure), strict=True)]
    names = {
        trace["name"]: colour
        for trace, colour in zip(traces, colours(figure), strict=True)
        if trace.get("name")
    }
    for drawn in layers:
        if "color" in drawn["encoding"]:
            drawn["encoding"]["color"] |= {
                "title": text(layout.get("legend", {}).get("title")) or None,
                "scale": {"domain": list(names), "range": list(names.values())},
            }
    chart = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": text(layout.get("title")),
        "width": layout.get("width", WIDTH) - margin.get("l", 80) - margin.get("r", 80),
        "height": layout.get("height", HEIGHT) - margin.get("t", 80) - margin.get("b", 80),
        "background": "white",
        "layer": layers,
        "config": {"legend": {"symbolOpacity": 1}},
    }
    import vl_convert  # only now: it brings a JavaScript engine

    return vl_convert.vegalite_to_png(chart)


def add_pictures(notebook: NotebookNode) -> None:
    """Give every chart of an executed notebook its picture and description."""
    for _, output in charts(notebook):
        figure = output.data[MIME]
        if (png := picture(figure)) is not None:
            output.data["image/png"] = base64.b64encode(png).decode()
            output.setdefault("metadata", {})["image/png"] = {"alt": description(figure)}
