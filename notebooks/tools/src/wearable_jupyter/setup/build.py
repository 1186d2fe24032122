"""Make ready what notebooks and tests run on: the kernel's binary, the compiled dependencies, the
library, and a kernel's Cargo project to copy.

Dependencies are compiled once: into `target/`, by an ordinary cargo build, and from there into a
folder of the cache, from which other clones take them. Each step finds out for itself whether
there is anything to do, so a second call takes seconds.
"""

import errno
import fcntl
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from ..bootstrap import command_environment, trust
from ..bootstrap.venv import is_shared
from . import artifact_cache, caches, cargo_configuration, paths, progress, toolchain
from .errors import UserError
from .links import is_rewritten, link_tree
from .progress import Task, reporting

# Cores from which the kernel and the dependencies are compiled at once.
CORES_FOR_BOTH = 4
# Compiled dependencies that nobody has used for so long are deleted.
KEEP_DAYS = 30


def prerequisites(*, fetch: bool = True) -> None:
    """Check for what the user has to install, and have rustup fetch what it can, if that is wanted.

    Raises `UserError` naming what is missing and the command that gets it.
    """
    if sys.platform not in ("linux", "darwin"):
        raise UserError(f"{sys.platform} is not supported; Linux is, and macOS may work.")
    toolchain.find_rust()
    if shutil.which("cargo") is None or shutil.which("rustc") is None:
        raise UserError(
            "Rust is not installed, or not on the PATH. Get rustup as https://rustup.rs says, "
            "then open a new terminal."
        )
    check_toolchain(fetch)
    conflict = cargo_configuration.conflict(paths.ROOT, toolchain.cargo_home())
    if conflict is not None:
        raise UserError(conflict)
    if shutil.which("cc") is None:
        raise UserError(
            "There is no C compiler; Rust links with it. "
            "Debian and Ubuntu: sudo apt install build-essential"
        )


def check_toolchain(fetch: bool) -> None:
    """Check for what `rust-toolchain.toml` names, or have rustup `fetch` it.

    rustup may do so by itself when cargo is called, or not (RUSTUP_AUTO_INSTALL=0), and never
    fetches a component that is missing. Raises `UserError`.
    """
    pinned = toolchain.pinned()
    try:
        fault = wrong_version(toolchain.rustc("--version"), pinned["channel"])
    except subprocess.CalledProcessError as error:
        fault = f"rustc does not start ({error.stderr.strip().splitlines()[:1]})"
    if fault is not None:
        if not fetch:
            raise UserError(f"{fault}. Run: ./justw setup")
        if shutil.which("rustup") is None:
            raise UserError(
                f"{fault}. Get rustup as https://rustup.rs says, then open a new terminal"
            )
        rustup("toolchain", "install", pinned["channel"], "--profile", pinned["profile"])
        toolchain.find_rust()
        toolchain.rustc.cache_clear()
    sysroot = toolchain.sysroot()
    parts = {
        "rust-src": "lib/rustlib/src/rust/library/Cargo.toml",
        "clippy": "bin/cargo-clippy",
        "rustfmt": "bin/rustfmt",
    }
    missing = [part for part in pinned["components"] if not (sysroot / parts[part]).exists()]
    if missing and not fetch:
        raise UserError(f"of the toolchain, {', '.join(missing)} is not there. Run: ./justw setup")
    if missing:
        rustup("component", "add", "--toolchain", pinned["channel"], *missing)


def wrong_version(version: str, channel: str) -> str | None:
    """What is wrong with `rustc --version` for a pinned channel; channels by name have all."""
    if not channel[0].isdigit() or version.split()[1:2] == [channel]:
        return None
    return f"Rust {channel} is needed, and the one on the PATH is {version.strip()}"


def rustup(*arguments: str) -> None:
    """Run rustup; its progress goes to the terminal."""
    command = f"rustup {' '.join(arguments)}"
    if shutil.which("rustup") is None:
        raise UserError(
            f"There is no rustup for `{command}`. Get it as https://rustup.rs says, "
            "then open a new terminal."
        )
    print(f"Fetching a part of the Rust toolchain: {command}", flush=True)
    environment = command_environment.tool_environment()
    if subprocess.run(["rustup", *arguments], env=environment).returncode != 0:
        raise UserError(f"`{command}` failed, see above; without a network nothing can be fetched")


