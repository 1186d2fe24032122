"""Make ready what notebooks and tests run on: the kernel's binary, the compiled dependencies, the
library, and a kernel's Cargo project to copy.

Dependencies are compiled once: into `target/`, by an ordinary cargo build, and from there into a
folder of the cache, from which other clones take them. Each step finds out for itself whether
there is anything to do, so a second call takes seconds.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import cells, layout
from .layout import Problem

# Compiled dependencies that nobody has used for so long are deleted.
KEEP_DAYS = 30


def prerequisites() -> None:
    """Check for what the user has to install.

    Raises `Problem` naming what is missing and the command that gets it.
    """
    if sys.platform not in ("linux", "darwin"):
        raise Problem(f"{sys.platform} is not supported; Linux is, and macOS may work.")
    if shutil.which("cargo") is None or shutil.which("rustc") is None:
        raise Problem(
            "Rust is not installed, or not on the PATH. Get rustup as https://rustup.rs says, "
            "then open a new terminal."
        )
    # A pinned toolchain that is not there yet would make the next call fail without a hint.
    try:
        sysroot = layout.sysroot()
    except subprocess.CalledProcessError as error:
        raise Problem(
            f"rustc does not start here: {error.stderr.strip()}\n"
            "Get the pinned toolchain, from the repository's root: rustup toolchain install"
        ) from error
    library = sysroot / "lib/rustlib/src/rust/library/Cargo.toml"
    if not library.is_file():
        raise Problem(
            "rust-src is not installed; the kernel needs it to infer types. "
            "Get it, from the repository's root: rustup component add rust-src"
        )
    if shutil.which("cc") is None:
        raise Problem(
            "There is no C compiler; Rust links with it. "
            "Debian and Ubuntu: sudo apt install build-essential"
        )


def cargo(
    *arguments: str,
    cwd: Path = layout.ROOT,
    quiet: bool = False,
    stderr: bool = False,
    **environment: str,
) -> str:
    """Run cargo and return its stdout; its progress goes to the terminal unless `quiet`.

    With `stderr`, that is returned instead. Raises `Problem` when cargo fails.
    """
    quiet = quiet or stderr
    result = subprocess.run(
        ["cargo", *arguments],
        cwd=cwd,
        env=layout.cargo_environment() | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if quiet else None,
        text=True,
    )
    if result.returncode != 0:
        reason = f":\n{result.stderr.strip()}" if quiet else ", see above"
        raise Problem(f"`cargo {' '.join(arguments)}` failed{reason}")
    return result.stderr if stderr else result.stdout


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Let one process at a time do `name`, among all clones."""
    layout.cache_directory().mkdir(parents=True, exist_ok=True)
    with (layout.cache_directory() / f".{name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Waiting for another process that prepares {name}", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def staging(name: str) -> Iterator[Path]:
    """An empty folder to make a part of the cache in; its lock must be held.

    One that a killed process left is emptied first, so there is never more than one.
    """
    folder = layout.cache_directory() / f".{name}.staging"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def link_tree(
    source: Path,
    destination: Path,
    *,
    skip: Callable[[Path], bool] = lambda path: False,
    copy: Callable[[Path], bool] = lambda path: False,
) -> None:
    """Copy a directory by hard links, where the file system can.

    A file that is changed in place must not be a link: `copy` says which files and directories are
    copied instead. cargo replaces what it compiles, but rewrites its notes on it.
    """
    destination.mkdir(parents=True, exist_ok=True)
    with os.scandir(source) as entries:
        for entry in entries:
            path, target = Path(entry.path), destination / entry.name
            if skip(path):
                continue
            if entry.is_dir(follow_symlinks=False):
                if copy(path):
                    shutil.copytree(path, target, dirs_exist_ok=True)
                else:
                    link_tree(path, target, skip=skip, copy=copy)
                continue
            target.unlink(missing_ok=True)
            if copy(path):
                shutil.copy2(path, target)
            else:
                link(path, target)


def link(source: Path, target: Path) -> None:
    """Make a hard link, or a copy on another file system and on one without links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def is_note(path: Path) -> bool:
    """Whether a path in a target directory holds cargo's notes, which it rewrites in place."""
    return path.parent.name == ".fingerprint"


def starts(binary: Path) -> bool:
    """Whether a program is there and runs here."""
    try:
        return subprocess.run([binary, "--help"], capture_output=True).returncode == 0
    except OSError:
        return False


def install_kernel() -> None:
    """Compile evcxr_jupyter into the cache, if it is not there or does not run here."""
    binary = layout.evcxr()
    with locked("evcxr"):
        if starts(binary):
            return
        print(
            f"Compiling the kernel, evcxr_jupyter {layout.EVCXR_VERSION}: "
            "once for this machine, about 7 minutes on 2 cores",
            flush=True,
        )
        with staging("evcxr") as build:
            # Its own lock file, and no flag of this workspace: linked dynamically, it would not
            # start without the toolchain's libraries in its path.
            cargo(
                *("install", "--locked", "--version", layout.EVCXR_VERSION, "evcxr_jupyter"),
                *("--root", str(build / "root"), "--target-dir", str(build / "target")),
                cwd=layout.cache_directory(),
                RUSTFLAGS="",
                # Or cargo advises to put this passing folder on the PATH.
                PATH=f"{build / 'root' / 'bin'}:{os.environ['PATH']}",
            )
            installed = build / "root" / "bin" / binary.name
            if not starts(installed):
                raise Problem("evcxr_jupyter was compiled and does not start. Run: ./justw doctor")
            shutil.rmtree(binary.parent.parent, ignore_errors=True)
            (build / "root").rename(binary.parent.parent)


def workspace_files() -> tuple[set[str], set[str]]:
    """Names of the workspace's packages and of everything that is compiled from them."""
    metadata = json.loads(cargo("metadata", "--no-deps", "--format-version=1", quiet=True))
    packages = {package["name"] for package in metadata["packages"]}
    targets = {t["name"].replace("-", "_") for p in metadata["packages"] for t in p["targets"]}
    return packages, targets


def is_dependency(path: Path, packages: set[str], targets: set[str]) -> bool:
    """Whether a path in `target/` is part of the dependencies, not of the workspace itself."""
    folder, name = path.parent.name, path.name
    if folder in (".fingerprint", "build"):
        return name.rsplit("-", 1)[0] not in packages
    if folder == "deps":
        stem = name.split(".")[0]
        return stem.rsplit("-", 1)[0].removeprefix("lib") not in targets | {"ctx"}
    if folder == "debug":
        return path.is_dir() and name in (".fingerprint", "build", "deps")
    return True


def build_workspace() -> None:
    """Compile the library, the generator and the tests, and their dependencies first if need be."""
    compiled = layout.compiled_dependencies()
    stamp = layout.TARGET / ".dependencies"
    with locked("dependencies"):
        seeded = stamp.is_file() and stamp.read_text() == compiled.name
        if not seeded and compiled.is_dir():
            print("Taking the compiled dependencies from the cache", flush=True)
            layout.TARGET.mkdir(exist_ok=True)
            link_tree(compiled, layout.TARGET, copy=is_note)
        elif not seeded:
            print(
                "Compiling polars and some 300 other packages: once for this machine, "
                "about 18 minutes on 2 cores",
                flush=True,
            )
        # All platforms' packages, or a kernel's `cargo metadata` would want the network for them.
        cargo("fetch", "--locked", "--quiet")
        build = ("build", "--workspace", "--all-targets", "--locked")
        if seeded:
            cargo(*build, "--quiet")
        else:
            cargo(*build)
            # evcxr checks a cell that does not compile, and clippy checks the workspace; both want
            # the dependencies' metadata, which a build does not leave.
            cargo("check", "--workspace", "--all-targets", "--locked")
        if not compiled.is_dir():
            publish(compiled)
        os.utime(compiled)
        stamp.write_text(compiled.name)
        collect(compiled)


def run_binary(name: str, *arguments: str, example: bool = False, **environment: str) -> None:
    """Run one of the workspace's programs, compiled by `build_workspace`.

    Raises `Problem` when it fails; its own message is on stderr.
    """
    folder = layout.TARGET / layout.host() / "debug"
    binary = folder / "examples" / name if example else folder / name
    if not binary.is_file():
        raise Problem(f"{binary} is not there. Run: ./justw setup")
    result = subprocess.run([binary, *arguments], cwd=layout.ROOT, env=os.environ | environment)
    if result.returncode != 0:
        raise Problem(f"{name} failed, see above")


def publish(compiled: Path) -> None:
    """Put what was compiled from other people's packages into the cache."""
    packages, targets = workspace_files()
    with staging("dependencies") as folder:
        staged = folder / compiled.name
        for part in ("debug", f"{layout.host()}/debug"):
            (staged / part).mkdir(parents=True)
            link_tree(
                layout.TARGET / part,
                staged / part,
                skip=lambda path: not is_dependency(path, packages, targets),
                copy=is_note,
            )
        staged.rename(compiled)


def collect(compiled: Path) -> None:
    """Delete compiled dependencies that no clone has used for a while."""
    oldest = time.time() - KEEP_DAYS * 24 * 3600
    for other in layout.cache_directory().glob("dependencies-*"):
        if other != compiled and other.stat().st_mtime < oldest:
            shutil.rmtree(other, ignore_errors=True)


def kernel_project() -> str:
    """The Cargo.toml that evcxr would write for a kernel with our library."""
    return f"""
[package]
name = "ctx"
version = "1.0.0"
edition = "2024"

[lib]
crate-type = ["cdylib"]
path = "src/lib.rs"

[profile.dev]
opt-level = 0
debug = false
strip = "debuginfo"
rpath = true
lto = false
debug-assertions = true
codegen-units = 16
panic = 'unwind'
incremental = true
overflow-checks = true

[dependencies]
wearable_demo = {{ path = "{layout.LIBRARY}" }}
"""


def library_state() -> str:
    """What tells an edit of the library: name, time and size of every file of its package."""
    files = sorted(path for path in layout.LIBRARY.rglob("*") if path.is_file())
    return "\n".join(f"{f} {f.stat().st_mtime_ns} {f.stat().st_size}" for f in files)


def build_template() -> None:
    """Compile a kernel's Cargo project with the library as it is now.

    Dependencies come from the cache's folder; the library is compiled anew if its source changed,
    which takes seconds.
    """
    template, compiled = layout.TEMPLATE, layout.compiled_dependencies()
    stamp = template / ".dependencies"
    layout.TARGET.mkdir(exist_ok=True)
    with (layout.TARGET / ".kernel-template.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not (stamp.is_file() and stamp.read_text() == compiled.name):
            if not compiled.is_dir():
                raise Problem("The kernel's dependencies are not compiled. Run: ./justw setup")
            shutil.rmtree(template, ignore_errors=True)
            (template / "src").mkdir(parents=True)
            (template / "src" / "lib.rs").write_text("pub use wearable_demo;\n")
            (template / "Cargo.toml").write_text(kernel_project())
            shutil.copy(layout.ROOT / "Cargo.lock", template)
            link_tree(compiled, template / "target", copy=is_note)
            stamp.write_text(compiled.name)
        call, sources = template / "call", template / "sources"
        state = library_state()
        if call.is_file() and sources.is_file() and sources.read_text() == state:
            return
        if not call.is_file():
            (template / "src" / "lib.rs").touch()  # so that it is compiled, and seen how
        verbose = cargo(
            *("build", "--offline", "-vv", "--target", layout.host()),
            cwd=template,
            stderr=True,
            CARGO_TARGET_DIR="target",
            CARGO_BUILD_BUILD_DIR="target",
        )
        if (seen := cells.call_in(verbose)) is not None:
            call.write_text(seen)
        sources.write_text(state)


def prepare() -> None:
    """Everything, in order."""
    prerequisites()
    install_kernel()
    build_workspace()
    build_template()
