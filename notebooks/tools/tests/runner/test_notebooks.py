"""The committed notebooks."""

import re

import nbformat
import pytest

from wearable_jupyter.runner import clean, measured, output_tags
from wearable_jupyter.setup import paths

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
# The maximum number of code cells and of visible checks in each notebook.
LIMITS = {"02a_lazy_join": (28, 8)}
LINES, COLUMNS = 10, 100
# Each blockquote is a callout. Exports and JupyterLab style it by its first words.
CALLOUTS = ("Key insight", "Watch out", "Your turn", "Five things about Rust")
# The headings of the original walkthrough.
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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_without_traces_of_a_run(path):
    assert path.read_text() == clean.cleaned(path), "run ./justw fmt"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "rust"
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    # A cell's id describes it. A random id would change with each copy.
    assert all(re.fullmatch(r"[a-z][a-z0-9-]+", i) for i in ids)
    assert not any(re.fullmatch(r"[0-9a-f]{8,}", i) for i in ids)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_code_cells_have_output_tags_and_text(path):
    cells = nbformat.read(path, as_version=4).cells
    assert cells[0].cell_type == "markdown"
    for cell in cells:
        if cell.cell_type == "code":
            for tag in cell.metadata.get("tags", []):
                known = {*output_tags.REQUIRED_OUTPUTS, *measured.UNITS, output_tags.FAILS}
                assert tag in known, f"{cell.id}: {tag}"


def sections(cells: list) -> list[tuple[str, str]]:
    """The Markdown and the code of each chapter, in the order of the notebook."""
    parts: list[tuple[str, str]] = []
    for cell in cells:
        if cell.cell_type == "markdown" and re.match("##? ", cell.source):
            parts.append(("", ""))
        text, code = parts.pop()
        if cell.cell_type == "markdown":
            parts.append((f"{text}{cell.source}\n\n", code))
        else:
            parts.append((text, f"{code}{cell.source}\n\n"))
    return parts


@pytest.mark.parametrize("name", LIMITS)
def test_code_cells_are_short_and_checks_are_few(name):
    cells = nbformat.read(paths.NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
    code = {cell.id: cell.source for cell in cells if cell.cell_type == "code"}
    most_cells, most_checks = LIMITS[name]
    assert len(code) <= most_cells
    assert not [i for i, source in code.items() if len(source.splitlines()) > LINES]
    assert not [i for i, source in code.items() if max(map(len, source.splitlines())) > COLUMNS]
    assert sum(source.count("ensure(") for source in code.values()) <= most_checks


@pytest.mark.parametrize("name", LIMITS)
def test_numbered_chapters_have_what_to_look_for_and_a_key_insight(name):
    cells = nbformat.read(paths.NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
    numbered = [part for part in sections(cells) if re.match(r"## \d", part[0])]
    assert len(numbered) >= 5
    for text, code in numbered:
        title = text.partition("\n")[0]
        insights = text.count("> **Key insight.** ")
        assert insights and "**What to look for**" in text, title
        assert code.count("ensure(") <= insights, title
        for lead in re.findall(r"(?<=\n\n)> (.*)", text):
            assert re.match(rf"\*\*({'|'.join(CALLOUTS)})\.\*\* ", lead), lead


def test_walkthrough_has_all_chapters_of_the_original():
    cells = nbformat.read(paths.NOTEBOOKS / "02a_lazy_join.ipynb", as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    places = [re.search(rf"^##+ {re.escape(title)}", text, re.M) for title in ORIGINAL]
    assert None not in places, ORIGINAL[places.index(None)]
    assert [place.start() for place in places] == sorted(place.start() for place in places)


def test_cleaning_an_executed_notebook_restores_the_committed_form(tmp_path):
    """Removes outputs, counts and editors' metadata. Keeps sources and ids."""
    path = tmp_path / "n.ipynb"
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    code = next(cell for cell in notebook.cells if cell.cell_type == "code")
    code.execution_count = 7
    code.outputs = [nbformat.v4.new_output("stream", text="x")]
    code.metadata["collapsed"] = True
    notebook.metadata["widgets"] = {}
    nbformat.write(notebook, path)
    assert clean.cleaned(path) == clean.cleaned(NOTEBOOKS[0])
