"""Reading notebooks, also of older formats."""

import json
import warnings
from pathlib import Path

import nbformat
from nbformat import NotebookNode, ValidationError
from nbformat.validator import normalize

from ..setup import layout
from ..setup.layout import Problem

LANGUAGE = "rust"


def language(notebook: NotebookNode) -> str | None:
    """The language of a notebook's kernel, in small letters; None if it does not say."""
    kernelspec = notebook.metadata.get("kernelspec", {})
    named = kernelspec.get("language") or notebook.metadata.get("language_info", {}).get("name")
    return named.lower() if named else None


def read(path: Path) -> NotebookNode:
    """The Rust notebook at `path`, in the newest format.

    Cells have ids since format 4.5; those of an older one are called by their place. Raises
    `Problem` for what is no notebook, or of another language.
    """
    shown = layout.shown(path)
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text)
    except OSError as error:
        raise Problem(f"{shown} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Problem(f"{shown} is not a notebook: it is not JSON ({error})") from error
    if not isinstance(found, dict) or not isinstance(found.get("nbformat"), int):
        raise Problem(f"{shown} is not a notebook: it does not say which nbformat it has")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is missing is mended below
            notebook = nbformat.reads(text, as_version=4)
            # One of format 3 has been converted, with ids that differ each time.
            named_by_place = found["nbformat"] < 4 or notebook.nbformat_minor < 5
            notebook.nbformat_minor = 5
            if named_by_place:
                for number, cell in enumerate(notebook.cells, 1):
                    cell.id = f"cell-{number}"
            _, notebook = normalize(notebook)
            nbformat.validate(notebook)
    except (ValidationError, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()
        raise Problem(f"{shown} is not a notebook: {reason[0] if reason else error!r}") from error
    if language(notebook) not in (None, LANGUAGE):
        raise Problem(f"{shown} is a notebook in {language(notebook)}; only Rust's can be run here")
    return notebook
