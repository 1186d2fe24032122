#!/usr/bin/env python3
"""Create the project's virtual environment, `.venv`, from the locked requirements.

    python3 -I notebooks/tools/src/wearable_jupyter/bootstrap/venv.py          all packages
    python3 -I notebooks/tools/…/venv.py --just   uv and just only

Runs before anything is installed, so it uses the standard library only. A second call compares a
hash and returns at once. A working environment is kept, whichever Python runs this.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

TOOLS = Path(__file__).resolve().parents[3]
ROOT = TOOLS.parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = TOOLS / "requirements.txt"
# Names an offline bundle, and the file name of a bundle in the clone; see offline_bundle.py.
BUNDLE_VARIABLE = "WEARABLE_BUNDLE"
BUNDLES = "wearable-environment-*.tar.zst"
# A file next to the wheels of a bundle. Each line has the SHA-256 of a lock file and a version of
# Python for which the wheels are complete.
WHEEL_INDEX = "index.txt"
# Files that the installation copies into .venv; see shared-data in pyproject.toml.
SHARED = (
    TOOLS / "kernelspec" / "kernel.json",
    TOOLS / "settings" / "overrides.json",
    TOOLS / "labextension" / "package.json",
    TOOLS / "labextension" / "static" / "extension.js",
    TOOLS / "src" / "wearable_jupyter" / "export" / "templates" / "walkthrough" / "content.css",
)
BOOTSTRAP = ("uv", "rust-just")
MIN_PYTHON = (3, 11)
# Runs a module of a package that is not installed: SOURCE_FOLDER MODULE ARGUMENT…
RUN_MODULE = """
import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
# The first release of pip with --python, which installs into another environment.
MIN_PIP = (22, 3)

# Characters that the paths of the clone and of the cache cannot contain, with the reason.
IMPOSSIBLE = {
    os.pathsep: "It separates the entries of PATH and of similar lists",
    "\n": "It separates the entries of lists of files",
    "%": "Rust's linker replaces it by a digit, and then the directory does not exist",
    "{": "cargo expands it as a variable in the path of its build directory",
    "}": "cargo expands it as a variable in the path of its build directory",
}

if not __package__:
    sys.path.insert(0, str(TOOLS / "src"))
from wearable_jupyter.bootstrap import platform, trust  # noqa: E402
from wearable_jupyter.bootstrap.command_environment import tool_environment  # noqa: E402


def cache_directory() -> Path:
    """The only folder outside the repository that the project writes to.

    It is $WEARABLE_CACHE_DIR if this user can write there. Otherwise, that folder is only read.
    """
    chosen = chosen_cache()
    return chosen if chosen and may_write(chosen) else default_cache()


def default_cache() -> Path:
    """This user's cache if $WEARABLE_CACHE_DIR is not set."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or "")
    # The XDG specification ignores relative paths.
    return (base if base.is_absolute() else Path.home() / ".cache") / "wearable_demo"


def chosen_cache() -> Path | None:
    """The folder in $WEARABLE_CACHE_DIR; a relative path starts at the repository's root."""
    chosen = os.environ.get("WEARABLE_CACHE_DIR")
    return ROOT / Path(chosen).expanduser() if chosen else None


def is_shared() -> bool:
    """Whether other users may read this cache, because $WEARABLE_CACHE_DIR names it."""
    return cache_directory() != default_cache()


def may_write(folder: Path) -> bool:
    """Whether this user can write into a folder, or create it."""
    while not os.path.exists(folder):
        folder = folder.parent
    return os.path.isdir(folder) and os.access(folder, os.W_OK)


def package_cache(name: str) -> str:
    """The cache of pip or uv. Exits with an error if another user can change it."""
    if (reason := trust.prepare_folder(cache_directory(), readable=is_shared())) is not None:
        fail(reason)
    folder = cache_directory() / name
    if (fault := trust.find_fault(folder, writable=True)) is not None:
        fail(fault.with_advice(folder))
    return str(folder)


def fail(message: str) -> NoReturn:
    sys.exit(f"error: {message}")