def cargo_variables(given: dict[str, str]) -> dict[str, str]:
    """The environment for cargo, with those of a caller. All that is compiled stays together."""
    if "CARGO_TARGET_DIR" in given:
        given = {"CARGO_BUILD_BUILD_DIR": given["CARGO_TARGET_DIR"], **given}
    return toolchain.cargo_environment() | given


def run_cargo(
    *arguments: str, cwd: Path = paths.ROOT, quiet: bool = False, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run cargo and return what it printed: stderr only if `quiet`, or that goes to the terminal.

    Raises `UserError` when cargo fails.
    """
    result = subprocess.run(
        ["cargo", *arguments],
        cwd=cwd,
        env=cargo_variables(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if quiet else None,
        text=True,
    )
    if result.returncode != 0:
        if not quiet:
            print(result.stdout, end="", flush=True)  # of a test, it says what failed
        reason = f":\n{result.stderr.strip()}" if quiet else ", see above"
        raise UserError(f"`cargo {' '.join(arguments)}` failed{reason}")
    return result


def cargo(*arguments: str, quiet: bool = False, **environment: str) -> str:
    """Run cargo in the workspace and return its stdout, as `run_cargo` does."""
    return run_cargo(*arguments, quiet=quiet, **environment).stdout


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Let one process at a time do `name`, among all clones."""
    file = caches.make_cache() / f".{name}.lock"
    with os.fdopen(open_lock(file)) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Waiting for another process that prepares {name}", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def open_lock(file: Path) -> int:
    """Open a file for its lock, also one that root has left in this user's cache."""
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
        try:
            return os.open(file, flags | os.O_NOFOLLOW, 0o644)
        except PermissionError as error:
            denied = error
    raise denied


@contextmanager
def staging(name: str) -> Iterator[Path]:
    """An empty folder to make a part of the cache in; its lock must be held.

    One that a killed process left is emptied first, so there is never more than one.
    """
    folder = caches.cache_directory() / f".{name}.staging"
    delete_cache_folder(folder)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def delete_cache_folder(folder: Path) -> None:
    """Delete what is in the way in the cache. Raises `UserError` if that is another user's."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        owner = trust.user_name(folder.stat().st_uid)
        fix = f"sudo rm -rf {shlex.quote(str(folder))}"
        raise UserError(f"{folder} cannot be deleted (it belongs to {owner}). Fix: {fix}")


def move_into_cache(staged: Path, destination: Path) -> None:
    """Put what was made into its place in the cache, unless another process has done so meanwhile.

    No other user can change it there, and in a shared cache every user can read it, whatever the
    umask is.
    """
    trust.protect(staged, readable=is_shared())
    try:
        staged.rename(destination)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def starts(binary: Path) -> bool:
    """Whether a program is there and runs here."""
    try:
        return subprocess.run([binary, "--help"], capture_output=True).returncode == 0
    except OSError:
        return False


def run_with_progress(
    task: Task, *arguments: str, cwd: Path = paths.ROOT, **environment: str
) -> None:
    """Run cargo with `task` hearing how far it is. Raises `UserError` when cargo fails."""
    # The first word is cargo's command; diagnostics still go to the terminal.
    command, *rest = arguments
    messages = ("--quiet", "--message-format=json-render-diagnostics")
    running = subprocess.Popen(
        ["cargo", command, *messages, *rest],
        cwd=cwd,
        env=cargo_variables(environment),
        stdout=subprocess.PIPE,
        text=True,
    )
    with running, reporting(task):
        for line in running.stdout:
            task.read_message(line)
    if running.returncode != 0:
        raise UserError(f"`cargo {' '.join(arguments)}` failed, see above")


def install_kernel() -> None:
    """Compile evcxr_jupyter into the cache, if it is not there or does not run here."""
    with locked("evcxr"):
        if starts(caches.evcxr()):
            return
        binary = caches.own_evcxr()
        print(
            f"Compiling the kernel, evcxr_jupyter {caches.EVCXR_VERSION}: "
            "once for this machine, about 7 minutes on 2 cores",
            flush=True,
        )
        with staging("evcxr") as build:
            task = Task("kernel", **progress.SECONDS["kernel"])
            # Its own lock file, and no flag of this workspace: linked dynamically, it would not
            # start without the toolchain's libraries in its path.
            run_with_progress(
                task,
                *("install", "--locked", "--version", caches.EVCXR_VERSION, "evcxr_jupyter"),
                *("--root", str(build / "root"), "--target-dir", str(build / "target")),
                cwd=caches.cache_directory(),
                RUSTFLAGS="",
                CARGO_TARGET_DIR=str(build / "target"),
                # Its folder lies outside the repository, where the user's configuration applies.
                CARGO_BUILD_TARGET=toolchain.host(),
                CARGO_PROFILE_RELEASE_PANIC="unwind",
                # Or cargo advises to put this passing folder on the PATH.
                PATH=f"{build / 'root' / 'bin'}:{os.environ['PATH']}",
            )
            installed = build / "root" / "bin" / binary.name
            if not starts(installed):
                raise UserError(
                    "evcxr_jupyter was compiled and does not start. Run: ./justw doctor"
                )
            delete_cache_folder(binary.parent.parent)
            move_into_cache(build / "root", binary.parent.parent)


def packages() -> list[str]:
    """Names of the packages that are compiled here, a name once for each version."""
    tree = ("tree", "--workspace", "--locked", "--offline", "--edges=normal,build,dev")
    listed = cargo(*tree, "--prefix=none", "--format={p}", quiet=True).splitlines()
    return [line.split()[0] for line in {" ".join(line.split()[:2]) for line in listed if line}]


def own_names() -> set[str]:
    """Names of the workspace's packages and of everything that is compiled from them.

    A test may be called as another package is, whose artifacts it does not make our own.
    """
    listed = cargo("metadata", "--no-deps", "--format-version=1", quiet=True)
    members = json.loads(listed)["packages"]
    packages = {member["name"] for member in members}
    targets = {target["name"].replace("-", "_") for m in members for target in m["targets"]}
    locked = tomllib.loads((paths.ROOT / "Cargo.lock").read_text())["package"]
    others = {package["name"].replace("-", "_") for package in locked} - packages
    return packages | (targets - others) | {"ctx", "incremental", "examples"}


# A directory that cargo makes for one compilation of a package; what is in it goes with it.
UNIT = re.compile("(^|-)[0-9a-f]{16}$")


def is_own(path: Path, own: set[str]) -> bool:
    """Whether a path in `target/` is made from the workspace itself, by its name alone.

    Where cargo puts what changes with its releases; what it calls it does not. A file below another
    package's directory is of that package, whatever its name is: each build script has an `output`.
    """
    if any(map(UNIT.search, path.relative_to(paths.TARGET).parts[:-1])):
        return False
    stem = path.name.split(".")[0].removeprefix("lib")
    return re.sub("-[0-9a-f]{16}$", "", stem) in own


# In a folder that has the dependencies compiled: their name in the cache.
DEPENDENCIES = ".dependencies"
# What has all dependencies compiled, those of tests too. The tests themselves take longer to
# compile than all else of the workspace, and are compiled when they are run.
ALL_DEPENDENCIES = ("--workspace", "--lib", "--bins", "--examples", "--locked")


def fetch() -> None:
    """Get the sources: all platforms', or a kernel's `cargo metadata` would want the network."""
    try:
        cargo("fetch", "--locked", "--offline", quiet=True)
    except UserError:
        cargo("fetch", "--locked", "--quiet")


def build_workspace() -> None:
    """Compile the library and the programs, and their dependencies first if need be."""
    compiled = caches.compiled_dependencies()
    if is_seeded() and compiled.is_dir():
        # No need to wait for another clone that compiles dependencies.
        fetch()
        with suppress(PermissionError):
            os.utime(compiled)
    else:
        with locked("dependencies"):
            seed()
    # Other clones need not wait for this one's own code.
    cargo("build", "--workspace", "--locked", "--quiet")


def only_dependencies() -> None:
    """Compile the dependencies, and leave nothing in `target/` of what was compiled beside them.

    In an image, sources come after this and may be older, which cargo would take for unchanged.
    """
    with locked("dependencies"):
        if is_seeded():
            return
        seed()
        for part in compiled_parts():
            shutil.rmtree(paths.TARGET / part)
        (paths.TARGET / DEPENDENCIES).unlink()
        seed()


def compiled_parts() -> tuple[str, str]:
    """Where cargo puts what it compiles, for build scripts and for this platform."""
    return "debug", f"{toolchain.host()}/debug"


def dependencies_in(folder: Path) -> str | None:
    """The name of the compiled dependencies that a folder was given, which it keeps in a file."""
    stamp = folder / DEPENDENCIES
    return stamp.read_text() if stamp.is_file() else None


def is_seeded() -> bool:
    """Whether `target/` has the dependencies of this key."""
    return dependencies_in(paths.TARGET) == caches.compiled_dependencies().name


def seed() -> None:
    """Have the dependencies in the cache and in `target/`; their lock must be held."""
    compiled = caches.compiled_dependencies()
    fetch()
    if not compiled.is_dir():
        if not is_seeded():
            make_dependencies()
        publish(compiled)
    elif not is_seeded():
        print("Taking the compiled dependencies from the cache", flush=True)
        link_compiled(compiled, paths.TARGET)
    with suppress(PermissionError):  # root's, from a call with sudo
        os.utime(compiled)
    (paths.TARGET / DEPENDENCIES).write_text(compiled.name)
    delete_unused(compiled)


def check_compiled(compiled: Path) -> None:
    """Raise `UserError` if compiled dependencies are incomplete, or if others can change them."""
    missing = [part for part in compiled_parts() if not (compiled / part).is_dir()]
    if missing:
        again = f"rm -rf {shlex.quote(str(compiled))}, then ./justw setup"
        raise UserError(f"{compiled} is incomplete, without {', '.join(missing)}. Run: {again}")
    caches.trusted(compiled)


def link_compiled(compiled: Path, destination: Path) -> None:
    """Link the compiled dependencies of this user's cache.

    Raises `UserError` if they cannot be used, or if another process deletes them meanwhile.
    """
    check_compiled(compiled)
    try:
        link_tree(compiled, destination, copy=is_rewritten)
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename} was deleted while it was linked. Run: ./justw setup"
        ) from error


def make_dependencies() -> None:
    """Compile the dependencies in `target/`, or take them from where somebody else has.

    evcxr checks a cell that does not compile, and clippy checks the workspace; both want the
    dependencies' metadata, which a build does not leave.
    """
    if (others := artifact_cache.find_compatible()) is not None:
        print(f"Taking the compiled dependencies from {others.parent}", flush=True)
        with artifact_cache.wrapper_environment(others) as environment:
            for command in ("build", "check"):
                cargo(command, *ALL_DEPENDENCIES, "--quiet", **environment)
        return
    print(
        "Compiling polars and some 300 other packages: once for this machine, "
        "about 18 minutes on 2 cores",
        flush=True,
    )
    names = packages()
    task = Task("dependencies", len(names), sum(map(progress.weight, names)))
    run_with_progress(task, "build", *ALL_DEPENDENCIES)
    print(f"{task.compiled} packages compiled", flush=True)
    cargo("check", *ALL_DEPENDENCIES, "--quiet")


def compile_all(workspace: Callable[[], None] = build_workspace) -> None:
    """The kernel and the `workspace`; side by side where there are cores for both."""
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(max_workers=2 if cores >= CORES_FOR_BOTH else 1) as pool:
        for work in [pool.submit(install_kernel), pool.submit(workspace)]:
            work.result()


def run_binary(name: str, *arguments: str, example: bool = False, **environment: str) -> None:
    """Run one of the workspace's programs, compiled by `build_workspace`.

    Raises `UserError` when it fails; its own message is on stderr.
    """
    folder = paths.TARGET / toolchain.host() / "debug"
    binary = folder / "examples" / name if example else folder / name
    if not binary.is_file():
        raise UserError(f"{binary} is not there. Run: ./justw setup")
    given = command_environment.user_environment() | toolchain.with_standard_library() | environment
    result = subprocess.run([binary, *arguments], cwd=paths.ROOT, env=given)
    if result.returncode != 0:
        raise UserError(f"{name} failed, see above")


def publish(compiled: Path) -> None:
    """Put what was compiled from other people's packages into the cache."""
    own = own_names()
    with staging("dependencies") as folder:
        staged = folder / compiled.name
        for part in compiled_parts():
            link_tree(
                paths.TARGET / part,
                staged / part,
                skip=lambda path: is_own(path, own),
                copy=is_rewritten,
            )
        artifact_cache.record_origin(staged)
        move_into_cache(staged, compiled)


def delete_unused(compiled: Path) -> None:
    """Delete compiled dependencies that no clone has used for a while.

    Not those that were compiled alike for another home: symbolic links may lead there.
    """
    oldest = time.time() - KEEP_DAYS * 24 * 3600
    alike = f"dependencies-{caches.dependencies_key()}-"
    for other in caches.cache_directory().glob("dependencies-*"):
        if not other.name.startswith(alike) and other.stat().st_mtime < oldest:
            shutil.rmtree(other, ignore_errors=True)
