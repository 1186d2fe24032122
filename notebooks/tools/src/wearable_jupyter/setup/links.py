"""Copies of directories by hard links."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def link(source: Path, target: Path) -> None:
    """Make a hard link, or a copy on another file system and on one without links.

    A symbolic link, into another user's folder, is one again.
    """
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
        return
    try:
        os.link(source, target)
    except FileExistsError:
        raise  # a copy would be written into the file, and into what is linked to it
    except OSError:
        shutil.copy2(source, target)


def link_tree(
    source: Path,
    destination: Path,
    *,
    skip: Callable[[Path], bool] = lambda path: False,
    copy: Callable[[Path], bool] = lambda path: False,
) -> None:
    """Copy a directory by hard links, where the file system can.

    A file that is changed in place must not be a link: `copy` says which are copied instead. cargo
    replaces what it compiles, but rewrites its notes on it.
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


# What rustc and linkers write anew and never in place.
COMPILED = (".rlib", ".rmeta", ".so", ".dylib")


def is_rewritten(path: Path) -> bool:
    """Whether a file in a target directory may be changed in place: by cargo, which keeps its
    notes there, or by a build script that runs again."""
    return path.suffix not in COMPILED
