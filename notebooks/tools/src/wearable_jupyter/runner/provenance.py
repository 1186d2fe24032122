"""What an executed notebook was made from, so that it is known whether it is up to date."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from nbformat import NotebookNode

from ..setup import paths
from .load import read
from .output_tags import fault
from .strict_run import runs

# In an executed notebook's metadata.
KEY = "wearable_demo"
# Folders in those of the inputs that are not inputs.
GENERATED = {"__pycache__", "target"}


def output_directory() -> Path:
    """Where notebooks write their files, and read what a cluster left."""
    return Path(os.environ.get("WEARABLE_OUTPUT_DIR") or paths.OUTPUTS)


def inputs() -> Iterator[Path]:
    """Every file that a notebook's results depend on: sources, dataset, results of a cluster."""
    yield paths.ROOT / "Cargo.lock"
    for folder in (
        *(paths.ROOT / "crates", paths.NOTEBOOKS / "tools" / "src"),
        *(paths.data_directory(), output_directory() / "cluster"),
    ):
        for file in sorted(folder.rglob("*")):
            if file.is_file() and not GENERATED & set(file.relative_to(folder).parts):
                yield file


def fingerprint() -> str:
    """Of which inputs, in which directories, as a short text."""
    digest = hashlib.sha256()
    for path in (paths.data_directory(), output_directory()):
        digest.update(os.fsencode(f"{path.absolute()}\0"))
    for file in inputs():
        stat = file.stat()
        digest.update(os.fsencode(f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}\0"))
    return digest.hexdigest()[:32]


def record(executed: NotebookNode, made_from: str, *, passed: bool) -> None:
    """Note in an executed notebook what it was made from, and whether it passed."""
    executed.metadata[KEY] = {"inputs": made_from, "passed": passed}


def is_current(path: Path, copy: Path) -> bool:
    """Whether `copy` is the notebook at `path` as it is now, and passed on the inputs of now."""
    if not copy.is_file():
        return False
    executed = read(copy)
    if executed.metadata.get(KEY) != {"inputs": fingerprint(), "passed": True}:
        return False
    cells = read(path).cells
    return list(map(source, cells)) == list(map(source, executed.cells)) and all(
        cell.execution_count and fault(cell) is None for cell in executed.cells if runs(cell)
    )


def source(cell: NotebookNode) -> tuple:
    """What of a cell decides its outputs and how they are shown."""
    metadata = {key: value for key, value in cell.metadata.items() if key != "execution"}
    return cell.cell_type, cell.id, cell.source, metadata, cell.get("attachments")
