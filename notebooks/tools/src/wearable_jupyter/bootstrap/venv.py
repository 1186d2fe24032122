#!/usr/bin/env python3
"""Make the project's Python environment, `.venv`, from the locked requirements.

    python3 -I notebooks/tools/src/wearable_jupyter/bootstrap/venv.py          everything
    python3 -I notebooks/tools/…/venv.py --just   the installers only: uv and just

Runs before anything is installed, so it needs only Python's standard library. A second call finds
its stamp and returns at once. An environment that works is kept, whichever Python calls this.
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
# A bundle to set up from, and the name of one that lies in the clone; see offline_bundle.py.
BUNDLE_VARIABLE = "WEARABLE_BUNDLE"
BUNDLES = "wearable-environment-*.tar.zst"
# Among a bundle's Python packages, in lines: for which lock file (its SHA-256) and Python they are.
WHEEL_INDEX = "index.txt"
# Files that are copied into .venv; see shared-data in pyproject.toml.
SHARED = (TOOLS / "kernelspec" / "kernel.json", TOOLS / "settings" / "overrides.json")
BOOTSTRAP = ("uv", "rust-just")
OLDEST = (3, 11)
# Runs a module of a package that is not installed: SOURCE_FOLDER MODULE ARGUMENT…
RUN_MODULE = """
import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
# The first release of pip that installs into another environment.
OLDEST_PIP = (22, 3)

# What the path of a clone or of the cache cannot contain, and why.
IMPOSSIBLE = {
    os.pathsep: "PATH and other lists of paths are split there",
    "\n": "Lists of files are split there",
    "%": "Rust's linker writes a digit in place of it, into a folder that is not there",
    "{": "cargo takes it for a variable in the path of its build directory",
    "}": "cargo takes it for the end of a variable in the path of its build directory",
}

if not __package__:
    sys.path.insert(0, str(TOOLS / "src"))
from wearable_jupyter.bootstrap import trust  # noqa: E402
from wearable_jupyter.bootstrap.command_environment import tool_environment  # noqa: E402


def cache_directory() -> Path:
    """The one folder outside the repository that the project writes to.

    It is $WEARABLE_CACHE_DIR, if this user may write there. If not, that is only read.
    """
    chosen = chosen_cache()
    return chosen if chosen and may_write(chosen) else default_cache()


