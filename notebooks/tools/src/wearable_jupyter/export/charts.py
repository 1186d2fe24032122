"""Static pictures and text descriptions of plotly charts.

JavaScript draws plotly's MIME type, so a code host's preview, an e-mail or a printed page shows
no chart. Therefore an executed notebook also stores each chart as PNG, with a description as its
alternative text for screen readers. vl-convert renders the PNG without a browser.

A picture supports points, lines and bars on one pair of axes. A chart with any other attribute
gets no picture, because a wrong picture is worse than none.
"""

import base64
import json
import math
import re
import sys
from array import array
from collections.abc import Iterator
from datetime import datetime
from html import unescape
from itertools import cycle, pairwise

from nbformat import NotebookNode
from tinycss2.color3 import parse_color

MIME = "application/vnd.plotly.v1+json"
WIDTH, HEIGHT = 700, 450
# plotly's default colours, for traces that set no colour.
COLOURS = (
    "#1f77b4",
    "#ff7f0e",
    "#2ca02c",
    "#d62728",
    "#9467bd",
    "#8c564b",
    "#e377c2",
    "#7f7f7f",
    "#bcbd22",
    "#17becf",
)
# Rendering more marks takes seconds, and the additional marks are not distinguishable.
MAX_MARKS = 100_000

# plotly's dtype names, and the type codes of Python's `array`.
_TYPES = {
    "i1": "b",
    "u1": "B",
    "uint8c": "B",
    "i2": "h",
    "u2": "H",
    "i4": "i",
    "u4": "I",
    "f4": "f",
    "f8": "d",
}
_DATE = re.compile(
    r"(\d{4}-\d{1,2}(?:-\d{1,2})?)(?:[T ](\d{1,2}(?::\d{2}(?::\d{2}(?:\.\d+)?)?)?))?"
    r"(?:Z|[+-]\d{2}(?::?\d{2})?)?"
)
_MARKUP = re.compile(r"</?(?:b|i|u|s|em|strong|sub|sup|span|a|br)\b[^<>]*>", re.IGNORECASE)

# Attributes that change neither position nor style of marks, nor the labels of axes.
_IGNORED = re.compile(
    r"hover|legend|textfont|uid$|ids$|meta$|customdata|selected|unselected|stream$|transition|"
    r"clip|zorder$|(?:x|y)?hoverformat|(?:x|y)calendar$|uirevision|autosize|dragmode|modebar|"
    r"font|paper_bgcolor|plot_bgcolor|separators|editrevision|datarevision|clickmode|colorway|"
    r"template|computed|spikedistance|activeselection|newselection|newshape"
)
_IGNORED_OF_AXIS = re.compile(
    r"grid|zeroline|line|spike|minor$|automargin|autotick|anchor$|color$|dtick|tick0|nticks|"
    r"tick(?:color|font|len|width|mode$|s$)|ticks|hoverformat|fixedrange|exponentformat|"
    r"showexponent|separatethousands|uirevision|layer|constraintoward|mirror|minexponent|"
    r"maxallowed|minallowed|autotypenumbers|calendar$|label(?:alias)?$|show(?:grid|line|spikes)"
)
_SYMBOLS = {
    "circle": "circle",
    "square": "square",
    "diamond": "diamond",
    "triangle-up": "triangle-up",
    "triangle-down": "triangle-down",
}
_DASHES = {
    "solid": [1, 0],
    "dot": [2, 3],
    "dash": [8, 5],
    "longdash": [14, 6],
    "dashdot": [8, 4, 2, 4],
}
_SHAPES = {"linear": "linear", "hv": "step-after", "vh": "step-before", "hvh": "step"}


class UnsupportedChart(Exception):
    """A chart can't be read or rendered. The message is the reason."""


def charts(notebook: NotebookNode) -> Iterator[tuple[NotebookNode, NotebookNode]]:
    """Yield `(cell, output)` for each output that contains a plotly chart."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if MIME in output.get("data", {}):
                yield cell, output


def mapping(value: object) -> dict:
    """Return `value` if it is an object of a figure, otherwise an empty object."""
    return value if isinstance(value, dict) else {}


def number(value: object) -> float | int | None:
    """Return a finite number, or None. Like plotly, this accepts a number written as a string."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if abs(value) < float("inf") else None


