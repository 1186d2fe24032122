"""Cleans notebooks for a commit: no outputs, no traces of a run, stable cell ids."""

import json
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from .load import read

KERNELSPEC = {"display_name": "Rust", "language": "rust", "name": "rust"}
# The language information that JupyterLab writes when it saves a notebook.
LANGUAGE = {
    "codemirror_mode": "rust",
    "file_extension": ".rs",
    "mimetype": "text/rust",
    "name": "Rust",
    "pygment_lexer": "rust",
    "version": "",
}
CELL_METADATA = ("tags", "limit_seconds", "slideshow")
METADATA = {"kernelspec": KERNELSPEC, "language_info": LANGUAGE}


def cleaned(path: Path) -> str:
    """The content of the notebook at `path` after cleaning."""
    notebook = read(path)
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for cell in notebook.cells:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k in CELL_METADATA}
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return serialized(notebook)


def serialized(notebook: NotebookNode) -> str:
    """The content of a notebook's file, in one form for all notebooks."""
    document = json.loads(nbformat.writes(notebook))
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
