"""The notebooks have short cells, sections with a key insight, and one form of callouts."""

import re

import nbformat
import pytest

from wearable_jupyter.setup import paths

# For each notebook: its sections, the range of its code cells, and the most visible checks.
NOTEBOOKS = {
    "02b_what_the_engine_does": (
        [
            *("1) What ran?", "2) What was skipped?", "3) What was held in memory?"),
            *("4) What did not fit?", "5) What streams?"),
        ],
        range(18, 25),
        5,
    ),
}
CALLOUTS = ("> **Key insight.** ", "> **Watch out.** ", "> **Your turn.** ")


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(paths.NOTEBOOKS / f"{name}.ipynb", as_version=4)


def sections(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """The source of each section with a number, by its title."""
    parts: dict[str, str] = {}
    title = ""
    for cell in notebook.cells:
        heading = re.match(r"## (.+)", cell.source) if cell.cell_type == "markdown" else None
        title = heading[1] if heading else title
        parts[title] = parts.get(title, "") + cell.source + "\n\n"
    return {title: text for title, text in parts.items() if re.match(r"\d+\w*\) ", title)}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_code_cells_are_few_and_short(name):
    cells = [cell for cell in read(name).cells if cell.cell_type == "code"]
    for cell in cells:
        lines = cell.source.splitlines()
        assert len(lines) <= 10, f"{cell.id} has {len(lines)} lines"
        assert max(map(len, lines)) <= 100, f"{cell.id} has a line of {max(map(len, lines))}"
    _, count, most_checks = NOTEBOOKS[name]
    assert len(cells) in count
    assert sum("ensure(" in cell.source for cell in cells) <= most_checks


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_each_section_has_one_key_insight_and_at_most_one_check(name):
    found = sections(read(name))
    assert list(found) == NOTEBOOKS[name][0]
    for title, text in found.items():
        assert text.count(CALLOUTS[0]) == 1, title
        assert len(re.findall(r"\bensure\(", text)) <= 1, title


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_text_has_one_form_of_callouts_and_no_marks(name):
    cells = read(name).cells
    for cell in cells:
        assert "≈" not in cell.source and "<!--" not in cell.source, cell.id
        if cell.cell_type == "markdown":
            quotes = re.findall(r"(?:^>.*\n?)+", cell.source, re.MULTILINE)
            assert all(quote.startswith(CALLOUTS) for quote in quotes), cell.id
            folded = re.findall(r"<details><summary>(.*?)</summary>\n\n```", cell.source)
            assert len(folded) == cell.source.count("<details>"), cell.id
    assert re.match(r"## Key takeaways\n\n\|", cells[-1].source)
