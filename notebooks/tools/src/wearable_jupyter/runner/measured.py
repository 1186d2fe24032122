"""Replaces values that differ in each run with placeholders, so that two runs can be compared.

Paths of the project, the dataset and the outputs are replaced in every cell. Measured values are
replaced only in a cell whose tags declare its measurement:

- `measures-time`: durations (`0.12 s`, `3 min`) and rates (`12.5 million rows/s`),
- `measures-bytes`: sizes of memory and files (`12.3 MB`),
- `measures-rows`: row counts (`1,234 rows`).

In such a cell, these values are not compared:

- numbers with such a unit,
- factors (`1.3x`, also with a multiplication sign, and `1.3 times`),
- columns of tables, and axes of charts, whose name contains such a unit (`seconds`, `peak_mb`,
  `Time (s)`) or the word *speedup*.

All other values are compared: in a cell without the tags everything, in every cell percentages and
numbers without a unit.
"""

import os
import re
from collections.abc import Iterable

from ..export import charts
from ..setup import paths
from .streams import without_colors

PREFIX = "measures-"
NUMBER = r"(?<![\w.])[+-]?(?:\d[\d,_]*(?:\.\d+)?(?:e[+-]?\d+)?|NaN|inf)"
# For each tag: the placeholder, the units after a number, and the words in names of columns and
# axes. Names of columns do not contain `min`, which is a minimum there.
UNITS = {
    "measures-time": (
        "<time>",
        r"[nuµμm]?s|secs?|seconds?|mins?|minutes?|h|hours?"
        r"|(?:(?:million )?rows|[kKMGT]?i?B)(?:/s| per second)",
        {"s", "sec", "secs", "second", "seconds", "minutes", "ns", "us", "µs", "μs", "ms"},
    ),
    "measures-bytes": (
        "<bytes>",
        r"[kKMGT]i?B|bytes?",
        {"byte", "bytes", "kb", "mb", "gb", "tb", "kib", "mib", "gib", "tib"},
    ),
    "measures-rows": ("<rows>", r"(?:million )?rows?(?![/ ](?:s|per)\b)", {"rows"}),
}
FACTOR, FACTOR_NAMES = "<factor>", {"speedup", "slowdown"}
FACTORS = re.compile(rf"{NUMBER}(?:x|\s?\u00d7(?!\s?\d))(?!\w)|(?<![\w.])\d+\.\d+ times\b")
# Values of a table that are no measurements: a null, and a row of dots.
KEPT = ("", "null", "…")


def values_with(unit: str) -> str:
    """A pattern of a number with a unit, or of a range such as `0.1 to 0.2 s`."""
    value = rf"{NUMBER}\s?(?:{unit})"
    return rf"(?:{NUMBER}\s?(?:{unit})?\s*(?:to|[\u2013\u2014-]|…)\s*)?{value}(?![\w/])"


def measurements(tags: Iterable[str]) -> list[str]:
    """The tags that declare a measurement."""
    return [tag for tag in tags if tag in UNITS]


def project_directories() -> dict[str, str]:
    """The directories that differ between clones, with the names that replace them."""
    outputs = os.environ.get("WEARABLE_OUTPUT_DIR") or paths.OUTPUTS
    return {str(paths.data_directory()): "data", str(outputs): "outputs", str(paths.ROOT): ""}


