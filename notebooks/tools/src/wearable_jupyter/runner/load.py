"""Loads notebooks, also of older formats."""

import json
import re
import warnings
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from ..setup import paths
from ..setup.errors import UserError

LANGUAGE = "rust"
# Kernels for Rust whose kernelspec does not have to name the language.
RUST_KERNELS = re.compile(r"rust|evcxr", re.IGNORECASE)
FORMATS = range(1, 5)
# The fix for an invalid file.
RESTORE = "Open it in JupyterLab and save it again, or restore it from git"
CELL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def language(notebook: NotebookNode) -> str | None:
    """The language of a notebook's kernel in lower case, or None if the notebook has none."""
    kernelspec = notebook.metadata.get("kernelspec") or {}
    named = kernelspec.get("language") or (notebook.metadata.get("language_info") or {}).get("name")
    if named:
        return str(named).lower()
    kernel = str(kernelspec.get("name") or "")
    return LANGUAGE if RUST_KERNELS.search(kernel) else None


def wrong_kernel(notebook: NotebookNode) -> str | None:
    """Why a notebook is not for a Rust kernel, or None. Without a kernelspec, Rust is assumed."""
    named = language(notebook)
    if named not in (None, LANGUAGE):
        return f"is a notebook in {named}, but only Rust notebooks are supported"
    kernel = (notebook.metadata.get("kernelspec") or {}).get("name")
    if named is None and kernel:
        return f"is a notebook for the kernel {kernel!r}, but only Rust notebooks are supported"
    return None


def name_cells(cells: list[dict], *, by_place: bool) -> None:
    """Give an id to each cell without a valid one: `cell-` and its number.

    nbformat would generate a random id, which snapshots could not refer to.
    """
    taken = set()
    for number, cell in enumerate(cells, 1):
        own = cell.get("id")
        usable = isinstance(own, str) and CELL_ID.fullmatch(own) and own not in taken
        if by_place or not usable:
            cell["id"] = f"cell-{number}"
            while cell["id"] in taken:
                cell["id"] += "-again"
        taken.add(cell["id"])


def load(path: Path) -> dict:
    """The JSON object in a notebook's file. Raises `UserError`."""
    shown = paths.display_path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{shown} could not be read: {error.strerror}. Check its permissions"
        ) from error
    try:
        document = json.loads(content.decode("utf-8-sig"))
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{shown} is not a notebook: it is not JSON in UTF-8 (byte {error.start}). {RESTORE}"
        ) from error
    except UnicodeEncodeError as error:
        raise UserError(
            f"{shown} is not a notebook: it contains a lone surrogate, which is not valid "
            f"Unicode. {RESTORE}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{shown} is not a notebook: it is not JSON ({error}). {RESTORE}"
        ) from error
    version = document.get("nbformat") if isinstance(document, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise UserError(f"{shown} is not a notebook: its nbformat is missing. {RESTORE}")
    if version not in FORMATS:
        raise UserError(
            f"{shown} cannot be read: its nbformat is {version}, and "
            f"supported are {FORMATS[0]} to {FORMATS[-1]}. {RESTORE}"
        )
    if version == 4 and not isinstance(document.get("cells"), list):
        raise UserError(f"{shown} is not a notebook: it has no list of cells. {RESTORE}")
    return document


def read(path: Path) -> NotebookNode:
    """The Rust notebook at `path`, in the newest format.

    Cells have ids since format 4.5; cells of older formats get ids from their position. Raises
    `UserError` if the file is not a notebook, or is for another language.
    """
    shown, document = paths.display_path(path), load(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the code below adds missing parts
            # Before nbformat's repair, which would give random ids to cells without one.
            if document["nbformat"] == 4:
                name_cells(document["cells"], by_place=document["nbformat_minor"] < 5)
            notebook = nbformat.reads(json.dumps(document), as_version=4)
            if document["nbformat"] < 4:
                name_cells(notebook.cells, by_place=True)
            notebook.nbformat_minor = 5
            nbformat.validate(notebook)
        reason = wrong_kernel(notebook)
    except Exception as error:  # a malformed part can make nbformat raise any error
        reason = next(iter(str(error).strip().splitlines()), repr(error))
        raise UserError(f"{shown} is not a notebook: {reason}") from error
    if reason is not None:
        raise UserError(f"{shown} {reason}")
    return notebook
