"""The committed notebooks."""

import re

import nbformat
import pytest

from wearable_jupyter.runner import clean, measured, output_tags, snapshots
from wearable_jupyter.setup import paths

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))


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
                known = {
                    *output_tags.REQUIRED_OUTPUTS,
                    *measured.UNITS,
                    output_tags.RAISES_EXCEPTION,
                }
                assert tag in known, f"{cell.id}: {tag}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_tagged_as_measuring_show_a_measured_value(path):
    """Without one, the tag would only hide future differences."""
    snapshot = snapshots.file(path)
    shown = snapshots.sections(snapshot.read_text()) if snapshot.exists() else {}
    for cell in nbformat.read(path, as_version=4).cells:
        for tag in measured.measurements(cell.metadata.get("tags", [])):
            values = (measured.UNITS[tag][0], measured.FACTOR)
            assert any(value in shown.get(cell.id, "") for value in values), f"{cell.id}: {tag}"


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
