"""Where everything is, and with which settings cargo is run.

Nothing is written outside the repository and one folder in the user's cache directory.
"""

import errno
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from ..bootstrap import command_environment, trust
from ..bootstrap.venv import cache_directory, chosen_cache, is_shared
from . import cargo_configuration, signals

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
# The cargo home of the kernels' rust-analyzer; see prune_metadata.py.
ANALYSIS_HOME = TARGET / "kernel-cargo-home"

EVCXR_VERSION = "0.22.0"
# What evcxr gives rustc; .cargo/config.toml has the same for a plain `cargo test`.
RUSTFLAGS = "-Cprefer-dynamic"


# How our Python modules are started: PYTHON* variables, the working directory and the user's
# packages change nothing, and files are UTF-8 in every locale.
PYTHON_MODULE = (sys.executable, "-I", "-X", "utf8", "-m")


class Problem(Exception):
    """Something the user can mend; the message says what it is and how."""


# What the user can do about an error of the operating system.
FIXES = {
    errno.EACCES: "Check the owner with `ls -ld`, or choose another folder",
    errno.EPERM: "Check the owner with `ls -ld`, or choose another folder",
    errno.EROFS: "Choose another folder",
    errno.ENOSPC: "Free some space (./justw clean removes what runs left)",
    errno.EDQUOT: "Free some space (./justw clean removes what runs left)",
    errno.ENAMETOOLONG: "Choose a shorter path",
    errno.ENOTDIR: "Delete or rename the file in the folder's place",
    errno.EIO: "Check the disk",
    errno.ELOOP: "Delete the symbolic link",
    errno.ESTALE: "Try again: another machine has changed the file",
    errno.ENOLCK: "Choose a folder on another file system: this one has no locks",
}


def explained(error: OSError) -> str:
    """An error of the operating system with its file and what to do about it, in a line."""
    file = f": {error.filename}" if error.filename else ""
    return f"{error.strerror}{file}. {FIXES[error.errno]}"


def exit_code(command: Callable[[], int | None]) -> int:
    """Run a command, and print one line if it cannot go on; the exit code for the shell."""
    signals.raise_on_stop_signals()
    command_environment.use_user_environment()
    try:
        code = command() or 0
        sys.stdout.flush()
        return code
    except Problem as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stopped:
        signals.ignore_stop_signals()
        number = getattr(stopped, "number", signal.SIGINT)
        by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
        print(f"interrupted{by}", file=sys.stderr)
        return 128 + number
    except BrokenPipeError:
        # The reader, such as `head`, has ended. Python flushes stdout again at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in FIXES:
            raise
        print(f"error: {explained(error)}", file=sys.stderr)
        return 1


def data_directory() -> Path:
    """Where the dataset is, or will be."""
    return chosen_directory("WEARABLE_DATA_DIR") or DATA


def chosen_directory(variable: str) -> Path | None:
    """The directory that the user has chosen for data or outputs. Raises `Problem` if relative.

    Commands, notebooks and programs have different working directories, and each would look for it
    somewhere else.
    """
    chosen = os.environ.get(variable)
    if chosen and not os.path.isabs(chosen):
        raise Problem(f"{variable} must be an absolute path, and is {chosen!r}. Set it to one")
    return Path(chosen) if chosen else None


def sensor_files() -> list[Path]:
    """The files of the dataset's large table, also if it lies in folders, one for each date."""
    return sorted((data_directory() / "sensor_hrv").rglob("*.parquet"))


def shown(path: Path) -> Path:
    """A path as people are told of it: from the repository's root, if it is in there."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def toml_string(path: Path) -> str:
    """A path as a TOML string: JSON's quoting is valid there, and it is evcxr's."""
    return json.dumps(str(path), ensure_ascii=False)


# Where an administrator may put a cache for everybody on a machine.
SHARED_CACHE = Path("/opt/wearable_demo")


def caches() -> list[Path]:
    """This user's cache, and those that others have filled, which are only read."""
    listed = (cache_directory(), chosen_cache() or SHARED_CACHE, SHARED_CACHE)
    return [cache for cache in dict.fromkeys(listed) if os.path.isdir(cache)]


