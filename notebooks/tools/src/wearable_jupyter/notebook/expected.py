"""What an executed notebook shows, without what differs from run to run.

A number that is measured stands behind ≈, so everything from that sign to the end of its line is
left out, and so are a table's column with the sign in its name and the values of a chart with the
sign in a title. The rest must be the same in
every run of a commit. `notebooks/expected/NAME.md` holds it as text, for people to read in a diff.
"""

import difflib
import json
import re
from pathlib import Path

from nbformat import NotebookNode

from ..export import charts
from ..setup import layout
from .runner import describe

MEASURED = "≈"
# Sums over floats may be taken in any order, which changes their last digits.
DIGITS = 9


def without_measurements(text: str) -> str:
    """`text` without measured columns, each other line of it up to the first measured number."""
    lines = without_columns(text.splitlines())
    cut = (line.partition(MEASURED) for line in lines)
    return "\n".join(before + sign for before, sign, _ in cut)


def without_columns(lines: list[str]) -> list[str]:
    """Lines of which a table, as polars draws it, may be part, without its measured columns."""
    made, measured = [], []
    for line in lines:
        parts = re.split("[┆┬╪┴]", line) if line[:1] in "│┌╞└" and len(line) > 1 else []
        if line.startswith("│") and any(MEASURED in part for part in parts):
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
    return MEASURED in json.dumps(figure["layout"], ensure_ascii=False)


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
                figure["data"] = [trace | {"x": None, "y": None} for trace in figure["data"]]
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
    figure = output.data.get(charts.MIME)
    if figure is not None:
        if is_measured(figure):
            figure = figure | {"data": [t | {"x": t.get("x"), "y": []} for t in figure["data"]]}
        return charts.description(figure)
    return without_measurements(output.data.get("text/plain", ""))


def render(notebook: NotebookNode) -> str:
    """What an executed notebook shows, as Markdown: a heading for each cell that shows text.

    Sources that a cell shows are not repeated here.
    """
    parts = ["# What the cells show, without measurements\n"]
    for cell in notebook.cells:
        if cell.cell_type != "code" or "shows-source" in cell.metadata.get("tags", []):
            continue
        text = "\n".join(text_of(output).rstrip() for output in cell.outputs).strip("\n")
        if text:
            parts.append(f"## {cell.id}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def file(notebook: Path) -> Path:
    """Where the expected text of a notebook is kept."""
    return notebook.parent / "expected" / f"{notebook.stem}.md"


def differences(executed: NotebookNode, notebook: Path) -> dict[int | None, str]:
    """What differs from the kept text: by the index of a cell, what and how, as a diff.

    Under None stands what is of no cell: that there is no kept text, or a cell is not there.
    """
    path = file(notebook)
    name, update = layout.shown(path), f"./justw check --update {notebook.stem}"
    if not path.is_file():
        return {None: f"{name} is missing. Make it: {update}"}
    kept, shown = sections(path.read_text()), sections(render(executed))
    found = {}
    for index, cell in enumerate(executed.cells):
        before, after = kept.pop(cell.id, ""), shown.get(cell.id, "")
        if before != after:
            diff = difflib.unified_diff(
                before.splitlines(), after.splitlines(), str(name), "this run", lineterm=""
            )
            reason = f"it does not show what {name} says; if that is meant: {update}"
            found[index] = describe(executed, index, "\n".join([reason, *diff]))
    if kept:
        found[None] = f"{name} has cells that are gone: {', '.join(kept)}. Mend it: {update}"
    return found


def sections(text: str) -> dict[str, str]:
    """The text under each cell's heading."""
    parts = (part.partition("\n") for part in text.split("\n## ")[1:])
    return {name: body.strip("\n") for name, _, body in parts}