class Normalizer:
    """Replaces paths, and the measured values that a cell's tags declare.

    `directories` maps absolute paths to the names that replace them.
    """

    def __init__(self, tags: Iterable[str], directories: dict[str, str]) -> None:
        self.units = [UNITS[tag] for tag in measurements(tags)]
        names = sorted(directories, key=len, reverse=True)
        self.directories = [
            (re.compile(rf"(?<![\w.-]){re.escape(name)}(/|(?![\w.-]))"), directories[name])
            for name in names
        ]
        self.numbers = [
            (re.compile(rf"[ ]*{values_with(unit)}[ ]*"), placeholder)
            for placeholder, unit, _ in self.units
        ]
        if self.units:
            self.numbers.append((re.compile(rf"[ ]*(?:{FACTORS.pattern})[ ]*"), FACTOR))

    def text(self, text: str) -> str:
        """An output's text: lines, and tables in polars' form."""
        lines = without_colors(text).replace("\r\n", "\n").split("\n")
        result: list[str] = []
        while lines:
            end = 1 + next((n for n, line in enumerate(lines) if line.startswith("└")), -1)
            if lines[0].startswith("┌") and end:
                result += self._box(lines[:end])
                del lines[:end]
            else:
                result.append(self._values(lines.pop(0)))
        return "\n".join(result)

    def aligned_table(self, text: str) -> str:
        """A table in columns of text, with a line below it, as `head` shows a frame."""
        *lines, last = text.rstrip("\n").split("\n")
        starts = (
            [match.start() for match in re.finditer(r"\S+(?: \S+)*", lines[0])] if lines else []
        )
        ends = [*starts[1:], None]
        rows = [
            [line[start:end].strip() for start, end in zip(starts, ends, strict=True)]
            for line in lines
        ]
        masked = self._table(rows, 1)
        if masked != rows:
            widths = [max(map(len, column)) for column in zip(*masked, strict=True)]
            lines = [
                "  ".join(
                    value.ljust(width) for value, width in zip(row, widths, strict=True)
                ).rstrip()
                for row in masked
            ]
        return "\n".join([*lines, self._values(last)])

    def chart(self, figure: dict) -> dict:
        """A chart without the values on measured axes."""
        figure = self.json(figure)
        layout = charts.mapping(figure.get("layout"))
        traces = []
        for trace in figure.get("data", []):
            trace = dict(trace)
            for name in "xy":
                axis = str(trace.get(f"{name}axis") or name).replace(name, f"{name}axis")
                options = charts.mapping(layout.get(axis))
                placeholder = self._placeholder(charts.text(options.get("title")))
                if placeholder:
                    trace[name] = [placeholder] * len(charts.values(trace.get(name)))
                    layout = layout | {axis: {k: v for k, v in options.items() if k != "range"}}
            traces.append(trace)
        return figure | {"data": traces, "layout": layout}

    def json(self, value: object) -> object:
        """A JSON value with its strings replaced."""
        if isinstance(value, str):
            return self._values(value)
        if isinstance(value, dict):
            return {key: self.json(item) for key, item in value.items()}
        return [self.json(item) for item in value] if isinstance(value, list) else value

    def paths(self, text: str) -> str:
        """`text` with the names of directories instead of their paths."""
        for pattern, name in self.directories:
            text = pattern.sub(lambda match, name=name: self._named(name, match[1]), text)
        return text

    @staticmethod
    def _named(name: str, slash: str) -> str:
        return f"{name}{slash}" if name else "" if slash else "."

    def _values(self, line: str) -> str:
        """A line without paths and measured numbers."""
        line = self.paths(line)
        for pattern, placeholder in self.numbers:
            line = pattern.sub(lambda match, new=placeholder: spaced(match[0], new), line)
        return line

    def _placeholder(self, name: str) -> str | None:
        """The placeholder for values of a column or an axis, or None if they are compared."""
        words = set(re.split(r"[\W_]+", name.lower()))
        for placeholder, _, units in self.units:
            if words & units:
                return placeholder
        return FACTOR if self.units and words & FACTOR_NAMES else None

    def _table(self, rows: list[list[str]], head: int) -> list[list[str]]:
        """The rows of a table with `head` header rows, without measured columns and values."""
        names = ["".join(column) for column in zip(*rows[:1], strict=True)]
        columns = [self._placeholder(name) for name in names]
        return rows[:head] + [
            [
                column if column and value not in KEPT else self._values(value)
                for column, value in zip(columns, row, strict=True)
            ]
            for row in rows[head:]
        ]

    def _box(self, lines: list[str]) -> list[str]:
        """A table that polars prints, with the widths of its new values."""
        rows = [
            [cell.strip() for cell in line[1:-1].split("┆")] for line in lines if line[0] == "│"
        ]
        head = next((n for n, line in enumerate(lines) if line.startswith("╞")), 1) - 1
        if len({len(row) for row in rows}) != 1 or any(len(line) < 2 for line in lines):
            return [self._values(line) for line in lines]
        masked = self._table(rows, head)
        if masked == rows:
            return lines
        widths = [max(map(len, column)) for column in zip(*masked, strict=True)]
        result, rest = [], iter(masked)
        for line in lines:
            if line[0] == "│":
                cells = zip(next(rest), widths, strict=True)
                result.append(f"│ {' ┆ '.join(cell.ljust(width) for cell, width in cells)} │")
            else:
                between = {"┌": "┬", "╞": "╪", "└": "┴"}.get(line[0], line[0])
                bars = (line[1] * (width + 2) for width in widths)
                result.append(f"{line[0]}{between.join(bars)}{line[-1]}")
        return result


def spaced(match: str, placeholder: str) -> str:
    """The placeholder with at most one space on each side, because padding varies too."""
    return f"{' ' * match.startswith(' ')}{placeholder}{' ' * match.endswith(' ')}"
