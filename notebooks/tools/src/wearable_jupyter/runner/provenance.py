"""Records the inputs of an executed notebook, to determine whether it is up to date."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from nbformat import NotebookNode

from ..setup import paths
from .load import read
from .output_tags import fault
from .strict_run import is_executed

# In an executed notebook's metadata.
KEY = "wearable_demo"
# Folders of generated files, which are not inputs.
GENERATED = {"__pycache__", "target"}


def output_directory() -> Path:
    """The directory for files that notebooks write, and for results of a cluster."""
    return Path(os.environ.get("WEARABLE_OUTPUT_DIR") or paths.OUTPUTS)


def inputs() -> Iterator[Path]:
    """All files that a notebook's results depend on: sources, dataset and results of a cluster."""
    yield paths.ROOT / "Cargo.lock"
    for folder in (
        *(paths.ROOT / "crates", paths.NOTEBOOKS / "tools" / "src"),
        *(paths.data_directory(), output_directory() / "cluster"),
    ):
        for file in sorted(folder.rglob("*")):
            if file.is_file() and not GENERATED & set(file.relative_to(folder).parts):
                yield file


def inputs_hash() -> str:
    """A hash of the inputs and of their directories."""
    digest = hashlib.sha256()
    for path in (paths.data_directory(), output_directory()):
        digest.update(os.fsencode(f"{path.absolute()}\0"))
    for file in inputs():
        stat = file.stat()
        digest.update(os.fsencode(f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}\0"))
    return digest.hexdigest()[:32]


def record(executed: NotebookNode, made_from: str, *, passed: bool) -> None:
    """Record in an executed notebook the hash of its inputs, and whether it passed."""
    executed.metadata[KEY] = {"inputs": made_from, "passed": passed}


def is_current(path: Path, copy: Path) -> bool:
    """Whether `copy` is a passed run of the current notebook on the current inputs."""
    if not copy.is_file():
        return False
    executed = read(copy)
    if executed.metadata.get(KEY) != {"inputs": inputs_hash(), "passed": True}:
        return False
    cells = read(path).cells
    return list(map(source, cells)) == list(map(source, executed.cells)) and all(
        cell.execution_count and fault(cell) is None for cell in executed.cells if is_executed(cell)
    )


def source(cell: NotebookNode) -> tuple:
    """The parts of a cell that determine its outputs and their display."""
    metadata = {key: value for key, value in cell.metadata.items() if key != "execution"}
    return cell.cell_type, cell.id, cell.source, metadata, cell.get("attachments")