def values(data: object) -> list:
    """Return an array's values as a list; a list of rows if the array has two dimensions.

    Accepts plain lists and plotly's binary encoding (`dtype`, `bdata`, `shape`). Any other value
    gives an empty list.

    Raises:
        UnsupportedChart: the binary encoding is invalid.
    """
    if not isinstance(data, dict):
        return list(data) if isinstance(data, (list, tuple)) else []
    try:
        decoded = array(_TYPES[data["dtype"]], base64.b64decode(data["bdata"], validate=True))
        if sys.byteorder == "big":
            decoded.byteswap()
        shape = [int(size) for size in str(data.get("shape", len(decoded))).split(",")]
        listed = decoded.tolist()
        if len(shape) == 2:
            rows, columns = shape
            return [listed[row * columns : (row + 1) * columns] for row in range(rows)]
        return listed
    except (KeyError, TypeError, ValueError) as error:
        raise UnsupportedChart(f"an array has an invalid binary encoding ({error!r})") from error


def text(title: object) -> str:
    """Return the plain text of a plotly title, which is a string or an object with a `text`."""
    title = title.get("text") if isinstance(title, dict) else title
    if title is None or isinstance(title, (dict, list)):
        return ""
    plain = _MARKUP.sub(lambda tag: " " if tag[0].lower().startswith("<br") else "", str(title))
    return unescape(plain).strip()


def kind(trace: dict) -> str:
    """Return a trace's mark as `points`, `line` or `bars`; otherwise plotly's type name."""
    name = str(trace.get("type") or "scatter")
    if name in ("scatter", "scattergl"):
        return "points" if trace.get("mode") == "markers" else "line"
    return {"bar": "bars"}.get(name, name)


def rounded(value: object) -> str:
    """Format a float with four significant digits, and any other value unchanged."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def is_present(value: object) -> bool:
    """Return whether `value` is neither None nor NaN."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def extent(data: list) -> str:
    """Return the range of numbers or dates as text, or up to six distinct names."""
    present = [value for value in data if is_present(value)]
    if not present:
        return "no values"
    if all(isinstance(value, str) and _DATE.fullmatch(value) for value in present):
        return f"{min(present)} to {max(present)}" if len(set(present)) > 1 else present[0]
    if all(isinstance(value, str) for value in present):
        names = list(dict.fromkeys(present))
        return ", ".join(names) if len(names) <= 6 else f"{len(names)} names"
    if all(isinstance(value, (int, float)) for value in present):
        return f"{rounded(min(present))} to {rounded(max(present))}"
    return f"{len(present)} values"