def content_hash(*files: Path) -> str:
    """A hash of the environment's content."""
    digest = hashlib.sha256(f"{python_version()}{VENV}".encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def wheels() -> Path:
    """The folder in the cache for the wheels of an offline bundle, for these requirements."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]
    return cache_directory() / f"wheels-{digest}"


def python_version() -> str:
    """The version of .venv's Python, or of this one. Wheels depend on it."""
    return venv_version() or f"{sys.version_info.major}.{sys.version_info.minor}"


def venv_version() -> str | None:
    """The version of .venv's Python, such as 3.11; None if it is broken or was moved."""
    if not (VENV / "bin").is_dir():
        return None
    code = "import sys; print('%d.%d' % sys.version_info[:2], sys.prefix)"
    version, _, prefix = output(PYTHON, "-I", "-X", "utf8", "-c", code).partition(" ")
    try:
        settings = (VENV / "pyvenv.cfg").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    # Packages are in a folder named after the version, and scripts contain the path of .venv.
    works = prefix == str(VENV) and f"version = {version}." in settings and f" {VENV}\n" in settings
    return version if works else None


def output(*command: str | Path) -> str:
    """The stdout of a command; empty if the command fails."""
    try:
        result = subprocess.run(
            [str(part) for part in command],
            env=tool_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return ""
    return result.stdout.decode("utf-8", "replace").strip() if result.returncode == 0 else ""


def wheel_options(lock: Path = REQUIREMENTS) -> tuple[str | Path, ...]:
    """Options that restrict pip and uv to the bundle's wheels, if these are complete for `lock`."""
    index = wheels() / WHEEL_INDEX
    entry = f"{hashlib.sha256(lock.read_bytes()).hexdigest()} {python_version()}"
    here = index.is_file() and entry in index.read_text().splitlines()
    if here and (fault := trust.find_fault(wheels())) is not None:
        fail(fault.with_advice(wheels()))
    return ("--no-index", "--find-links", wheels()) if here else ()


def unpack_bundle() -> None:
    """Install an offline bundle once: the named one, or those in the clone."""
    named = os.environ.get(BUNDLE_VARIABLE)
    bundles = [Path(named)] if named else sorted(ROOT.glob(BUNDLES))
    marker = ROOT / ".bundle-unpacked"
    for bundle in bundles:
        stat = bundle.stat() if bundle.is_file() else None
        wanted = f"{bundle} {stat and (stat.st_size, stat.st_mtime_ns)}"
        if marker.is_file() and marker.read_text() == wanted:
            continue
        # A process of its own, because this subpackage does not depend on the others.
        command = [sys.executable, "-I", "-X", "utf8", "-c", RUN_MODULE, TOOLS / "src"]
        command += ["wearable_jupyter.setup.offline_bundle", bundle]
        code = subprocess.run([str(part) for part in command]).returncode
        if code != 0:
            sys.exit(code)
        marker.write_text(wanted)


def run(*command: str | Path, **environment: str) -> None:
    # The umask keeps other users from changing files in the cache and links to them.
    result = subprocess.run(
        [str(part) for part in command],
        cwd=TOOLS,
        env={**tool_environment(), **environment},
        umask=0o022,
    )
    if result.returncode != 0:
        fail(
            f"`{' '.join(str(part) for part in command)}` failed; see above. "
            "Check the network, then run: rm -rf .venv && ./justw setup"
        )


def locked_requirement(name: str) -> str:
    """The requirement `name` with its hashes, from the lock file."""
    match = re.search(rf"^{name}==.*(?:\n +--hash=.*)+", REQUIREMENTS.read_text(), re.MULTILINE)
    if match is None:
        fail(f"{REQUIREMENTS} has no entry for {name}. Restore it: git checkout {REQUIREMENTS}")
    return match.group(0)


def bootstrap() -> None:
    """Create .venv with uv and just in it."""
    marker = VENV / ".bootstrapped"
    if marker.is_file() and venv_version() is not None:
        return
    print("Creating the Python environment in .venv", flush=True)
    # Debian's python3 lacks ensurepip without python3-venv, so .venv gets no pip.
    run(sys.executable, "-I", "-m", "venv", "--clear", "--without-pip", VENV)
    subset = VENV / "bootstrap.txt"
    subset.write_text("\n".join(locked_requirement(name) for name in BOOTSTRAP) + "\n")
    run(
        *installer(),
        *("--quiet", "--no-deps", "--require-hashes", "-r", subset),
        *wheel_options(),
        PIP_CACHE_DIR=package_cache("pip"),
        UV_CACHE_DIR=package_cache("uv"),
    )
    marker.write_text(str(VENV))


def installer() -> tuple[str | Path, ...]:
    """A command that installs packages into .venv: pip if possible, otherwise uv.

    The first Python on the PATH may belong to a uv environment, which has neither pip nor
    ensurepip. Then its base Python or another one on the PATH may have pip.
    """
    for python in pythons():
        version = re.match(r"pip (\d+)\.(\d+)", output(python, "-E", "-m", "pip", "--version"))
        if version and tuple(map(int, version.groups())) >= MIN_PIP:
            return (python, "-E", "-m", "pip", "--python", PYTHON, "install")
    if output(PYTHON, "-I", "-m", "ensurepip"):
        return (PYTHON, "-I", "-m", "pip", "install")
    if uv := shutil.which("uv"):
        return (uv, "pip", "install", "--python", PYTHON)
    fail(
        f"Neither {sys.executable} nor another Python on the PATH has pip "
        f"{'.'.join(map(str, MIN_PIP))} or newer. "
        f"{platform.install_hint('pip')}"
    )


def pythons() -> Iterator[str]:
    """Interpreters: this one, its base, and those on the PATH."""
    found = [sys.executable, getattr(sys, "_base_executable", sys.executable)]
    names = [
        "python3",
        *(f"python3.{minor}" for minor in range(20, MIN_PYTHON[1] - 1, -1)),
        "python",
    ]
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        for name in names:
            program = Path(folder or ".", name)
            if program.is_file() and os.access(program, os.X_OK):
                found.append(str(program))
    yield from dict.fromkeys(found)


def check_location() -> None:
    """Exit with an error if cargo or Python cannot work in this clone or with this cache."""
    for name, folder in (("this clone", ROOT), ("the cache", cache_directory())):
        if not may_write(folder):
            fail(
                f"Permission denied: you cannot write to {name}, {folder}. "
                "Use a clone of your own, and set WEARABLE_CACHE_DIR to a writable directory"
            )
    try:
        str(ROOT).encode()
    except UnicodeEncodeError:
        fail(f"The path of this clone, {str(ROOT)!a}, is not valid UTF-8. Move the clone")
    for character, reason in IMPOSSIBLE.items():
        for name, path in (("this clone", ROOT), ("the cache", cache_directory())):
            if character in str(path):
                fail(
                    f"The path of {name}, {str(path)!r}, contains {character!r}. {reason}. "
                    "Move the clone, or set WEARABLE_CACHE_DIR to another directory"
                )


def install() -> None:
    """Install all locked packages and the project's own package."""
    marker = VENV / ".installed"
    wanted = content_hash(REQUIREMENTS, TOOLS / "pyproject.toml", *SHARED)
    if marker.is_file() and marker.read_text() == wanted:
        return
    print("Installing JupyterLab and the other Python packages (about a minute)", flush=True)
    uv = (VENV / "bin" / "uv", "pip")
    cache = {"UV_CACHE_DIR": package_cache("uv"), "UV_LINK_MODE": "hardlink"}
    target = ("--python", PYTHON, "--quiet")
    run(*uv, "sync", *target, "--require-hashes", REQUIREMENTS, *wheel_options(), **cache)
    # As a relative path, which `run` makes TOOLS: uv would read " #" in it as a comment.
    run(*uv, "install", *target, "--no-deps", "--no-build-isolation", "--editable", ".", **cache)
    marker.write_text(wanted)


def main() -> None:
    # Groups must not be able to write to installed and compiled files.
    os.umask(os.umask(0o022) | 0o022)
    check_location()
    if sys.version_info < MIN_PYTHON:
        fail(
            f"Python 3.11 or newer is needed; {sys.executable} is {sys.version.split()[0]}. "
            f"{platform.install_hint('python')}"
        )
    with (ROOT / ".venv.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        unpack_bundle()
        bootstrap()
        if "--just" not in sys.argv[1:]:
            install()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        fail(f"{error.strerror or error}: {error.filename or ROOT}")
