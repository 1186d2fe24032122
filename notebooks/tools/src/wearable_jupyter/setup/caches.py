"""Folders that hold what is compiled: this user's cache, and caches that others have filled."""

import hashlib
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ..bootstrap import trust
from ..bootstrap.venv import cache_directory, chosen_cache, is_shared
from . import cargo_configuration, paths, toolchain
from .errors import UserError

EVCXR_VERSION = "0.22.0"
# Where an administrator may put a cache for everybody on a machine.
SHARED_CACHE = Path("/opt/wearable_demo")


def caches() -> list[Path]:
    """This user's cache, and those that others have filled, which are only read."""
    listed = (cache_directory(), chosen_cache() or SHARED_CACHE, SHARED_CACHE)
    return [cache for cache in dict.fromkeys(listed) if os.path.isdir(cache)]


def make_cache() -> Path:
    """Make this user's cache if it is not there.

    Raises `UserError` if another user can change it, or if this user cannot write to it.
    """
    folder = cache_directory()
    if (reason := trust.prepare_folder(folder, readable=is_shared())) is not None:
        raise UserError(reason)
    return folder


def trusted(path: Path) -> Path:
    """What is compiled in this user's cache. Raises `UserError` if another user can change it."""
    if (fault := trust.find_fault(path, complete=True)) is not None:
        raise UserError(fault.with_advice(path))
    return path


@cache
def is_refused(path: Path) -> bool:
    """Whether another user can change what is in a cache; the reason is printed, once."""
    if (fault := trust.find_fault(path)) is None:
        return False
    print(f"Nothing is taken from {path}: {fault}", file=sys.stderr, flush=True)
    return True


def in_caches(pattern: str) -> Iterator[Path]:
    """What is called so in the caches, and cannot be changed by another user."""
    for folder in caches():
        if not os.access(folder, os.R_OK | os.X_OK):
            is_refused(folder)
            continue
        yield from (path for path in sorted(folder.glob(pattern)) if not is_refused(path))


def evcxr() -> Path:
    """The kernel's binary: where there is one, or where it will be installed.

    Raises `UserError` if it is this user's, and another user can change it.
    """
    own = own_evcxr()
    folder, name = own.parent.parent, own.relative_to(own.parent.parent)
    if os.path.isfile(own):
        return trusted(folder) / name
    found = (path / name for path in in_caches(folder.name))
    return next((binary for binary in found if binary.is_file()), own)


def own_evcxr() -> Path:
    """The kernel's binary in this user's cache."""
    return cache_directory() / f"evcxr_jupyter-{EVCXR_VERSION}" / "bin" / "evcxr_jupyter"


# Raised when other files of the same packages are put into the cache.
CONTENT = 2


@cache
def dependencies_key(rustc: str | None = None) -> str:
    """What decides the content of the compiled dependencies, as a short name.

    `rustc` is the compiler's version and host; that of here if none is given.
    """
    digest = hashlib.sha256(
        f"{CONTENT}{rustc or toolchain.rustc_version()}{toolchain.RUSTFLAGS}".encode()
    )
    for file in (
        paths.ROOT / "Cargo.lock",
        paths.ROOT / "Cargo.toml",
        paths.ROOT / ".cargo" / "config.toml",
        *sorted(
            manifest for manifest in paths.ROOT.glob("crates/*/Cargo.toml") if is_member(manifest)
        ),
    ):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def is_member(manifest: Path) -> bool:
    """Whether a crate is one of the workspace, and has not a lock file of its own."""
    return not manifest.with_name("Cargo.lock").exists()


def compiled_dependencies() -> Path:
    """The folder of the compiled dependencies, shared by all clones with the same key."""
    # cargo also records where the sources are, and the linker that the user has configured.
    linkers = cargo_configuration.linkers(paths.ROOT, toolchain.cargo_home())
    home = hashlib.sha256("\0".join((str(toolchain.cargo_home()), *linkers)).encode()).hexdigest()[
        :8
    ]
    return cache_directory() / f"dependencies-{dependencies_key()}-{home}"