def category(value: object) -> str:
    """Return the label of a category."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return text(value)


def milliseconds(value: object) -> float | None:
    """Return a date as milliseconds since 1970, or None. Like plotly, this ignores time zones."""
    if not isinstance(value, str):
        return number(value)
    if (match := _DATE.fullmatch(value)) is None:
        return None
    day, time = match.groups()
    parts = [int(part) for part in day.split("-")]
    clock = [float(part) for part in (time or "0").split(":")]
    try:
        start = datetime(*[*parts, 1][:3])
    except ValueError:
        return None
    seconds = sum(part * unit for part, unit in zip(clock, (3600, 60, 1), strict=False))
    return (start - datetime(1970, 1, 1)).total_seconds() * 1000 + seconds * 1000


class Figure:
    """The content of plotly's MIME type: a list of traces and a layout."""

    def __init__(self, data: list[dict], layout: dict, rest: dict):
        self.data, self.layout, self.rest = data, layout, rest

    @staticmethod
    def read(figure: object) -> "Figure":
        """Parse the content of plotly's MIME type.

        Raises:
            UnsupportedChart: `figure` is not a plotly figure.
        """
        if not isinstance(figure, dict) or not isinstance(figure.get("data", []), list):
            raise UnsupportedChart("the figure has no list of traces")
        traces = figure.get("data") or []
        if not all(isinstance(trace, dict) for trace in traces):
            raise UnsupportedChart("a trace is not an object")
        rest = {
            "config": mapping(figure.get("config")),
            "frames": values(figure.get("frames")),
        }
        return Figure(traces, mapping(figure.get("layout")), rest)

    def json(self) -> dict:
        """Return the JSON object that plotly.js draws."""
        return {"data": self.data, "layout": self.layout, **self.rest}

    def axis(self, name: str) -> str:
        """Return the title of the axis `x` or `y`, or its name if it has no title."""
        return text(mapping(self.layout.get(f"{name}axis")).get("title")) or name

    def description(self) -> str:
        """Describe the chart: its title, and the size and value ranges of each trace."""
        sentences = [f"Chart: {text(self.layout.get('title')) or 'without a title'}."]
        for trace in self.data:
            try:
                x, y = values(trace.get("x")), values(trace.get("y"))
            except UnsupportedChart:
                x, y = [], []
            name = f"{text(trace['name'])}: " if trace.get("name") else ""
            horizontal = kind(trace) == "bars" and trace.get("orientation") == "h"
            names, lengths, length_axis = (y, x, "x") if horizontal else (x, y, "y")
            if kind(trace) not in ("points", "line", "bars"):
                sentences.append(f"{name}a trace of type {kind(trace)}.")
            elif kind(trace) == "bars" and len(names) <= 6:
                pairs = zip(names, lengths, strict=False)
                bars = "; ".join(f"{rounded(key)} {rounded(value)}" for key, value in pairs)
                sentences.append(f"{name}{self.axis(length_axis)} as bars: {bars}.")
            else:
                sentences.append(
                    f"{name}{max(len(x), len(y))} {kind(trace)}, {self.axis('x')} {extent(x)}, "
                    f"{self.axis('y')} {extent(y)}."
                )
        return " ".join(sentences)

    def picture(self) -> bytes:
        """Render the chart as PNG.

        Raises:
            UnsupportedChart: the picture would differ from plotly's drawing.
        """
        chart = _Picture(self).vega_lite()
        import vl_convert  # imported late, because it starts a JavaScript engine

        return vl_convert.vegalite_to_png(chart, allowed_base_urls=[])


def reject_if(condition: object, reason: str) -> None:
    """Raise `UnsupportedChart` with `reason` if `condition` is true."""
    if condition:
        raise UnsupportedChart(reason)


