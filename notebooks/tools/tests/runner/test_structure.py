"""The notebooks have short cells, key insights in all sections, and one form of callouts."""

import re
from typing import NamedTuple

import nbformat
import pytest

from wearable_jupyter.setup import paths


class Form(NamedTuple):
    """A notebook's sections, the range of its code cells, and the most visible checks."""

    sections: list[str]
    code_cells: range
    checks: int


NOTEBOOKS = {
    "02a_lazy_join": Form(
        [
            "1) Scan the tables lazily",
            "1b) SQL or expressions: the same prefilter twice",
            "2) Build a lazy query (nothing runs before `collect`)",
            "3) Inspect the query plan with `explain`",
            "4a) Collect with the streaming engine",
            "4b) Collect with the default engine",
            "5) Write a result with a sink",
            "6) A streaming-hostile operation: the global sort",
            "7) Visual: sleep efficiency vs nightly HRV (sample of joined data)",
            "8) Write the final summary in both formats",
        ],
        range(22, 29),
        checks=8,
    ),
    "02b_what_the_engine_does": Form(
        [
            *("1) What ran?", "2) What was skipped?", "3) What was held in memory?"),
            *("4) What did not fit?", "5) What streams?"),
        ],
        range(18, 25),
        checks=5,
    ),
    "03_beyond_one_machine": Form(
        [
            *("1) One query text for several engines", "2) What a cluster adds: exchanges"),
            *("3) A run on a cluster", "4) When a worker dies"),
            "5) From which size does a cluster pay off?",
        ],
        range(8, 14),
        checks=5,
    ),
}
KEY_INSIGHT = "> **Key insight.** "
# Exports and JupyterLab style a blockquote by its first words.
CALLOUT = re.compile(r"> \*\*(Key insight|Watch out|Your turn|Five things about Rust)\.\*\* ")
# The headings of the original walkthrough, in its order.
ORIGINAL = (
    *(
        "Data setup",
        "Steps",
        "1) ",
        "1b) SQL",
        "2) Build a lazy query",
        "3) Inspect the query plan",
    ),
    *("4a) Collect with", "4b) Collect with", "Comparison", "5) Write", "6) ", "Alternative: "),
    *("7) Visual: sleep efficiency vs nightly HRV", "8) Write", "Checkpoints", "Key takeaways"),
)


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
    assert len(cells) in NOTEBOOKS[name].code_cells
    assert sum(cell.source.count("ensure(") for cell in cells) <= NOTEBOOKS[name].checks


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_each_section_has_a_key_insight_and_at_most_one_check_for_each(name):
    found = sections(read(name))
    assert list(found) == NOTEBOOKS[name].sections
    for title, text in found.items():
        insights = text.count(KEY_INSIGHT)
        assert insights and text.count("ensure(") <= insights, title
        assert name != "02a_lazy_join" or "**What to look for**" in text, title


def test_walkthrough_has_all_headings_of_the_original():
    cells = read("02a_lazy_join").cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    places = [re.search(rf"^##+ {re.escape(title)}", text, re.M) for title in ORIGINAL]
    assert None not in places, ORIGINAL[places.index(None)]
    assert [place.start() for place in places] == sorted(place.start() for place in places)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_text_has_one_form_of_callouts_and_no_marks(name):
    cells = read(name).cells
    for cell in cells:
        assert "≈" not in cell.source and "<!--" not in cell.source, cell.id
        if cell.cell_type == "markdown":
            quotes = re.findall(r"(?:^>.*\n?)+", cell.source, re.MULTILINE)
            assert all(CALLOUT.match(quote) for quote in quotes), cell.id
            folded = re.findall(r"<details><summary>(.*?)</summary>\n\n", cell.source)
            assert len(folded) == cell.source.count("<details>"), cell.id
    assert sum(cell.source.startswith("## Key takeaways\n\n|") for cell in cells) == 1