def make_cache() -> Path:
    """Make this user's cache if it is not there.

    Raises `Problem` if another user can change it, or if this user cannot write to it.
    """
    folder = cache_directory()
    if (reason := trust.prepare_folder(folder, readable=is_shared())) is not None:
        raise Problem(reason)
    return folder


def trusted(path: Path) -> Path:
    """What is compiled in this user's cache. Raises `Problem` if another user can change it."""
    if (fault := trust.find_fault(path, complete=True)) is not None:
        raise Problem(fault.told_of(path))
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

    Raises `Problem` if it is this user's, and another user can change it.
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
    processor, system = platform.machine(), "unknown-linux-gnu"
    if sys.platform == "darwin":
        processor, system = processor.replace("arm64", "aarch64"), "apple-darwin"
    return home / "toolchains" / f"{pinned()['channel']}-{processor}-{system}"


def find_rust() -> None:
    """Put Rust on this process's PATH.

    The pinned toolchain comes first. An editor may have been started without the user's shell,
    another Rust may be on the PATH, and `rustup override` may name another toolchain.
    """
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    first, last = str(toolchain() / "bin"), str(cargo_home() / "bin")
    if (toolchain() / "bin" / "rustc").is_file() and folders[:1] != [first]:
        folders.insert(0, first)
    if last not in folders:
        folders.append(last)
    os.environ["PATH"] = os.pathsep.join(folders)


def has_rust() -> bool:
    """Whether the pinned toolchain is here."""
    find_rust()
    try:
        rustc.__wrapped__("--version")
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


@cache
def rustc(*arguments: str) -> str:
    """What the pinned toolchain's rustc prints."""
    pinned_toolchain = {"RUSTUP_TOOLCHAIN": pinned()["channel"]}
    return subprocess.run(
        ["rustc", *arguments],
        cwd=ROOT,
        env=command_environment.tool_environment() | pinned_toolchain,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def sysroot() -> Path:
    """Where the pinned toolchain is."""
    return Path(rustc("--print", "sysroot").strip())


def cargo() -> Path:
    """The toolchain's own cargo, behind rustup's."""
    own = sysroot() / "bin" / "cargo"
    return own if own.is_file() else Path(shutil.which("cargo") or "cargo")


def cargo_environment() -> dict[str, str]:
    """The environment for cargo in the workspace."""
    rustc = {"RUSTC": str(sysroot() / "bin" / "rustc")}
    return command_environment.tool_environment() | cargo_settings() | rustc


def kernel_environment() -> dict[str, str]:
    """The environment for evcxr, in which it runs cargo, rustc and cells."""
    return command_environment.user_environment() | cargo_settings()


def cargo_settings() -> dict[str, str]:
    """Settings that go before the user's cargo configuration."""
    return command_environment.cargo_settings(
        flags=RUSTFLAGS,
        target=TARGET,
        toolchain=pinned()["channel"],
        profile=development_profile(),
    )


@cache
def development_profile() -> dict[str, Any]:
    """`[profile.dev]` of the workspace."""
    return tomllib.loads((ROOT / "Cargo.toml").read_text())["profile"]["dev"]


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


# Raised when other files of the same packages are put into the cache.
CONTENT = 2


@cache
def dependencies_key(rustc: str | None = None) -> str:
    """What decides the content of the compiled dependencies, as a short name.

    `rustc` is the compiler's version and host; that of here if none is given.
    """
    digest = hashlib.sha256(f"{CONTENT}{rustc or rustc_version()}{RUSTFLAGS}".encode())
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
    # cargo also records where the sources are, and the linker that the user has configured.
    linkers = cargo_configuration.linkers(ROOT, cargo_home())
    home = hashlib.sha256("\0".join((str(cargo_home()), *linkers)).encode()).hexdigest()[:8]
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
    except FileExistsError:
        raise  # a copy would be written into the file, and into what is linked to it
    except OSError:
        shutil.copy2(source, target)