class _Axis:
    """An axis: its type, and the conversion from values to positions."""

    def __init__(self, name: str, layout: dict, data: list, *, has_bars: bool):
        self.name, self.layout, self.has_bars = name, layout, has_bars
        self._check()
        present = [value for value in data if is_present(value)]
        reject_if(
            any(isinstance(value, (list, dict)) for value in present),
            f"the {name} axis has nested categories",
        )
        self.type = self._type_of(present)
        self.names: list[str] = []
        if self.type == "category":
            order = self.layout.get("categoryorder") or (
                "array" if self.layout.get("categoryarray") else "trace"
            )
            used = list(dict.fromkeys(category(value) for value in present))
            listed = [category(value) for value in values(self.layout.get("categoryarray"))]
            if order == "trace":
                self.names = used
            elif order == "array":
                self.names = list(dict.fromkeys([*listed, *used]))
            elif order in ("category ascending", "category descending"):
                self.names = sorted(used, reverse=order.endswith("descending"))
            else:
                raise UnsupportedChart(f"the {name} axis has category order {order!r}")

    def _check(self) -> None:
        handled = {"title", "type", "range", "autorange", "rangemode", "categoryorder"}
        handled |= {"categoryarray", "tickformat", "tickangle"}
        defaults = {
            "domain": [0, 1],
            "visible": True,
            "showticklabels": True,
            "side": {"x": "bottom", "y": "left"}[self.name],
            "tickprefix": "",
            "ticksuffix": "",
        }
        for key, value in self.layout.items():
            if key in handled or value is None or value == defaults.get(key, object()):
                continue
            if key in ("rangeslider", "rangeselector") and not mapping(value).get("visible"):
                reject_if(mapping(value), f"the {self.name} axis has a {key}")
                continue
            reject_if(not _IGNORED_OF_AXIS.match(key), f"{self.name}axis.{key} is not supported")
        modes = ("normal", "tozero", None)
        rangemode = self.layout.get("rangemode")
        reject_if(
            rangemode not in modes, f"{self.name}axis.rangemode {rangemode!r} is not supported"
        )
        reject_if(
            self.layout.get("autorange") not in (None, True, False, "reversed"),
            f"{self.name}axis.autorange is not supported",
        )
        reject_if(values(self.layout.get("tickvals")), f"{self.name}axis.tickvals is not supported")

    def _type_of(self, present: list) -> str:
        given = self.layout.get("type") or "-"
        if given != "-":
            reject_if(
                given not in ("linear", "log", "date", "category"),
                f"{self.name}axis.type {given!r} is not supported",
            )
            return given
        if all(number(value) is not None for value in present if not is_infinite(value)):
            return "linear"
        if all(isinstance(value, str) and milliseconds(value) is not None for value in present):
            return "date"
        if all(isinstance(value, (str, bool)) for value in present):
            return "category"
        raise UnsupportedChart(f"the {self.name} axis has values of several types")

    def position(self, value: object) -> float | None:
        """Return a value's position as a number, or None if it has no position on this axis."""
        if not is_present(value):
            return None
        if self.type == "category":
            label = category(value)
            return self.names.index(label) if label in self.names else None
        if self.type == "date":
            return milliseconds(value)
        position = number(value)
        unplaceable = position is None or (self.type == "log" and position <= 0)
        return None if unplaceable else position

    def positions(self, data: list) -> list:
        """Return the position of each value, None where a value has none."""
        if self.type == "category":
            indices = {name: index for index, name in enumerate(self.names)}
            return [indices.get(category(v)) if is_present(v) else None for v in data]
        return [self.position(value) for value in data]

    def vega_lite(self, base: float | None) -> dict:
        """Return the axis as a Vega-Lite encoding.

        `base` is the lower end of bars on a logarithmic axis, otherwise None.
        """
        axis: dict = {"grid": self.type != "category"}
        scale: dict = {"zero": self.has_bars or self.layout.get("rangemode") == "tozero"}
        encoding = {"type": "quantitative", "title": text(self.layout.get("title")) or None}
        if self.type == "category":
            axis |= {
                "values": list(range(len(self.names))),
                "labelExpr": f"{json.dumps(self.names)}[datum.value]",
                "labelAngle": 0,
                "labelOverlap": True,
            }
            scale |= {"domain": [-0.5, max(len(self.names), 1) - 0.5], "nice": False, "zero": False}
        elif self.type == "date":
            encoding["type"] = "temporal"
            scale |= {"type": "utc", "nice": False, "zero": False}
        elif self.type == "log":
            scale |= {"type": "log", "zero": False, "nice": not self.has_bars}
            if base is not None:
                scale["domainMin"] = base
        if not self.has_bars and self.type != "category":
            scale["padding"] = 12  # a mark at the edge must not be clipped
        if self.layout.get("tickformat") and self.type != "category":
            axis["format"] = str(self.layout["tickformat"])
        if (angle := number(self.layout.get("tickangle"))) is not None:
            axis["labelAngle"] = angle
        if (given := values(self.layout.get("range"))) and self.layout.get("autorange") is not True:
            reject_if(len(given) != 2, f"{self.name}axis.range does not have two ends")
            ends = [milliseconds(end) if self.type == "date" else number(end) for end in given]
            reject_if(any(end is None for end in ends), f"{self.name}axis.range has an open end")
            if self.type == "log":
                reject_if(
                    max(abs(end) for end in ends) > 300, f"{self.name}axis.range is too large"
                )
                ends = [10**end for end in ends]
            reject_if(ends[0] == ends[1], f"{self.name}axis.range is empty")
            scale |= {"domain": sorted(ends), "nice": False, "zero": False}
            scale.pop("domainMin", None)
            scale.pop("padding", None)
            scale["reverse"] = ends[0] > ends[1]
        if self.layout.get("autorange") == "reversed":
            scale["reverse"] = True
        return encoding | {"axis": axis, "scale": scale}


