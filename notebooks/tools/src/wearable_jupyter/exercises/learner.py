"""Copies the exercise notebooks into the learner's own folder."""

import os
from pathlib import Path

from ..runner import clean, selection
from ..setup import paths
from ..setup.errors import UserError
from . import notebooks


def own_folder(folder: Path) -> Path:
    """The real path of a learner's folder. Raises `UserError` for the project's `notebooks/`."""
    real = folder.resolve()
    if real.is_relative_to(paths.NOTEBOOKS):
        raise UserError(
            f"{folder} is in the project's notebooks/, whose files git tracks. "
            "Choose another directory: ./justw exercises DIRECTORY"
        )
    if real.exists() and not real.is_dir():
        raise UserError(f"{folder} is not a directory. Choose another directory")
    return real


def create(path: Path, text: str) -> bool:
    """Write a new file completely; False if `path` exists already. Raises `UserError`."""
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8", newline="")
        os.link(part, path)  # fails if the file exists
        return True
    except FileExistsError:
        return False
    except OSError as error:
        raise UserError(
            f"{path} could not be written: {error.strerror}. Choose another directory"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def create_all(texts: dict[Path, str]) -> None:
    """Write new files, and print which files are written and which are kept."""
    for path, text in texts.items():
        if create(path, text):
            print(f"Written: {path}")
        else:
            print(f"Kept: {path} exists already. For a new copy, rename or delete it first")


def copy(folder: Path, caller: Path) -> None:
    """Copy the exercise notebooks into `folder`, and print the next step. Keeps existing files."""
    folder = own_folder(folder)
    library = paths.toml_string(paths.LIBRARY)
    texts = {
        folder / f"{name}{selection.SUFFIX}": clean.serialized(
            notebooks.with_library(made, library)
        )
        for name, made in notebooks.all_notebooks().items()
    }
    create_all(texts)
    print(f"Open them: {selection.command('lab', next(iter(texts)), caller)}", flush=True)
