"""The pinned Rust toolchain, and the environments for cargo and kernels."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from ..bootstrap import command_environment, platform
from . import paths

# The flags that evcxr passes to rustc; .cargo/config.toml has the same for a plain `cargo test`.
RUSTFLAGS = "-Cprefer-dynamic"


def cargo_home() -> Path:
    """The folder in which cargo stores the sources of packages."""
    return Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")


@cache
def pinned() -> dict[str, Any]:
    """The content of `rust-toolchain.toml`: channel, profile and components."""
    return paths.read_toml(paths.ROOT / "rust-toolchain.toml")["toolchain"]


def toolchain() -> Path:
    """The folder in which rustup and offline bundles install the pinned toolchain."""
    home = Path(os.environ.get("RUSTUP_HOME") or Path.home() / ".rustup")
    return home / "toolchains" / f"{pinned()['channel']}-{platform.target_triple()}"


def find_rust() -> None:
    """Put the pinned toolchain first on this process's PATH.

    An editor may not have the PATH of the user's shell, another Rust may be on the PATH, and
    `rustup override` may select another toolchain.
    """
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    first, last = str(toolchain() / "bin"), str(cargo_home() / "bin")
    if (toolchain() / "bin" / "rustc").is_file() and folders[:1] != [first]:
        folders.insert(0, first)
    if last not in folders:
        folders.append(last)
    os.environ["PATH"] = os.pathsep.join(folders)


def has_rust() -> bool:
    """Whether the pinned toolchain is installed."""
    find_rust()
    try:
        rustc.__wrapped__("--version")
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


@cache
def rustc(*arguments: str) -> str:
    """The output of the pinned toolchain's rustc."""
    pinned_toolchain = {"RUSTUP_TOOLCHAIN": pinned()["channel"]}
    return subprocess.run(
        ["rustc", *arguments],
        cwd=paths.ROOT,
        env=command_environment.tool_environment() | pinned_toolchain,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def sysroot() -> Path:
    """The folder of the pinned toolchain."""
    return Path(rustc("--print", "sysroot").strip())


def standard_library() -> Path:
    """The source of the standard library, from the component rust-src."""
    return sysroot() / "lib" / "rustlib" / "src" / "rust" / "library"


def cargo() -> Path:
    """The toolchain's own cargo, without rustup's proxy."""
    own = sysroot() / "bin" / "cargo"
    return own if own.is_file() else Path(shutil.which("cargo") or "cargo")


def cargo_environment() -> dict[str, str]:
    """The environment for cargo in the workspace."""
    rustc = {"RUSTC": str(sysroot() / "bin" / "rustc")}
    return command_environment.tool_environment() | cargo_settings() | rustc


def kernel_environment() -> dict[str, str]:
    """The environment for evcxr, and for its cargo, rustc and cells."""
    return command_environment.user_environment() | cargo_settings()


def cargo_settings() -> dict[str, str]:
    """Variables that override the user's cargo configuration."""
    return command_environment.cargo_settings(
        flags=RUSTFLAGS,
        target=paths.TARGET,
        toolchain=pinned()["channel"],
        profile=development_profile(),
    )


@cache
def development_profile() -> dict[str, Any]:
    """`[profile.dev]` of the workspace."""
    return paths.read_toml(paths.ROOT / "Cargo.toml")["profile"]["dev"]


def with_standard_library() -> dict[str, str]:
    """Variables with which the workspace's programs find Rust's standard library.

    Their rpath is relative to `deps/`, where they were linked, but cargo moves them one folder up.
    So the rpath is wrong if the clone and rustup have a common parent folder, such as a home.
    """
    variable = platform.library_path_variable()
    folders = (os.environ.get(variable), rustc("--print", "target-libdir").strip())
    return {variable: os.pathsep.join(folder for folder in folders if folder)}


def rustc_version() -> str:
    """The compiler's version, host and more."""
    return rustc("-vV")


def host() -> str:
    """The target triple of this platform."""
    return next(
        line.removeprefix("host: ")
        for line in rustc_version().splitlines()
        if line.startswith("host: ")
    )


def program(name: str) -> Path:
    """The path at which cargo compiles a program or `examples/NAME` of the workspace."""
    return paths.TARGET / host() / "debug" / name
