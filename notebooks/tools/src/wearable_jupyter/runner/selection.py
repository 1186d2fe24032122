"""Which notebooks a command is about, how reports name them, and where their outputs go."""

import difflib
import os
import shlex
from pathlib import Path

from ..setup import paths
from ..setup.errors import UserError
from .load import read

SUFFIX = ".ipynb"


def project_notebooks() -> list[Path]:
    """The notebooks in `notebooks/`, by name; an editor's hidden files are not among them."""
    found = paths.NOTEBOOKS.glob(f"*{SUFFIX}")
    return sorted(path for path in found if not path.name.startswith("."))


def is_project_notebook(path: Path) -> bool:
    return path.parent == paths.NOTEBOOKS


def notebooks(names: list[str], caller: Path) -> list[Path]:
    """The notebooks of these names or paths, each once; all of the project's if there are none.

    A path counts from `caller`, the directory in which the command was given. Only a name without
    a slash selects one of the project's notebooks: `02a_lazy_join`, and `02a_lazy_join.ipynb`
    where `caller` has no such file. Raises `UserError` for anything that is not a Rust notebook.
    """
    selected = [find(name, caller) for name in names] if names else project_notebooks()
    if not selected:
        raise UserError(f"There is no notebook in {paths.NOTEBOOKS}")
    for path in selected:
        read(path)  # before anything runs
    return list(dict.fromkeys(selected))


def find(name: str, caller: Path) -> Path:
    """The notebook of this name or path. Raises `UserError`."""
    if "/" not in name:
        project = paths.NOTEBOOKS / f"{name.removesuffix(SUFFIX)}{SUFFIX}"
        here = name.endswith(SUFFIX) and (caller / name).is_file()
        if project in project_notebooks() and not here:
            return project
        if not name.endswith(SUFFIX) and not (caller / name).exists():
            raise UserError(unknown(name, caller))
    path = caller / name
    shown = f"{name!r} ({path})" if str(path) != name else name
    if not name.isprintable():  # nor is a byte that is not UTF-8
        raise UserError(f"The name {name!r} has characters that cannot be shown. Rename the file")
    if path.is_dir():
        inside = sorted(f.name for f in path.glob(f"*{SUFFIX}"))
        example = f", such as {Path(name) / inside[0]}" if inside else ""
        raise UserError(f"{shown} is a directory. Name the notebooks in it{example}")
    if not path.exists():
        raise UserError(f"There is no file {shown}{missing(path, name)}")
    if path.suffix != SUFFIX:
        raise UserError(f"{shown} is not a notebook: its name does not end in {SUFFIX}")
    if not path.is_file():
        raise UserError(f"{shown} is not a regular file")
    # The notebook's own name, also where it is a link, in the directory's real place.
    return path.parent.resolve() / path.name


def missing(path: Path, name: str) -> str:
    """What more there is to say of a file that does not exist."""
    if path.is_symlink():
        return f": it is a link to {os.readlink(path)}, which does not exist"
    if name.startswith("~"):
        return ": a shell replaces ~ only if it is not in quotes"
    folder = path.parent
    while not folder.is_dir():
        folder = folder.parent
    if folder != path.parent:
        return f": {folder} has no folder {path.relative_to(folder).parts[0]!r}"
    near = difflib.get_close_matches(path.name, [f.name for f in folder.glob(f"*{SUFFIX}")], 1)
    return f". Do you mean {near[0]}?" if near else ""


def unknown(name: str, caller: Path) -> str:
    """The message for a bare name that none of the project's notebooks has."""
    names = [path.stem for path in project_notebooks()]
    message = f"The project has no notebook {name!r}. Its notebooks are: {', '.join(names)}"
    if (caller / f"{name}{SUFFIX}").is_file():
        return f"{message}. For the file in {caller}: ./{name}{SUFFIX}"
    near = difflib.get_close_matches(name, names, 1)
    return f"{message}. Do you mean {near[0]}?" if near else message


def label(path: Path) -> str:
    """How reports name a notebook: the project's by its name, another by its path."""
    named = path.name if is_project_notebook(path) else str(paths.display_path(path))
    if path.parent == paths.ROOT:
        named = f"./{named}"
    return named.removesuffix(SUFFIX)


def output(path: Path, suffix: str = SUFFIX, folder: Path = paths.OUTPUTS) -> Path:
    """Where a notebook's outputs go: into `folder`, or for one that is not the project's, below it.

    So two notebooks of the same name never share a file: `/home/ann/02a.ipynb` has its outputs in
    `outputs/elsewhere/home/ann/`.
    """
    if not is_project_notebook(path):
        folder = folder / "elsewhere" / path.parent.relative_to(path.anchor)
    return folder / f"{path.name.removesuffix(SUFFIX)}{suffix}"


def command(arguments: str, path: Path, caller: Path) -> str:
    """A command on a notebook that works in a shell in `caller`."""
    justw = "./justw" if caller == paths.ROOT else shlex.quote(str(paths.ROOT / "justw"))
    name = label(path) if is_project_notebook(path) else shlex.quote(str(path))
    return f"{justw} {arguments} {name}"
