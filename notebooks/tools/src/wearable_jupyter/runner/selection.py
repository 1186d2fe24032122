"""Selects notebooks by name or path, and determines their labels and output files."""

import difflib
import os
import shlex
from pathlib import Path

from ..setup import paths
from ..setup.errors import UserError
from .load import read

SUFFIX = ".ipynb"
# The fix for a path of another file.
PASS = f"Pass the path of an {SUFFIX} file"


def project_notebooks() -> list[Path]:
    """The notebooks in `notebooks/`, sorted, without hidden files of editors."""
    files = paths.NOTEBOOKS.glob(f"*{SUFFIX}")
    return sorted(path for path in files if not path.name.startswith("."))


def is_project_notebook(path: Path) -> bool:
    return path.parent == paths.NOTEBOOKS


def notebooks(names: list[str], caller: Path) -> list[Path]:
    """The notebooks with these names or paths, without duplicates; the default is all.

    A path is relative to `caller`, the directory of the user. Only a name without a slash selects
    one of the project's notebooks: `02a_lazy_join`, or `02a_lazy_join.ipynb` if `caller` has no
    such file. Raises `UserError` for anything that is not a Rust notebook.
    """
    selected = [find(name, caller) for name in names] if names else project_notebooks()
    if not selected:
        raise UserError(
            f"{paths.NOTEBOOKS} contains no notebook. Restore them: git checkout notebooks"
        )
    for path in selected:
        read(path)  # before anything runs
    return list(dict.fromkeys(selected))


def find(name: str, caller: Path) -> Path:
    """The notebook with this name or path. Raises `UserError`."""
    if "/" not in name:
        project = paths.NOTEBOOKS / f"{name.removesuffix(SUFFIX)}{SUFFIX}"
        here = name.endswith(SUFFIX) and (caller / name).is_file()
        if project in project_notebooks() and not here:
            return project
        if not name.endswith(SUFFIX) and not (caller / name).exists():
            raise UserError(unknown(name, caller))
    path = caller / name
    shown = f"{name!r} ({path})" if str(path) != name else name
    if not name.isprintable():  # also true for bytes that are not UTF-8
        raise UserError(f"The name {name!r} contains unprintable characters. Rename the file")
    if path.is_dir():
        inside = sorted(f.name for f in path.glob(f"*{SUFFIX}"))
        example = f", such as {Path(name) / inside[0]}" if inside else ""
        raise UserError(f"{shown} is a directory. Name the notebooks in it{example}")
    if not path.exists():
        raise UserError(f"File not found: {shown}{missing(path, name)}")
    if path.suffix != SUFFIX:
        raise UserError(f"{shown} is not a notebook: its name does not end in {SUFFIX}. {PASS}")
    if not path.is_file():
        raise UserError(f"{shown} is not a regular file. {PASS}")
    # Resolve links in the directory, but keep the notebook's own name.
    return path.parent.resolve() / path.name


def missing(path: Path, name: str) -> str:
    """A hint for a file that does not exist."""
    if path.is_symlink():
        return f": it is a link to {os.readlink(path)}, which does not exist"
    if name.startswith("~"):
        return ": the shell expands ~ only without quotes"
    folder = path.parent
    while not folder.is_dir():
        folder = folder.parent
    if folder != path.parent:
        return f": {folder} has no directory {path.relative_to(folder).parts[0]!r}"
    near = difflib.get_close_matches(path.name, [f.name for f in folder.glob(f"*{SUFFIX}")], 1)
    return f". Did you mean {near[0]}?" if near else ""


def unknown(name: str, caller: Path) -> str:
    """The message for a name that no notebook of the project has."""
    names = [path.stem for path in project_notebooks()]
    message = f"The project has no notebook {name!r}. Its notebooks are: {', '.join(names)}"
    if (caller / f"{name}{SUFFIX}").is_file():
        return f"{message}. For the file in {caller}: ./{name}{SUFFIX}"
    near = difflib.get_close_matches(name, names, 1)
    return f"{message}. Did you mean {near[0]}?" if near else message


def label(path: Path) -> str:
    """The label in reports: the name of a project notebook, or the path of another."""
    named = path.name if is_project_notebook(path) else str(paths.display_path(path))
    if path.parent == paths.ROOT:
        named = f"./{named}"
    return named.removesuffix(SUFFIX)


def output(path: Path, suffix: str = SUFFIX, folder: Path = paths.OUTPUTS) -> Path:
    """The path of a notebook's output in `folder`.

    Outputs of other notebooks are in subfolders named by their paths, so that notebooks with the
    same name do not share files: those of `/home/ann/02a.ipynb` are in
    `outputs/elsewhere/home/ann/`.
    """
    if not is_project_notebook(path):
        folder = folder / "elsewhere" / path.parent.relative_to(path.anchor)
    return folder / f"{path.name.removesuffix(SUFFIX)}{suffix}"


def command(arguments: str, path: Path, caller: Path) -> str:
    """The shell command for a notebook, which works in `caller`."""
    justw = "./justw" if caller == paths.ROOT else shlex.quote(str(paths.ROOT / "justw"))
    name = label(path) if is_project_notebook(path) else shlex.quote(str(path))
    return f"{justw} {arguments} {name}"