def is_infinite(value: object) -> bool:
    """Return whether a value is infinite and therefore has no position on an axis."""
    return isinstance(value, float) and math.isinf(value)


class _Picture:
    """Convert a figure to Vega-Lite."""

    TRACE = re.compile(
        "type|x|y|name|mode|marker|line|text|opacity|orientation|connectgaps|xaxis|yaxis|visible|"
        "showlegend|x0|dx|y0|dy|width|offset|base|textposition|offsetgroup|alignmentgroup"
    )
    LAYOUT = re.compile(
        "title|xaxis|yaxis|width|height|margin|showlegend|barmode|bargap|bargroupgap"
    )

    def __init__(self, figure: Figure):
        self.layout = figure.layout
        hidden = (False, "legendonly")
        self.traces = [t for t in figure.data if t.get("visible", True) not in hidden]
        colourway = values(self.layout.get("colorway")) or values(
            mapping(mapping(self.layout.get("template")).get("layout")).get("colorway")
        )
        colours = dict(zip(map(id, figure.data), cycle(colourway or COLOURS), strict=False))
        self.colours = [self._colour(trace, colours[id(trace)]) for trace in self.traces]
        indices = {id(trace): index for index, trace in enumerate(figure.data)}
        self.names = [text(t.get("name")) or f"trace {indices[id(t)]}" for t in self.traces]
        reject_if(figure.rest["frames"], "the figure is animated")
        self._check()
        self.data = [self._data(trace) for trace in self.traces]
        count = sum(len(x) for x, _ in self.data)
        reject_if(count > MAX_MARKS, f"the figure has {count:,} marks, more than {MAX_MARKS:,}")
        self.bars = [trace for trace in self.traces if kind(trace) == "bars"]
        directions = {trace.get("orientation") or "v" for trace in self.bars}
        reject_if(len(directions) > 1, "the figure has both horizontal and vertical bars")
        self.horizontal = directions == {"h"}
        self.x = self._axis("x", 0, has_bars=bool(self.bars) and self.horizontal)
        self.y = self._axis("y", 1, has_bars=bool(self.bars) and not self.horizontal)
        self.base = None

    def _check(self) -> None:
        for trace in self.traces:
            name = str(trace.get("type") or "scatter")
            reject_if(
                kind(trace) not in ("points", "line", "bars"), f"trace type {name} is not supported"
            )
            for key, value in trace.items():
                handled = self.TRACE.fullmatch(key) or _IGNORED.match(key)
                empty = value is None or value == [] or value == {} or value == ""
                reject_if(not (handled or empty), f"{name}.{key} is not supported")
            other = {trace.get("xaxis") or "x", trace.get("yaxis") or "y"} != {"x", "y"}
            reject_if(other, "the figure has several pairs of axes")
            mode = str(trace.get("mode") or "")
            reject_if("text" in mode, "text at points is not supported")
            reject_if(mode == "none", "a trace has no marks")
            if kind(trace) == "bars":
                shown = trace.get("textposition") != "none" and any(
                    str(label).strip() for label in self._labels(trace)
                )
                reject_if(shown, "text at bars is not supported")
                for key in ("base", "offset", "width"):
                    reject_if(trace.get(key) is not None, f"bar.{key} is not supported")
            self._check_style(mapping(trace.get("marker")), "marker")
            self._check_style(mapping(trace.get("line")), "line")
        for key, value in self.layout.items():
            empty = value is None or value == [] or value == {} or value == ""
            handled = self.LAYOUT.fullmatch(key) or _IGNORED.match(key) or empty
            unused = re.fullmatch(r"[xy]axis\d+", key)
            reject_if(not (handled or unused), f"layout.{key} is not supported")

    @staticmethod
    def _labels(trace: dict) -> list:
        label = trace.get("text")
        return label if isinstance(label, list) else [label or ""]

    @staticmethod
    def _check_style(style: dict, name: str) -> None:
        for key, value in style.items():
            if value is None or value == {}:
                continue
            if key in ("color", "opacity", "size", "width"):
                reject_if(isinstance(value, (list, dict)), f"{name}.{key} varies within a trace")
                colour = key != "color" or (isinstance(value, str) and parse_color(value))
                reject_if(not colour, f"{name}.color {value!r} is not a CSS colour")
            elif key == "symbol":
                reject_if(
                    not isinstance(value, str) or value not in _SYMBOLS,
                    f"{name}.{key} {value!r} is not supported",
                )
            elif key == "dash":
                reject_if(
                    not isinstance(value, str) or value not in _DASHES,
                    f"{name}.{key} {value!r} is not supported",
                )
            elif key == "shape":
                reject_if(
                    not isinstance(value, str) or value not in _SHAPES,
                    f"{name}.{key} {value!r} is not supported",
                )
            elif key == "line" and name == "marker":
                widths = mapping(value).get("width")
                reject_if(
                    widths not in (None, 0) and mapping(value).get("color"),
                    "outlined marks are not supported",
                )
            elif key not in (
                "simplify",
                "showscale",
                "sizemode",
                "sizeref",
                "sizemin",
                "smoothing",
            ):
                reject_if(
                    key != "pattern" or mapping(value).get("shape"),
                    f"{name}.{key} is not supported",
                )

    @staticmethod
    def _colour(trace: dict, default: object) -> str:
        for part in ("marker", "line"):
            own = mapping(trace.get(part)).get("color")
            if isinstance(own, str):
                return own
        return str(default)

    @staticmethod
    def _data(trace: dict) -> tuple[list, list]:
        """Return the coordinates of a trace. Like plotly, count up if `x` or `y` is missing."""
        x, y = values(trace.get("x")), values(trace.get("y"))
        length = min(len(x), len(y)) if x and y else max(len(x), len(y))

        def counted(name: str) -> list:
            start, step = number(trace.get(f"{name}0")) or 0, trace.get(f"d{name}")
            step = 1 if number(step) is None else number(step)
            return [start + step * index for index in range(length)]

        return (x or counted("x"))[:length], (y or counted("y"))[:length]

    def _axis(self, name: str, part: int, *, has_bars: bool) -> _Axis:
        coordinates = [value for pair in self.data for value in pair[part]]
        return _Axis(name, mapping(self.layout.get(f"{name}axis")), coordinates, has_bars=has_bars)

    def vega_lite(self) -> dict:
        """Return the Vega-Lite chart."""
        reject_if(not self.traces, "the figure has no visible trace")
        bars = self._rectangles()
        layers = []
        for index, trace in enumerate(self.traces):
            layers += bars.pop(0) if kind(trace) == "bars" else self._marks(index, trace)
        reject_if(not layers, "the figure has no drawable values")
        encodings = {"x": self.x.vega_lite(self.base), "y": self.y.vega_lite(self.base)}
        for layer in layers:
            for name in ("x", "y"):
                layer["encoding"][name] = encodings[name] | layer["encoding"][name]
        shown = self.layout.get("showlegend")
        named = [
            (name, colour)
            for trace, name, colour in zip(self.traces, self.names, self.colours, strict=True)
            if trace.get("showlegend") is not False
        ]
        if shown is None:
            shown = len(self.traces) > 1 or any(t.get("showlegend") for t in self.traces)
        unique = dict(named)
        legend = {"title": text(mapping(self.layout.get("legend")).get("title")) or None}
        for layer in layers:
            layer["encoding"]["color"] = {
                "datum": layer.pop("trace"),
                "type": "nominal",
                "scale": {"domain": list(self._all_colours()), "range": self._range()},
                "legend": legend | {"values": list(unique)} if shown and unique else None,
            }
        margin = mapping(self.layout.get("margin"))

        def size(key: str, default: int, low: str, high: str) -> float:
            whole = number(self.layout.get(key)) or default
            edges = [number(margin.get(side)) for side in (low, high)]
            inner = whole - sum(80 if edge is None else edge for edge in edges)
            return min(max(inner, 50), 4000)

        return {
            "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
            "title": text(self.layout.get("title")),
            "width": size("width", WIDTH, "l", "r"),
            "height": size("height", HEIGHT, "t", "b"),
            "background": "white",
            "layer": layers,
            "config": {"legend": {"symbolOpacity": 1}},
        }

    def _all_colours(self) -> dict[str, str]:
        colours: dict[str, str] = {}
        for name, colour in zip(self.names, self.colours, strict=True):
            reject_if(
                colours.get(name, colour) != colour,
                "traces with the same name have different colours",
            )
            colours[name] = colour
        return colours

    def _range(self) -> list[str]:
        return list(self._all_colours().values())

    def _marks(self, trace_index: int, trace: dict) -> list[dict]:
        """Return the layers of a trace with points, a line or both."""
        xs, ys = (
            self.x.positions(self.data[trace_index][0]),
            self.y.positions(self.data[trace_index][1]),
        )
        rows, segment = [], 0
        for index, (x, y) in enumerate(zip(xs, ys, strict=True)):
            if x is None or y is None:
                segment += not trace.get("connectgaps")
                continue
            rows.append({"x": x, "y": y, "i": index, "segment": segment})
        if not rows:
            return []
        mode = trace.get("mode")
        if mode is None:
            mode = "lines+markers" if len(xs) < 20 else "lines"
        marker, line = mapping(trace.get("marker")), mapping(trace.get("line"))
        whole = number(trace.get("opacity"))
        whole = 1 if whole is None else whole
        layers = []
        base = {"x": {"field": "x"}, "y": {"field": "y"}}
        if "lines" in mode:
            width = number(line.get("width"))
            mark = {
                "type": "line",
                "clip": True,
                "opacity": whole,
                "strokeWidth": 2 if width is None else width,
                "strokeDash": _DASHES[line.get("dash") or "solid"],
                "interpolate": _SHAPES[line.get("shape") or "linear"],
            }
            order = {"order": {"field": "i"}, "detail": {"field": "segment", "type": "nominal"}}
            layers.append({"mark": mark, "encoding": {k: dict(v) for k, v in base.items()} | order})
        if "markers" in mode:
            size, opacity = number(marker.get("size")), number(marker.get("opacity"))
            mark = {
                "type": "point",
                "filled": True,
                "clip": True,
                "shape": _SYMBOLS[marker.get("symbol") or "circle"],
                "size": math.pi / 4 * (6 if size is None else size) ** 2,
                "opacity": whole * (1 if opacity is None else opacity),
            }
            layers.append({"mark": mark, "encoding": {k: dict(v) for k, v in base.items()}})
        reject_if(not layers, f"scatter.mode {mode!r} is not supported")
        for layer in layers:
            layer |= {"data": {"values": rows}, "trace": self.names[trace_index]}
        return layers

    def _rectangles(self) -> list[list[dict]]:
        """Return, for each trace with bars, a list with at most one layer of rectangles."""
        if not self.bars:
            return []
        along, lengths = (self.y, self.x) if self.horizontal else (self.x, self.y)
        reject_if(lengths.type in ("category", "date"), "the lengths of bars are not numbers")
        mode = self.layout.get("barmode") or "group"
        reject_if(
            mode not in ("group", "stack", "relative", "overlay"),
            f"layout.barmode {mode!r} is not supported",
        )
        placed = []
        for index, trace in enumerate(self.traces):
            if kind(trace) == "bars":
                x, y = self.data[index]
                pairs = (y, x) if self.horizontal else (x, y)
                placed.append(
                    list(zip(along.positions(pairs[0]), lengths.positions(pairs[1]), strict=True))
                )
        self._check_bars(mode, placed, along, lengths)
        starts = sorted({start for bars in placed for start, _ in bars if start is not None})
        gaps = [b - a for a, b in pairwise(starts)]
        step = min(gaps) if gaps and along.type != "category" else 1
        if along.type == "date" and not gaps:
            step = 86_400_000
        gap = number(self.layout.get("bargap"))
        width = step * (1 - (0.2 if gap is None else gap))
        slots = len(placed) if mode == "group" else 1
        between = number(self.layout.get("bargroupgap")) or 0
        if lengths.type == "log":
            positive = [length for bars in placed for _, length in bars if length]
            reject_if(not positive, "the figure has no drawable values")
            self.base = 10.0 ** (math.ceil(math.log10(min(positive))) - 1)
        ends: dict[tuple, float] = {}
        layers = []
        for slot, (bars, trace) in enumerate(zip(placed, self.bars, strict=True)):
            rows = []
            for start, length in bars:
                if start is None or length is None:
                    continue
                low = start - width / 2 + (slot * width / slots if mode == "group" else 0)
                narrow = width / slots * (1 - between)
                low += width / slots * between / 2
                bottom, top = self.base or 0, length
                if mode in ("stack", "relative"):
                    key = (start, length < 0)
                    bottom = ends.get(key, bottom)
                    top = bottom + length
                    ends[key] = top
                rows.append({"a": low, "b": low + narrow, "c": bottom, "d": top})
            across, up = {"field": "a"}, {"field": "c"}
            encoding = (
                {"y": across, "y2": {"field": "b"}, "x": up, "x2": {"field": "d"}}
                if self.horizontal
                else {"x": across, "x2": {"field": "b"}, "y": up, "y2": {"field": "d"}}
            )
            opacities = (trace.get("opacity"), mapping(trace.get("marker")).get("opacity"))
            opacity = math.prod(1 if number(o) is None else number(o) for o in opacities)
            name = self.names[[id(t) for t in self.traces].index(id(trace))]
            mark = {"type": "rect", "clip": True, "opacity": opacity}
            layer = {"mark": mark, "encoding": encoding, "data": {"values": rows}, "trace": name}
            layers.append([layer] if rows else [])
        return layers

    def _check_bars(self, mode: str, placed: list, along: _Axis, lengths: _Axis) -> None:
        reject_if(along.type == "log", "bars are positioned on a logarithmic axis")
        groups = [trace.get("offsetgroup") for trace in self.bars]
        reject_if(
            len(set(map(str, groups))) not in (1, len(groups)),
            "only some traces with bars share an offsetgroup",
        )
        if mode in ("stack", "relative"):
            reject_if(lengths.type == "log", "bars are stacked on a logarithmic axis")
            reject_if(any(groups), "stacked bars have an offsetgroup")
        negative = any(length < 0 for bars in placed for _, length in bars if length is not None)
        reject_if(mode == "stack" and negative, "bars with negative length are stacked")
        for bars in placed:
            present = [start for start, _ in bars if start is not None]
            reject_if(
                len(present) != len(set(present)), "several bars of a trace have the same position"
            )


def description(figure: dict) -> str:
    """Describe a chart as text. `figure` is the content of plotly's MIME type."""
    try:
        return Figure.read(figure).description()
    except UnsupportedChart:
        return "Chart: not readable."


def add_pictures(notebook: NotebookNode) -> list[str]:
    """Add a PNG picture and a description to each chart of an executed notebook.

    Returns one message for each chart that can't be rendered. Such a chart stays unchanged.
    """
    messages = []
    for number_, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", []):
            if MIME not in output.get("data", {}):
                continue
            try:
                figure = Figure.read(output.data[MIME])
                png = figure.picture()
                alternative_text = figure.description()
            except UnsupportedChart as error:
                reason = str(error)
            except Exception as error:  # a renderer's bug must not lose the executed notebook
                reason = " ".join(str(error).split())[:200] or type(error).__name__
            else:
                output.data["image/png"] = base64.b64encode(png).decode()
                output.setdefault("metadata", {})["image/png"] = {"alt": alternative_text}
                continue
            messages.append(f"cell {number_}: the chart has no static picture: {reason}.")
    return messages
