"""What an executed notebook shows, without what differs from run to run.

A number that is measured stands behind ≈, so everything from that sign to the end of its line is
left out, and so are a table's column with the sign in its name and the values of a chart with the
sign in a title. The rest must be the same in
every run of a commit. `notebooks/expected/NAME.md` holds it as text, for people to read in a diff.
"""

import difflib
import json
import re
from collections.abc import Iterable
from pathlib import Path

from nbformat import NotebookNode

from ..export import charts
from ..setup import paths
from ..setup.errors import UserError
from .streams import without_colors
from .strict_run import describe

MEASURED = "≈"
# Sums over floats may be taken in any order, which changes their last digits.
DIGITS = 9
# Lines of a difference that are printed.
DIFF_LINES = 200


def without_measurements(text: str) -> str:
    """`text` without measured columns, each other line of it up to the first measured number."""
    lines = without_columns(text.split("\n"))
    cut = (line.partition(MEASURED) for line in lines)
    return "\n".join(before + sign for before, sign, _ in cut)


def without_columns(lines: list[str]) -> list[str]:
    """Lines of which a table, as polars draws it, may be part, without its measured columns."""
    made, measured = [], []
    for line in lines:
        parts = re.split("[┆┬╪┴]", line) if line[:1] in "│┌╞└" and len(line) > 1 else []
        is_header = line.startswith("│") and made and made[-1].startswith("┌")
        if is_header and any(MEASURED in part for part in parts):
            measured = [at for at, part in enumerate(parts) if MEASURED in part]
            border = re.split("[┬]", made[-1])
            made[-1] = "┬".join(p for at, p in enumerate(border) if at not in measured)
        if parts and measured:
            line = "┆".join(part for at, part in enumerate(parts) if at not in measured)
        if line.startswith("└"):
            measured = []
        made.append(line)
    return made


def rounded(value: object) -> object:
    """A value of JSON with its floats to `DIGITS` digits."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def is_measured(figure: dict) -> bool:
    """Whether a chart shows measurements, which its titles say."""
    return MEASURED in json.dumps(figure.get("layout", {}), ensure_ascii=False)


def comparable(output: NotebookNode) -> object:
    """An output of a cell, so that it equals the same output of another run."""
    if output.output_type == "stream":
        return {output.name: without_measurements(output.text)}
    if output.output_type == "error":
        return {"error": output.evalue}
    shown = {}
    for mime, value in output.data.items():
        if mime == charts.MIME:
            figure = rounded(value)
            if is_measured(value):
                traces = figure.get("data", [])
                figure["data"] = [trace | {"x": None, "y": None} for trace in traces]
            shown[mime] = figure
        elif mime == "text/html" and f">{MEASURED}" in value:
            shown[mime] = MEASURED  # the same table is there as text
        elif isinstance(value, str) and mime.startswith("text/"):
            shown[mime] = without_measurements(value)
    return shown


def outputs(notebook: NotebookNode) -> dict[str, list]:
    """All outputs of an executed notebook by the cell's id, comparable."""
    return {
        cell.id: [comparable(output) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    }


def text_of(output: NotebookNode) -> str:
    """An output as text, without measurements."""
    if output.output_type == "stream":
        return without_measurements(output.text)
    if output.output_type == "error":
        return without_measurements(f"{output.ename}: {output.evalue}")
    figure = output.data.get(charts.MIME)
    if figure is not None:
        if is_measured(figure):
            traces = figure.get("data", [])
            figure = figure | {"data": [t | {"x": t.get("x"), "y": []} for t in traces]}
        return charts.description(figure)
    return without_measurements(str(output.data.get("text/plain", "")))


# Control characters have no place in a text file: each is shown as its picture, such as ␀.
PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n"} | {0x7F: "␡"}


def normalized(text: str) -> str:
    """`text` as it survives a file and an editor: no colors, control characters as pictures, lines
    that end in a line feed, without spaces at their end."""
    text = without_colors(text).replace("\r\n", "\n").translate(PICTURES)
    text = text.encode(errors="backslashreplace").decode()
    return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")


def shown_texts(notebook: NotebookNode) -> dict[str, str]:
    """What each cell shows as text, by the cell's id; cells that show none are left out.

    Sources that a cell shows are not repeated here.
    """
    shown = {}
    for cell in notebook.cells:
        if cell.cell_type != "code" or "shows-source" in cell.metadata.get("tags", []):
            continue
        text = normalized("\n".join(text_of(output).rstrip() for output in cell.outputs))
        if text:
            shown[cell.id] = text
    return shown


def render(notebook: NotebookNode) -> str:
    """What an executed notebook shows, as Markdown: a heading for each cell that shows text."""
    parts = ["# What the cells show, without measurements\n"]
    for name, text in shown_texts(notebook).items():
        fence = "`" * max([3, *(1 + len(run) for run in re.findall("`+", text))])
        parts.append(f"## {name}\n\n{fence}text\n{text}\n{fence}\n")
    return "\n".join(parts)


def file(notebook: Path) -> Path:
    """Where the expected text of a notebook is kept."""
    return notebook.parent / "expected" / f"{notebook.stem}.md"


def differences(executed: NotebookNode, notebook: Path, update: str) -> dict[int | None, str]:
    """What differs from the kept text: by the index of a cell, what and how, as a diff.

    Under None stands what is of no cell: that there is no kept text, or a cell is not there.
    `update` is the command that keeps what is shown now.
    """
    path = file(notebook)
    name = paths.display_path(path)
    try:
        kept = sections(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {None: f"{name} is missing. Make it: {update}"}
    except (OSError, ValueError) as error:
        raise UserError(f"{name} cannot be read: {error}. Make it again: {update}") from error
    shown = shown_texts(executed)
    found = {}
    for index, cell in enumerate(executed.cells):
        before, after = kept.pop(cell.id, ""), shown.get(cell.id, "")
        if before != after:
            diff = difflib.unified_diff(
                before.split("\n"), after.split("\n"), str(name), "this run", lineterm=""
            )
            reason = f"it does not show what {name} says; if that is meant: {update}"
            found[index] = describe(executed, index, "\n".join([reason, *shortened(diff)]))
    if kept:
        found[None] = f"{name} has cells that are gone: {', '.join(kept)}. Mend it: {update}"
    return found


def shortened(diff: Iterable[str]) -> list[str]:
    """The first lines of a diff, and how many there are besides."""
    lines = list(diff)
    more = len(lines) - DIFF_LINES
    return lines[:DIFF_LINES] + ([f"… and {more} more lines"] if more > 0 else [])


SECTION = re.compile(
    r"^## (?P<name>\S+)\n\n(?P<fence>`{3,})text\n(?P<text>.*?)\n(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)


def sections(text: str) -> dict[str, str]:
    """The text under each cell's heading; a heading inside a cell's text is text."""
    return {found["name"]: normalized(found["text"]) for found in SECTION.finditer(text)}
