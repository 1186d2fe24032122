"""Where everything is, and with which settings cargo is run.

Nothing is written outside the repository and one folder in the user's cache directory.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from .environment import cache_directory

ROOT = Path(__file__).resolve().parents[5]
NOTEBOOKS = ROOT / "notebooks"
OUTPUTS = ROOT / "outputs"
DATA = ROOT / "data"
# The one crate that cells can use without a `:dep` of their own.
CRATE = "wearable_demo"
LIBRARY = ROOT / "crates" / CRATE
KERNEL_CARGO = ROOT / "crates" / "kernel_cargo"
TARGET = ROOT / "target"
# A kernel's Cargo project with everything compiled, and the directories of running kernels.
TEMPLATE = TARGET / "kernel-template"
KERNELS = TARGET / "kernels"
# The cargo home of the kernels' rust-analyzer; see analysis.py.
ANALYSIS_HOME = TARGET / "kernel-cargo-home"

EVCXR_VERSION = "0.22.0"
# What evcxr gives rustc; .cargo/config.toml has the same for a plain `cargo test`.
RUSTFLAGS = "-Cprefer-dynamic"


class Problem(Exception):
    """Something the user can mend; the message says what it is and how."""


def exit_code(command: Callable[[], int | None]) -> int:
    """Run a command, and say in a line why it cannot go on; the exit code for the shell."""
    try:
        return command() or 0
    except Problem as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def data_directory() -> Path:
    """Where the dataset is, or will be."""
    return Path(os.environ.get("WEARABLE_DATA_DIR") or DATA)


def shown(path: Path) -> Path:
    """A path as people are told of it: from the repository's root, if it is in there."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


# Where an administrator may put a cache for everybody on a machine.
SHARED_CACHE = Path("/opt/wearable_demo")


def caches() -> list[Path]:
    """This user's cache, and those that others have filled, which are only read."""
    chosen = os.environ.get("WEARABLE_CACHE_DIR")
    shared = (Path(chosen) if chosen else SHARED_CACHE, SHARED_CACHE)
    return list(dict.fromkeys(cache for cache in (cache_directory(), *shared) if cache.is_dir()))


def evcxr() -> Path:
    """The kernel's binary: where there is one, or where it will be installed."""
    own = own_evcxr()
    name = own.relative_to(cache_directory())
    return next((cache / name for cache in caches() if (cache / name).is_file()), own)


def own_evcxr() -> Path:
    """The kernel's binary in this user's cache."""
    return cache_directory() / f"evcxr_jupyter-{EVCXR_VERSION}" / "bin" / "evcxr_jupyter"


def cargo_home() -> Path:
    """Where cargo keeps the sources of packages."""
    return Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")


@cache
def pinned() -> dict[str, Any]:
    """The toolchain of `rust-toolchain.toml`: its channel, profile and components."""
    return tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]


def toolchain() -> Path:
    """Where rustup has, or would have, the pinned toolchain; a bundle puts it there, too."""
    home = Path(os.environ.get("RUSTUP_HOME") or Path.home() / ".rustup")
    return home / "toolchains" / f"{pinned()['channel']}-{platform.machine()}-unknown-linux-gnu"


def find_rust() -> None:
    """Put Rust on this process's PATH: for who is started without the user's shell, and for a
    toolchain without rustup."""
    for folder in (cargo_home() / "bin", toolchain() / "bin"):
        if shutil.which("cargo") is None:
            os.environ["PATH"] = f"{os.environ.get('PATH', '')}{os.pathsep}{folder}"


def has_rust() -> bool:
    """Whether the pinned toolchain is here."""
    find_rust()
    try:
        # Not while rustup fetches it.
        rustc_here = ["rustc", "--version"]
        quiet = os.environ | {"RUSTUP_AUTO_INSTALL": "0"}
        subprocess.run(rustc_here, cwd=ROOT, env=quiet, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


@cache
def rustc(*arguments: str) -> str:
    """What rustc says in the repository, where the pinned toolchain is in force."""
    return subprocess.run(
        ["rustc", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


def sysroot() -> Path:
    """Where the pinned toolchain is."""
    return Path(rustc("--print", "sysroot").strip())


def cargo() -> Path:
    """The toolchain's own cargo, behind rustup's."""
    own = sysroot() / "bin" / "cargo"
    return own if own.is_file() else Path(shutil.which("cargo") or "cargo")


def cargo_environment() -> dict[str, str]:
    """The environment for cargo: the caller's, without what would compile polars once more."""
    overriding = ("CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_", "CARGO_ENCODED_RUSTFLAGS")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(overriding)}
    return environment | {"RUSTFLAGS": RUSTFLAGS, "CARGO_TARGET_DIR": str(TARGET)}


def with_standard_library() -> dict[str, str]:
    """An environment in which programs that were compiled here find Rust's standard library.

    They have its place in them, from where they were linked (`deps/`), and cargo puts them one
    folder above: where clone and rustup lie below one folder, as in a home, that leads nowhere.
    """
    variable = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"
    folders = (os.environ.get(variable), rustc("--print", "target-libdir").strip())
    return {variable: os.pathsep.join(folder for folder in folders if folder)}


def rustc_version() -> str:
    """The compiler's version, host and more."""
    return rustc("-vV")


def host() -> str:
    """The platform, as rustc names it."""
    return next(
        line.removeprefix("host: ")
        for line in rustc_version().splitlines()
        if line.startswith("host: ")
    )


def shared_library(crate: str) -> str:
    """The file name of a crate's shared library here."""
    return f"lib{crate}.dylib" if sys.platform == "darwin" else f"lib{crate}.so"


@cache
def dependencies_key(rustc: str | None = None) -> str:
    """What decides the content of the compiled dependencies, as a short name.

    `rustc` is the compiler's version and host; that of here if none is given.
    """
    digest = hashlib.sha256(f"{rustc or rustc_version()}{RUSTFLAGS}".encode())
    for file in (
        ROOT / "Cargo.lock",
        ROOT / "Cargo.toml",
        ROOT / ".cargo" / "config.toml",
        *sorted(manifest for manifest in ROOT.glob("crates/*/Cargo.toml") if is_member(manifest)),
    ):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def is_member(manifest: Path) -> bool:
    """Whether a crate is one of the workspace, and has not a lock file of its own."""
    return not manifest.with_name("Cargo.lock").exists()


def compiled_dependencies() -> Path:
    """The folder of the compiled dependencies, shared by all clones with the same key."""
    # cargo also notes where the sources are.
    home = hashlib.sha256(str(cargo_home()).encode()).hexdigest()[:8]
    return cache_directory() / f"dependencies-{dependencies_key()}-{home}"


def link(source: Path, target: Path) -> None:
    """Make a hard link, or a copy on another file system and on one without links.

    A symbolic link, into another user's folder, is one again.
    """
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
