"""Copies files and directories as hard links."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ..bootstrap import platform


def link(source: Path, target: Path) -> None:
    """Create a hard link, or a copy if the file system does not allow a link.

    A symbolic link, such as one into another user's cache, is copied as a symbolic link.
    """
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
        return
    try:
        os.link(source, target)
    except FileExistsError:
        raise  # a copy would overwrite the file and all its hard links
    except OSError:
        shutil.copy2(source, target)


def link_tree(
    source: Path,
    destination: Path,
    *,
    skip: Callable[[Path], bool] = lambda path: False,
    copy: Callable[[Path], bool] = lambda path: False,
) -> None:
    """Copy a directory as hard links, if the file system allows them.

    A file that is modified in place must not be a link, so files that match `copy` are copied.
    cargo replaces its artifacts, but rewrites its metadata in place.
    """
    destination.mkdir(parents=True, exist_ok=True)
    with os.scandir(source) as entries:
        for entry in entries:
            path, target = Path(entry.path), destination / entry.name
            if skip(path):
                continue
            if entry.is_dir(follow_symlinks=False):
                link_tree(path, target, skip=skip, copy=copy)
                continue
            target.unlink(missing_ok=True)
            if copy(path):
                shutil.copy2(path, target)
            else:
                link(path, target)


# Artifacts that rustc and linkers replace and never modify in place.
COMPILED = (".rlib", ".rmeta", platform.shared_library_suffix())


def is_rewritten(path: Path) -> bool:
    """Whether cargo or a build script may modify a file of a target directory in place."""
    return path.suffix not in COMPILED
