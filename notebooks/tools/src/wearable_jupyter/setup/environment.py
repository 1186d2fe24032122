#!/usr/bin/env python3
"""Make the project's Python environment, `.venv`, from the locked requirements.

    python3 notebooks/tools/src/wearable_jupyter/setup/environment.py          everything
    python3 notebooks/tools/environment.py --just   the installers only: uv and just

Runs before anything is installed, so it needs Python's standard library and pip, no more. A
second call finds its stamp and returns at once.
"""

import fcntl
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[3]
ROOT = TOOLS.parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = TOOLS / "requirements.txt"
# A bundle to set up from, and the name of one that lies in the clone; see bundle.py.
BUNDLE_VARIABLE = "WEARABLE_BUNDLE"
BUNDLES = "wearable-environment-*.tar.zst"
# Among a bundle's Python packages, in lines: for which lock file (its SHA-256) and Python they are.
LISTED = "listed"
# Files that are copied into .venv; see shared-data in pyproject.toml.
SHARED = (TOOLS / "kernelspec" / "kernel.json", TOOLS / "settings" / "overrides.json")
BOOTSTRAP = ("uv", "rust-just")


def cache_directory() -> Path:
    """The one folder outside the repository that the project writes to.

    It is $WEARABLE_CACHE_DIR, if this user may write there. If not, that is only read.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    chosen = os.environ.get("WEARABLE_CACHE_DIR")
    if chosen and may_write(Path(chosen)):
        return Path(chosen)
    return Path(base) / "wearable_demo"


def may_write(folder: Path) -> bool:
    """Whether this user may write into a folder, or make it."""
    while not folder.exists():
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK)


def fail(message: str) -> None:
    sys.exit(f"error: {message}")


def stamp(*files: Path) -> str:
    """What the environment's content depends on, as one string."""
    digest = hashlib.sha256(f"{sys.version}{VENV}".encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def wheels() -> Path:
    """Where a bundle puts the Python packages, for these requirements."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]
    return cache_directory() / f"wheels-{digest}"


def python_version() -> str:
    """What wheels are for."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def from_wheels(lock: Path = REQUIREMENTS) -> tuple[str | Path, ...]:
    """What has pip and uv take packages from there alone, if all of `lock` for this Python are."""
    listed = wheels() / LISTED
    entry = f"{hashlib.sha256(lock.read_bytes()).hexdigest()} {python_version()}"
    here = listed.is_file() and entry in listed.read_text().splitlines()
    return ("--no-index", "--find-links", wheels()) if here else ()


def take_bundle() -> None:
    """Put what a bundle has in its places, once; it may be named, or lie in the clone."""
    named = os.environ.get(BUNDLE_VARIABLE)
    found = [Path(named)] if named else sorted(ROOT.glob(BUNDLES))
    marker = ROOT / ".bundle-taken"
    for bundle in found:
        stat = bundle.stat() if bundle.is_file() else None
        wanted = f"{bundle} {stat and (stat.st_size, stat.st_mtime_ns)}"
        if marker.is_file() and marker.read_text() == wanted:
            continue
        sys.path.insert(0, str(TOOLS / "src"))
        from wearable_jupyter.setup import bundle as bundles
        from wearable_jupyter.setup import layout

        if layout.exit_code(lambda bundle=bundle: bundles.use(bundle)) != 0:
            sys.exit(1)
        marker.write_text(wanted)


def run(*command: str | Path, **environment: str) -> None:
    result = subprocess.run([str(part) for part in command], env=os.environ | environment)
    if result.returncode != 0:
        fail(
            f"`{' '.join(str(part) for part in command)}` failed (see above). "
            "Without a network nothing can be installed; otherwise try again after: rm -rf .venv"
        )


def locked(name: str) -> str:
    """The requirement `name` with its hashes, as it stands in the lock."""
    match = re.search(rf"^{name}==.*(?:\n +--hash=.*)+", REQUIREMENTS.read_text(), re.MULTILINE)
    if match is None:
        fail(f"{name} is not in {REQUIREMENTS}")
    return match.group(0)


def bootstrap() -> None:
    """Create .venv with uv and just in it."""
    marker, wanted = VENV / ".bootstrapped", stamp()
    if marker.is_file() and marker.read_text() == wanted:
        return
    try:
        import pip  # noqa: F401
    except ImportError:
        fail(f"{sys.executable} has no pip. Debian and Ubuntu: sudo apt install python3-pip")
    print("Creating the Python environment in .venv", flush=True)
    # Without its own pip, so that Debian's python3 needs no python3-venv package.
    run(sys.executable, "-m", "venv", "--clear", "--without-pip", VENV)
    subset = VENV / "bootstrap.txt"
    subset.write_text("\n".join(locked(name) for name in BOOTSTRAP) + "\n")
    run(
        *(sys.executable, "-m", "pip", "--python", PYTHON, "install", "--quiet"),
        *("--no-deps", "--require-hashes", "--disable-pip-version-check", "-r", subset),
        *from_wheels(),
        PIP_CACHE_DIR=str(cache_directory() / "pip"),
    )
    marker.write_text(wanted)


def install() -> None:
    """Install every locked package, and the project's own Jupyter tools."""
    marker = VENV / ".installed"
    wanted = stamp(REQUIREMENTS, TOOLS / "pyproject.toml", *SHARED)
    if marker.is_file() and marker.read_text() == wanted:
        return
    print("Installing JupyterLab and the other Python packages (about a minute)", flush=True)
    uv = (VENV / "bin" / "uv", "pip")
    cache = {"UV_CACHE_DIR": str(cache_directory() / "uv"), "UV_LINK_MODE": "hardlink"}
    target = ("--python", PYTHON, "--quiet")
    run(*uv, "sync", *target, "--require-hashes", REQUIREMENTS, *from_wheels(), **cache)
    run(*uv, "install", *target, "--no-deps", "--no-build-isolation", "--editable", TOOLS, **cache)
    marker.write_text(wanted)


def main() -> None:
    if sys.version_info < (3, 11):
        fail(
            f"Python 3.11 or newer is needed, {sys.executable} is {sys.version.split()[0]}. "
            "Debian and Ubuntu: sudo apt install python3"
        )
    lock = ROOT / ".venv.lock"
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        take_bundle()
        bootstrap()
        if "--just" not in sys.argv[1:]:
            install()


if __name__ == "__main__":
    main()
