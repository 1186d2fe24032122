"""What the notebooks' text says of polars, and the cells that would fail if it were false.

A paragraph or list item that speaks of what polars does carries a mark, which nobody sees when it
is rendered: `<!-- cell: id, … -->` names the cells that check it, in the same notebook or as
`02b/id` in another; `<!-- no claim: why -->` says that there is nothing to check.
"""

import re
from pathlib import Path

import nbformat
import pytest

from wearable_jupyter.setup import paths

NOTEBOOKS = {path.stem.split("_")[0]: path for path in paths.NOTEBOOKS.glob("*.ipynb")}
OF_POLARS = re.compile(
    r"\b(polars|engines?|optimiser|plans?|planned|scans?|scanned|streams?|streaming|sinks?|collects?"
    r"|joins?|sorts?|sorted|group_by|filters?|statistics|row groups?|lazy|cache|in memory)\b",
    re.IGNORECASE,
)
MARK = re.compile(r"<!-- (cell|no claim): (.+?) -->")


def cells(path: Path) -> dict[str, nbformat.NotebookNode]:
    return {cell.id: cell for cell in nbformat.read(path, as_version=4).cells}


def blocks(source: str) -> list[str]:
    """Paragraphs, list items and tables of Markdown, without headings and code."""
    source = re.sub(r"```.*?```", "", source, flags=re.DOTALL)
    source = re.sub(r"\n\s*\n(?=<!--)", "\n", source)  # a mark below a table is the table's
    parts = re.split(r"\n\s*\n|\n(?=[-*] )", source)
    return [part for part in parts if part.strip() and not part.lstrip().startswith("#")]


def unmarked(source: str) -> list[str]:
    return [
        block
        for block in blocks(source)
        if OF_POLARS.search(MARK.sub("", block)) and not MARK.search(block)
    ]


def checks_nothing(path: Path, source: str) -> list[str]:
    """Cells that marks name, and that are not there or check nothing."""
    named = [
        name.strip()
        for kind, names in MARK.findall(source)
        if kind == "cell"
        for name in names.split(",")
    ]
    wrong = []
    for name in named:
        notebook, _, cell = name.rpartition("/")
        there = cells(NOTEBOOKS.get(notebook, path) if notebook else path).get(cell)
        if there is None or there.cell_type != "code" or "ensure(" not in there.source:
            wrong.append(name)
    return wrong


@pytest.mark.parametrize("path", NOTEBOOKS.values(), ids=NOTEBOOKS)
def test_statements_about_polars_are_checked_by_cells(path):
    texts = [cell for cell in cells(path).values() if cell.cell_type == "markdown"]
    without = [f"{cell.id}: {block}" for cell in texts for block in unmarked(cell.source)]
    assert not without, "no cell is named that checks:\n\n" + "\n\n".join(without)
    wrong = [f"{c.id}: {name}" for c in texts for name in checks_nothing(path, c.source)]
    assert not wrong, "these check nothing: " + ", ".join(wrong)


def test_sentence_without_a_marker_and_marker_without_a_check_are_found():
    path = NOTEBOOKS["02a"]
    assert unmarked("Nothing to see.\n\nThe scan skips all.\n- A sort streams.") == [
        "The scan skips all.",
        "- A sort streams.",
    ]
    assert not unmarked("The scan skips all. <!-- cell: x -->\n\n## Joins")
    assert checks_nothing(path, "<!-- cell: nonsense, title, explain-check -->") == [
        "nonsense",
        "title",
    ]
