"""Compares the outputs of an executed notebook with its snapshot.

`notebooks/expected/NAME.md` contains the outputs as readable text. `measured` replaces paths, and
the measured values of cells that are tagged for it, with placeholders. All other output must be the
same in every run of a commit.
"""

import difflib
import re
from collections.abc import Iterable
from itertools import chain, combinations
from pathlib import Path

from nbformat import NotebookNode

from ..export import charts
from ..setup import paths
from ..setup.errors import UserError
from .measured import UNITS, Normalizer, measurements, project_directories
from .streams import without_colors
from .strict_run import describe

# Summing floats in another order changes their last digits.
DIGITS = 9
# The maximum number of printed lines of a diff.
DIFF_LINES = 200


def rounded(value: object) -> object:
    """A JSON value with its floats rounded to `DIGITS` digits."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def normalizer(cell: NotebookNode, directories: dict[str, str] | None) -> Normalizer:
    """Replaces what differs between runs in a cell's outputs."""
    return Normalizer(cell.metadata.get("tags", []), directories or project_directories())


def comparable(output: NotebookNode, normal: Normalizer) -> object:
    """An output in a form that is equal in another run."""
    if output.output_type in ("stream", "error"):
        return {output.output_type: text_of(output, normal)}
    shown = {}
    for mime, value in output.data.items():
        if mime == charts.MIME:
            shown[mime] = rounded(normal.chart(value))
        elif mime == "text/html" and normal.units:
            shown[mime] = "<table" in value  # the text form has the same values
        elif mime == "text/plain":
            shown[mime] = text_of(output, normal)
        elif isinstance(value, str) and mime.startswith("text/"):
            shown[mime] = normal.paths(value)
    return shown


def outputs(notebook: NotebookNode, directories: dict[str, str] | None = None) -> dict[str, list]:
    """All outputs of an executed notebook by the cell's id, comparable.

    `directories` maps the directories of the run to names; the default is this process's.
    """
    return {
        cell.id: [comparable(output, normalizer(cell, directories)) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    }


def text_of(output: NotebookNode, normal: Normalizer) -> str:
    """An output as text, without measurements."""
    if output.output_type == "stream":
        return normal.text(output.text)
    if output.output_type == "error":
        return normal.text(f"{output.ename}: {output.evalue}")
    figure = output.data.get(charts.MIME)
    if figure is not None:
        return charts.description(normal.chart(figure))
    text = str(output.data.get("text/plain", ""))
    is_table = "<table" in output.data.get("text/html", "") and "┌" not in text
    return normal.aligned_table(text) if is_table else normal.text(text)


# Control characters are written as their symbols, such as ␀.
PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n"} | {0x7F: "␡"}


def normalized(text: str) -> str:
    """`text` in a form that editors do not change.

    Without colours and trailing spaces, with line feeds, and with symbols for control characters.
    """
    text = without_colors(text).replace("\r\n", "\n").translate(PICTURES)
    text = text.encode(errors="backslashreplace").decode()
    return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")


def shown_texts(
    notebook: NotebookNode, directories: dict[str, str] | None = None
) -> dict[str, str]:
    """The text output of each cell, by its id; omits cells without text.

    `directories` as in `outputs`.
    """
    shown = {}
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        normal = normalizer(cell, directories)
        text = normalized("\n".join(text_of(output, normal).rstrip() for output in cell.outputs))
        if text:
            shown[cell.id] = text
    return shown


def render(notebook: NotebookNode, directories: dict[str, str] | None = None) -> str:
    """The snapshot of an executed notebook: Markdown with a heading for each cell.

    `directories` as in `outputs`.
    """
    parts = ["# Outputs of the cells, without measurements\n"]
    for name, text in shown_texts(notebook, directories).items():
        fence = "`" * max([3, *(1 + len(run) for run in re.findall("`+", text))])
        parts.append(f"## {name}\n\n{fence}text\n{text}\n{fence}\n")
    return "\n".join(parts)


def file(notebook: Path) -> Path:
    """The path of a notebook's snapshot."""
    return notebook.parent / "expected" / f"{notebook.stem}.md"


def differences(
    executed: NotebookNode,
    notebook: Path,
    update: str,
    directories: dict[str, str] | None = None,
) -> dict[int | None, str]:
    """The differences from the snapshot: a diff for each cell, by its index.

    The key None has faults of no cell: a missing snapshot, or sections without a cell. `update` is
    the command that updates the snapshot. `directories` as in `outputs`.
    """
    path = file(notebook)
    name = paths.display_path(path)
    try:
        snapshot = sections(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {None: f"{name} does not exist. Create it: {update}"}
    except (OSError, ValueError) as error:
        raise UserError(f"{name} could not be read: {error}. Create it again: {update}") from error
    shown = shown_texts(executed, directories)
    faults = {}
    for index, cell in enumerate(executed.cells):
        before, after = snapshot.pop(cell.id, ""), shown.get(cell.id, "")
        if before != after:
            diff = difflib.unified_diff(
                before.split("\n"), after.split("\n"), str(name), "this run", lineterm=""
            )
            reason = f"its output differs from {name}. To accept the new output: {update}"
            if missing := missing_tags(cell, before, after):
                reason += (
                    f"\nOnly measured values differ. To exclude them from the comparison, "
                    f"add to the cell: {', '.join(missing)}"
                )
            faults[index] = describe(executed, index, "\n".join([reason, *shortened(diff)]))
    if snapshot:
        gone = ", ".join(snapshot)
        faults[None] = f"{name} has sections without a cell: {gone}. Delete them: {update}"
    return faults


def missing_tags(cell: NotebookNode, before: str, after: str) -> list[str]:
    """The tags with which a cell's outputs would be equal, or none if they would still differ."""
    present = measurements(cell.metadata.get("tags", []))
    absent = [tag for tag in UNITS if tag not in present]
    for tags in chain.from_iterable(combinations(absent, n + 1) for n in range(len(absent))):
        normal = Normalizer([*present, *tags], {})
        if normal.text(before) == normal.text(after):
            return [f"the tag {tag}" for tag in tags]
    return []


def shortened(diff: Iterable[str]) -> list[str]:
    """The first lines of a diff, and the number of the omitted lines."""
    lines = list(diff)
    more = len(lines) - DIFF_LINES
    return lines[:DIFF_LINES] + ([f"… and {more} more lines"] if more > 0 else [])


SECTION = re.compile(
    r"^## (?P<name>\S+)\n\n(?P<fence>`{3,})text\n(?P<text>.*?)\n(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)


def sections(text: str) -> dict[str, str]:
    """The sections of a snapshot, by cell id."""
    return {match["name"]: normalized(match["text"]) for match in SECTION.finditer(text)}
