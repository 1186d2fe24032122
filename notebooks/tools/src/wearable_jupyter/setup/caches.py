"""Caches of compiled code: this user's, and shared ones that are only read."""

import hashlib
import json
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
# Where an administrator may create a cache for all users of a machine.
SHARED_CACHE = Path("/opt/wearable_demo")


def caches() -> list[Path]:
    """This user's cache, and shared caches, which are only read."""
    candidates = (cache_directory(), chosen_cache() or SHARED_CACHE, SHARED_CACHE)
    return [cache for cache in dict.fromkeys(candidates) if os.path.isdir(cache)]


def make_cache() -> Path:
    """Create this user's cache if it does not exist.

    Raises `UserError` if another user can change it, or if this user cannot write to it.
    """
    folder = cache_directory()
    if (reason := trust.prepare_folder(folder, readable=is_shared())) is not None:
        raise UserError(reason)
    return folder


def trusted(path: Path) -> Path:
    """Return a path in this user's cache. Raises `UserError` if another user can change it."""
    if (fault := trust.find_fault(path, complete=True)) is not None:
        raise UserError(fault.with_advice(path))
    return path


@cache
def is_refused(path: Path) -> bool:
    """Whether another user can change a cache. Prints the reason once."""
    if (fault := trust.find_fault(path)) is None:
        return False
    print(f"Ignoring the shared cache {path}: {fault}", file=sys.stderr, flush=True)
    return True


def in_caches(pattern: str) -> Iterator[Path]:
    """Matching paths in all caches, without those that another user can change."""
    for folder in caches():
        if not os.access(folder, os.R_OK | os.X_OK):
            is_refused(folder)
            continue
        yield from (path for path in sorted(folder.glob(pattern)) if not is_refused(path))


def evcxr() -> Path:
    """The evcxr binary, or the path at which setup will install it.

    Raises `UserError` if another user can change the one in this user's cache.
    """
    own = own_evcxr()
    folder, name = own.parent.parent, own.relative_to(own.parent.parent)
    if os.path.isfile(own):
        return trusted(folder) / name
    binaries = (path / name for path in in_caches(folder.name))
    return next((binary for binary in binaries if binary.is_file()), own)


def own_evcxr() -> Path:
    """The path of the evcxr binary in this user's cache."""
    return cache_directory() / f"evcxr_jupyter-{EVCXR_VERSION}" / "bin" / "evcxr_jupyter"


# Increase this version when the cache contains other files of the same packages.
CONTENT_VERSION = 2


@cache
def dependencies_key(rustc: str | None = None) -> str:
    """KEY: a hash of everything that determines the compiled dependencies.

    `rustc` is the compiler's version and host; the default is the installed compiler.
    """
    digest = hashlib.sha256(
        f"{CONTENT_VERSION}{rustc or toolchain.rustc_version()}{toolchain.RUSTFLAGS}".encode()
    )
    manifests = sorted(filter(is_member, paths.ROOT.glob("crates/*/Cargo.toml")))
    configuration = paths.ROOT / ".cargo" / "config.toml"
    for file in (paths.ROOT / "Cargo.lock", paths.ROOT / "Cargo.toml", configuration, *manifests):
        # Without comments, which change nothing.
        digest.update(json.dumps(paths.read_toml(file), sort_keys=True).encode())
    return digest.hexdigest()[:16]


def is_member(manifest: Path) -> bool:
    """Whether a crate belongs to the workspace, and has no lock file of its own."""
    return not manifest.with_name("Cargo.lock").exists()


def compiled_dependencies() -> Path:
    """The folder of the compiled dependencies, shared by all clones with the same key."""
    # cargo also records the path of the sources and the configured linker.
    linkers = cargo_configuration.linkers(paths.ROOT, toolchain.cargo_home())
    home = hashlib.sha256("\0".join((str(toolchain.cargo_home()), *linkers)).encode()).hexdigest()[
        :8
    ]
    return cache_directory() / f"dependencies-{dependencies_key()}-{home}"