def default_cache() -> Path:
    """This user's cache, unless another is chosen."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or "")
    # As its specification has it, a relative path does not count.
    return (base if base.is_absolute() else Path.home() / ".cache") / "wearable_demo"


def chosen_cache() -> Path | None:
    """The folder that $WEARABLE_CACHE_DIR names; a relative one is in the repository."""
    chosen = os.environ.get("WEARABLE_CACHE_DIR")
    return ROOT / Path(chosen).expanduser() if chosen else None


def is_shared() -> bool:
    """Whether other users may take from this cache, because it is a folder chosen for that."""
    return cache_directory() != default_cache()


def may_write(folder: Path) -> bool:
    """Whether this user may write into a folder, or make it."""
    while not os.path.exists(folder):
        folder = folder.parent
    return os.path.isdir(folder) and os.access(folder, os.W_OK)


def package_cache(name: str) -> str:
    """The cache of pip or uv. Ends this process if it cannot be used safely."""
    if (reason := trust.prepare_folder(cache_directory(), readable=is_shared())) is not None:
        fail(reason)
    folder = cache_directory() / name
    if (fault := trust.find_fault(folder, writable=True)) is not None:
        fail(fault.with_advice(folder))
    return str(folder)


def fail(message: str) -> NoReturn:
    sys.exit(f"error: {message}")


def stamp(*files: Path) -> str:
    """What the environment's content depends on, as one string."""
    digest = hashlib.sha256(f"{python_version()}{VENV}".encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def wheels() -> Path:
    """Where a bundle puts the Python packages, for these requirements."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]
    return cache_directory() / f"wheels-{digest}"


def python_version() -> str:
    """The version of the Python in .venv, or of this one; wheels depend on it."""
    return venv_version() or f"{sys.version_info.major}.{sys.version_info.minor}"


def venv_version() -> str | None:
    """The version of the Python in .venv, such as 3.11; None if it does not work, or was moved."""
    if not (VENV / "bin").is_dir():
        return None
    code = "import sys; print('%d.%d' % sys.version_info[:2], sys.prefix)"
    version, _, prefix = output(PYTHON, "-I", "-X", "utf8", "-c", code).partition(" ")
    try:
        made = (VENV / "pyvenv.cfg").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    # Its packages are in a folder named after the version, and its scripts contain its path.
    works = prefix == str(VENV) and f"version = {version}." in made and f" {VENV}\n" in made
    return version if works else None


def output(*command: str | Path) -> str:
    """What a command prints, empty if it fails."""
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
    """What has pip and uv take packages from there alone, if all of `lock` for this Python are."""
    index = wheels() / WHEEL_INDEX
    entry = f"{hashlib.sha256(lock.read_bytes()).hexdigest()} {python_version()}"
    here = index.is_file() and entry in index.read_text().splitlines()
    if here and (fault := trust.find_fault(wheels())) is not None:
        fail(fault.with_advice(wheels()))
    return ("--no-index", "--find-links", wheels()) if here else ()


def unpack_bundle() -> None:
    """Put what a bundle has in its places, once; it may be named, or lie in the clone."""
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
    # What is written is in a cache, or linked from there, where no other user may write to it.
    result = subprocess.run(
        [str(part) for part in command],
        cwd=TOOLS,
        env={**tool_environment(), **environment},
        umask=0o022,
    )
    if result.returncode != 0:
        fail(
            f"`{' '.join(str(part) for part in command)}` failed (see above). "
            "Without a network nothing can be installed; otherwise try again after: rm -rf .venv"
        )


def locked_requirement(name: str) -> str:
    """The requirement `name` with its hashes, as it stands in the lock."""
    match = re.search(rf"^{name}==.*(?:\n +--hash=.*)+", REQUIREMENTS.read_text(), re.MULTILINE)
    if match is None:
        fail(f"{name} is not in {REQUIREMENTS}")
    return match.group(0)


def bootstrap() -> None:
    """Create .venv with uv and just in it."""
    marker = VENV / ".bootstrapped"
    if marker.is_file() and venv_version() is not None:
        return
    print("Creating the Python environment in .venv", flush=True)
    # Debian's python3 has no ensurepip without python3-venv, so .venv gets no pip of its own.
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
    """A command that installs packages into .venv: some pip, or else uv.

    The first Python on the PATH may be that of a uv environment, which has neither pip nor
    ensurepip; the one that the environment was made from, or another one, has.
    """
    for python in pythons():
        version = re.match(r"pip (\d+)\.(\d+)", output(python, "-E", "-m", "pip", "--version"))
        if version and tuple(map(int, version.groups())) >= OLDEST_PIP:
            return (python, "-E", "-m", "pip", "--python", PYTHON, "install")
    if output(PYTHON, "-I", "-m", "ensurepip"):
        return (PYTHON, "-I", "-m", "pip", "install")
    if uv := shutil.which("uv"):
        return (uv, "pip", "install", "--python", PYTHON)
    fail(
        f"{sys.executable} has no pip {'.'.join(map(str, OLDEST_PIP))} or newer, and neither has "
        "another Python on the PATH. Debian and Ubuntu: sudo apt install python3-pip"
    )


def pythons() -> Iterator[str]:
    """Interpreters: this one, the one that its environment was made from, those on the PATH."""
    found = [sys.executable, getattr(sys, "_base_executable", sys.executable)]
    names = ["python3", *(f"python3.{minor}" for minor in range(20, OLDEST[1] - 1, -1)), "python"]
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        for name in names:
            program = Path(folder or ".", name)
            if program.is_file() and os.access(program, os.X_OK):
                found.append(str(program))
    yield from dict.fromkeys(found)


def check_location() -> None:
    """Stop where cargo or Python cannot work, before anything is installed or compiled."""
    for what, folder in (("this clone", ROOT), ("the cache", cache_directory())):
        if not may_write(folder):
            fail(
                f"you cannot write to {what}, {folder}. Use a clone of your own, and set "
                "WEARABLE_CACHE_DIR to a directory that you can write to"
            )
    try:
        str(ROOT).encode()
    except UnicodeEncodeError:
        fail(f"the path of this clone, {str(ROOT)!a}, is not UTF-8. Move the clone")
    for character, reason in IMPOSSIBLE.items():
        for what, path in (("this clone", ROOT), ("the cache", cache_directory())):
            if character in str(path):
                fail(
                    f"the path of {what}, {str(path)!r}, contains {character!r}. {reason}. "
                    "Move the clone, or set WEARABLE_CACHE_DIR"
                )


def install() -> None:
    """Install every locked package, and the project's own Jupyter tools."""
    marker = VENV / ".installed"
    wanted = stamp(REQUIREMENTS, TOOLS / "pyproject.toml", *SHARED)
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
    # What is installed and compiled must not be writable by a group.
    os.umask(os.umask(0o022) | 0o022)
    check_location()
    if sys.version_info < OLDEST:
        fail(
            f"Python 3.11 or newer is needed, {sys.executable} is {sys.version.split()[0]}. "
            "Debian and Ubuntu: sudo apt install python3"
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
