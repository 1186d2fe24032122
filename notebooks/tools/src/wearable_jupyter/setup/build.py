"""Compiles what notebooks and tests need: evcxr, the dependencies, and the workspace.

Dependencies are compiled once, into `target/`, by an ordinary cargo build. `publish` links them
into a folder of the cache, and other clones link them from there. Each step checks whether it has
anything to do, so a second call takes seconds.
"""

import errno
import fcntl
import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from ..bootstrap import command_environment, platform, trust
from ..bootstrap.venv import is_shared
from . import artifact_cache, caches, cargo_configuration, own_libraries, paths, progress, toolchain
from .errors import UserError
from .links import is_rewritten, link_tree
from .progress import Task, reporting

# Optimises only the parts of evcxr that need it.
EVCXR_PROFILE = Path(__file__).with_name("evcxr_profile.toml")
# Compiled dependencies that no clone used for this time are deleted.
KEEP_DAYS = 30


def prerequisites(*, fetch: bool = True) -> None:
    """Check for Rust and a C compiler; with `fetch`, run rustup to install missing components.

    Raises `UserError` with the missing program and the command that installs it.
    """
    if (fault := platform.fault()) is not None:
        raise UserError(fault)
    toolchain.find_rust()
    if shutil.which("cargo") is None or shutil.which("rustc") is None:
        raise UserError(
            "Rust is not installed, or not on the PATH. Install rustup from https://rustup.rs, "
            "then open a new terminal"
        )
    check_toolchain(fetch)
    conflict = cargo_configuration.conflict(paths.ROOT, toolchain.cargo_home())
    if conflict is not None:
        raise UserError(conflict)
    if shutil.which("cc") is None:
        raise UserError(
            f"No C compiler found; Rust needs it as a linker. {platform.install_hint('cc')}"
        )


def check_toolchain(fetch: bool) -> None:
    """Check the toolchain of `rust-toolchain.toml`; with `fetch`, run rustup to install it.

    rustup itself installs a missing toolchain unless RUSTUP_AUTO_INSTALL=0 is set. It never
    installs a missing component. Raises `UserError`.
    """
    pinned = toolchain.pinned()
    try:
        fault = wrong_version(toolchain.rustc("--version"), pinned["channel"])
    except subprocess.CalledProcessError as error:
        fault = f"rustc failed to start ({' '.join(error.stderr.strip().splitlines()[:1])})"
    if fault is not None:
        if not fetch:
            raise UserError(f"{fault}. Run: ./justw setup")
        if shutil.which("rustup") is None:
            raise UserError(
                f"{fault}. Install rustup from https://rustup.rs, then open a new terminal"
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
        raise UserError(f"the toolchain lacks {', '.join(missing)}. Run: ./justw setup")
    if missing:
        rustup("component", "add", "--toolchain", pinned["channel"], *missing)


def wrong_version(version: str, channel: str) -> str | None:
    """The fault of `rustc --version` if it is not the pinned release, or None."""
    if not channel[0].isdigit() or version.split()[1:2] == [channel]:
        return None
    return f"Rust {channel} is needed, but the PATH has {version.strip()}"


def rustup(*arguments: str) -> None:
    """Run rustup; its progress goes to the terminal."""
    command = f"rustup {' '.join(arguments)}"
    if shutil.which("rustup") is None:
        raise UserError(
            f"rustup is needed for `{command}`, but is not on the PATH. Install it from "
            "https://rustup.rs, then open a new terminal"
        )
    print(f"Installing a part of the Rust toolchain: {command}", flush=True)
    environment = command_environment.tool_environment()
    if subprocess.run(["rustup", *arguments], env=environment).returncode != 0:
        raise UserError(f"`{command}` failed; see above. Check the network, then try again")


def cargo_variables(given: dict[str, str]) -> dict[str, str]:
    """Return the environment for cargo, with the caller's variables.

    If they set CARGO_TARGET_DIR, cargo also writes intermediate files there.
    """
    if "CARGO_TARGET_DIR" in given:
        given = {"CARGO_BUILD_BUILD_DIR": given["CARGO_TARGET_DIR"], **given}
    return toolchain.cargo_environment() | given


def run_cargo(
    *arguments: str, cwd: Path = paths.ROOT, quiet: bool = False, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run cargo and return its output. stderr goes to the terminal unless `quiet`.

    Raises `UserError` if cargo fails.
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
            # A test program prints its failures on stdout.
            print(result.stdout, end="", flush=True)
        reason = f":\n{result.stderr.strip()}" if quiet else "; see above"
        raise UserError(f"`cargo {' '.join(arguments)}` failed{reason}")
    return result


def cargo(*arguments: str, quiet: bool = False, **environment: str) -> str:
    """Run cargo in the workspace and return its stdout, as `run_cargo` does."""
    return run_cargo(*arguments, quiet=quiet, **environment).stdout


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock `name` of the cache, so that only one process of all clones does this work."""
    file = caches.make_cache() / f".{name}.lock"
    with os.fdopen(open_lock(file)) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Waiting for another process that prepares {name}", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def open_lock(file: Path) -> int:
    """Open a lock file, also one that root created in this user's cache."""
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
        try:
            return os.open(file, flags | os.O_NOFOLLOW, 0o644)
        except PermissionError as error:
            denied = error
    raise denied


@contextmanager
def staging(name: str) -> Iterator[Path]:
    """An empty staging folder in the cache. The caller must hold the lock `name`.

    A folder that a killed process left is deleted first, so there is at most one.
    """
    folder = caches.cache_directory() / f".{name}.staging"
    delete_cache_folder(folder)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def delete_cache_folder(folder: Path) -> None:
    """Delete a folder of the cache. Raises `UserError` if it belongs to another user."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        owner = trust.user_name(folder.stat().st_uid)
        fix = f"sudo rm -rf {shlex.quote(str(folder))}"
        raise UserError(f"{folder} could not be deleted, because it belongs to {owner}. Run: {fix}")


def move_into_cache(staged: Path, destination: Path) -> None:
    """Move a staged folder to its destination, unless another process did so meanwhile.

    Sets the permissions regardless of the umask: other users cannot change the folder, and can read
    it only in a shared cache.
    """
    trust.protect(staged, readable=is_shared())
    try:
        staged.rename(destination)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def starts(binary: Path) -> bool:
    """Whether a program exists and runs on this machine."""
    return start_fault(binary) is None


def start_fault(binary: Path) -> str | None:
    """Why a program does not run on this machine, or None if it runs."""
    try:
        ran = subprocess.run([binary, "--help"], capture_output=True, text=True, errors="replace")
    except OSError as error:
        return error.strerror
    if ran.returncode == 0:
        return None
    return "; ".join(ran.stderr.strip().splitlines()[-1:]) or f"exit status {ran.returncode}"


class Jobs:
    """Limits how many compilers concurrent cargos run together: a jobserver as in GNU make.

    Each cargo may always run one compiler. For each further one, it takes a byte from the pipe.
    """

    def __init__(self, programs: int) -> None:
        self.pipe = os.pipe()
        # cargo ignores the user's setting if it inherits a jobserver.
        limit = cargo_configuration.jobs(paths.ROOT, toolchain.cargo_home()) or platform.cores()
        for _ in range(limit - programs):
            self.end_program()

    def end_program(self) -> None:
        """Give the compiler of a cargo that has ended to the others."""
        os.write(self.pipe[1], b"+")

    def variables(self) -> dict[str, str]:
        """Variables for a cargo that inherits the pipe."""
        reading, writing = self.pipe
        return {"CARGO_MAKEFLAGS": f"-j --jobserver-auth={reading},{writing}"}

    def close(self) -> None:
        for end in self.pipe:
            os.close(end)


def run_with_progress(
    task: Task, jobs: Jobs | None, *arguments: str, cwd: Path = paths.ROOT, **environment: str
) -> None:
    """Run cargo and report its progress as `task`. Raises `UserError` if cargo fails.

    Without `jobs`, cargo uses all cores.
    """
    # The first argument is cargo's command. Diagnostics still go to the terminal.
    command, *options = arguments
    messages = ("--quiet", "--message-format=json-render-diagnostics")
    running = subprocess.Popen(
        ["cargo", command, *messages, *options],
        cwd=cwd,
        env=cargo_variables(environment | (jobs.variables() if jobs else {})),
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=jobs.pipe if jobs else (),
    )
    with running, reporting(task):
        for line in running.stdout:
            task.read_message(line)
    if running.returncode != 0:
        raise UserError(f"`cargo {' '.join(arguments)}` failed; see above")


def install_kernel(jobs: Jobs | None = None) -> None:
    """Compile evcxr_jupyter into the cache, unless a working binary exists."""
    with locked("evcxr"):
        if starts(caches.evcxr()):
            return
        binary = caches.own_evcxr()
        print(
            f"Compiling the kernel, evcxr_jupyter {caches.EVCXR_VERSION}: once for this machine",
            flush=True,
        )
        with staging("evcxr") as build:
            task = Task("kernel", **progress.SECONDS["kernel"])
            # With evcxr's own lock file, and without the workspace's flags: linked dynamically, it
            # would need the toolchain's libraries in its search path.
            run_with_progress(
                task,
                jobs,
                *("install", "--locked", "--version", caches.EVCXR_VERSION, "evcxr_jupyter"),
                *("--config", str(EVCXR_PROFILE)),
                *("--root", str(build / "root"), "--target-dir", str(build / "target")),
                cwd=caches.cache_directory(),
                RUSTFLAGS="",
                CARGO_TARGET_DIR=str(build / "target"),
                # The user's configuration applies, because the folder is outside the repository.
                CARGO_BUILD_TARGET=toolchain.host(),
                CARGO_PROFILE_RELEASE_PANIC="unwind",
                # Keeps cargo from advising to put this temporary folder on the PATH.
                PATH=f"{build / 'root' / 'bin'}:{os.environ['PATH']}",
            )
            installed = build / "root" / "bin" / binary.name
            if (fault := start_fault(installed)) is not None:
                raise UserError(
                    f"evcxr_jupyter was compiled, but does not start: {fault}. If "
                    f"{caches.cache_directory()} does not allow programs to run (mount option "
                    "noexec), set WEARABLE_CACHE_DIR to another directory. Then run: ./justw setup"
                )
            delete_cache_folder(binary.parent.parent)
            move_into_cache(build / "root", binary.parent.parent)


def packages() -> list[str]:
    """List the names of all packages that cargo compiles, once for each version of a package."""
    tree = ("tree", "--workspace", "--locked", "--offline", "--edges=normal,build,dev")
    listed = cargo(*tree, "--prefix=none", "--format={p}", quiet=True).splitlines()
    return [line.split()[0] for line in {" ".join(line.split()[:2]) for line in listed if line}]


def own_names() -> set[str]:
    """The names of the workspace's packages and of their targets.

    A test target may have the name of a dependency, whose artifacts are not the workspace's.
    """
    listed = cargo("metadata", "--no-deps", "--format-version=1", quiet=True)
    members = json.loads(listed)["packages"]
    packages = {member["name"] for member in members}
    targets = {target["name"].replace("-", "_") for m in members for target in m["targets"]}
    locked = paths.read_toml(paths.ROOT / "Cargo.lock")["package"]
    others = {package["name"].replace("-", "_") for package in locked} - packages
    return packages | (targets - others) | {"ctx", "incremental", "examples"}


# A directory that cargo creates for one compilation of a package.
UNIT = re.compile("(^|-)[0-9a-f]{16}$")


def is_own(path: Path, own: set[str]) -> bool:
    """Whether a path in `target/` belongs to the workspace itself, by its name.

    cargo's releases change the folders, but not the names. A file in the directory of one
    compilation belongs to the compiled package, even if it has another name, such as a build
    script's `output`.
    """
    if any(map(UNIT.search, path.relative_to(paths.TARGET).parts[:-1])):
        return False
    stem = path.name.split(".")[0].removeprefix("lib")
    return re.sub("-[0-9a-f]{16}$", "", stem) in own


# A file in a folder with compiled dependencies; it contains their name in the cache.
DEPENDENCIES = ".dependencies"
# With these options, cargo compiles all dependencies, also those of tests, but no test programs.
# `./justw test` compiles those, because they take longer than the rest of the workspace.
ALL_DEPENDENCIES = ("--workspace", "--lib", "--bins", "--examples", "--locked")


def fetch() -> None:
    """Fetch the sources for all platforms, which a kernel's `cargo metadata` reads."""
    try:
        cargo("fetch", "--locked", "--offline", quiet=True)
    except UserError:
        cargo("fetch", "--locked", "--quiet")


def build_workspace(jobs: Jobs | None = None) -> None:
    """Compile the workspace, and its dependencies first if they are not compiled."""
    compiled = caches.compiled_dependencies()
    if has_dependencies() and compiled.is_dir():
        # This clone needs no lock, so it does not wait for a clone that compiles dependencies.
        fetch()
        with suppress(PermissionError):
            os.utime(compiled)
        delete_unused(compiled)
    else:
        with locked("dependencies"):
            provide_dependencies(jobs)
        build_linked(compiled)
    # cargo compiles this clone's own code without the lock, so that other clones do not wait.
    cargo("build", "--workspace", "--locked", "--quiet")


def only_dependencies(jobs: Jobs | None = None) -> None:
    """Compile the dependencies, and delete what was compiled of the workspace.

    A container image copies the sources after this step. If cargo found artifacts of the workspace
    that are newer than these sources, it would not compile the sources.
    """
    with locked("dependencies"):
        if has_dependencies():
            return
        provide_dependencies(jobs)
        for part in compiled_parts():
            shutil.rmtree(paths.TARGET / part)
        (paths.TARGET / DEPENDENCIES).unlink()
        provide_dependencies(jobs)


def compiled_parts() -> tuple[str, str]:
    """The folders of cargo's artifacts: for build scripts, and for this platform."""
    return "debug", f"{toolchain.host()}/debug"


def dependencies_in(folder: Path) -> str | None:
    """The name of the compiled dependencies that a folder contains, or None."""
    stamp = folder / DEPENDENCIES
    return stamp.read_text() if stamp.is_file() else None


def has_dependencies() -> bool:
    """Whether `target/` contains the dependencies for this KEY and HOME."""
    return dependencies_in(paths.TARGET) == caches.compiled_dependencies().name


def provide_dependencies(jobs: Jobs | None = None) -> None:
    """Put the dependencies into the cache and into `target/`. The caller must hold their lock."""
    compiled = caches.compiled_dependencies()
    fetch()
    if not compiled.is_dir():
        if not has_dependencies():
            make_dependencies(jobs)
        publish(compiled)
    elif not has_dependencies():
        print("Linking the compiled dependencies from the cache", flush=True)
        link_compiled(compiled, paths.TARGET)
    with suppress(PermissionError):  # root owns them if a user ran setup with sudo
        os.utime(compiled)
    (paths.TARGET / DEPENDENCIES).write_text(compiled.name)
    delete_unused(compiled)


def check_compiled(compiled: Path) -> None:
    """Raise `UserError` if compiled dependencies are incomplete or other users can change them."""
    missing = [part for part in compiled_parts() if not (compiled / part).is_dir()]
    if missing:
        again = f"rm -rf {shlex.quote(str(compiled))} && ./justw setup"
        raise UserError(f"{compiled} is incomplete; {', '.join(missing)} is missing. Run: {again}")
    caches.trusted(compiled)


def link_compiled(compiled: Path, destination: Path) -> None:
    """Link the compiled dependencies of this user's cache.

    Raises `UserError` if they cannot be used, or if another process deletes them meanwhile.
    """
    check_compiled(compiled)
    try:
        link_tree(
            compiled,
            destination,
            copy=is_rewritten,
            skip=lambda path: path.name == own_libraries.BUNDLED and path.parent == compiled,
        )
    except FileNotFoundError as error:
        raise UserError(
            f"Another process deleted {error.filename} during setup. Run: ./justw setup"
        ) from error


def build_linked(compiled: Path, **environment: str) -> None:
    """Build the workspace; link what `environment` says, and unchanged libraries of a bundle."""
    with own_libraries.from_bundle(cargo, compiled) as bundled:
        if not (environment or bundled):
            return
        for command in ("build", "check"):
            cargo(command, *ALL_DEPENDENCIES, "--quiet", **(environment | bundled))


def make_dependencies(jobs: Jobs | None) -> None:
    """Compile the dependencies in `target/`, or link them from a compatible cache.

    `cargo check` creates the dependencies' metadata, which a build does not create. evcxr needs it
    for cells that do not compile, and clippy for the workspace.
    """
    if (others := artifact_cache.find_compatible()) is not None:
        print(f"Linking the compiled dependencies from {others.parent}", flush=True)
        with artifact_cache.wrapper_environment(others) as environment:
            build_linked(others, **environment)
        return
    print(
        "Compiling polars and about 300 other packages: once for this machine, "
        "about 20 minutes on 2 cores",
        flush=True,
    )
    names = packages()
    task = Task("dependencies", len(names), sum(map(progress.weight, names)))
    run_with_progress(task, jobs, "build", *ALL_DEPENDENCIES)
    print(f"{task.compiled} packages compiled", flush=True)
    cargo("check", *ALL_DEPENDENCIES, "--quiet")


def compile_all(workspace: Callable[[Jobs], None] = build_workspace) -> None:
    """Compile evcxr and the `workspace` concurrently.

    Each has phases in which only one compiler can run, so the other uses the free core.
    """
    programs = (install_kernel, workspace)
    jobs = Jobs(len(programs))

    def compile_(program: Callable[[Jobs], None]) -> None:
        try:
            program(jobs)
        finally:
            jobs.end_program()

    try:
        with ThreadPoolExecutor(max_workers=len(programs)) as pool:
            for work in [pool.submit(compile_, program) for program in programs]:
                work.result()
    finally:
        jobs.close()


def run_binary(name: str, *arguments: str, example: bool = False, **environment: str) -> None:
    """Run a program of the workspace, which `build_workspace` compiles.

    Raises `UserError` if it fails; its own message is on stderr.
    """
    binary = toolchain.program(f"examples/{name}" if example else name)
    if not binary.is_file():
        raise UserError(f"{binary} does not exist. Run: ./justw setup")
    given = command_environment.user_environment() | toolchain.with_standard_library() | environment
    result = subprocess.run([binary, *arguments], cwd=paths.ROOT, env=given)
    if result.returncode != 0:
        raise UserError(f"{name} failed; see above")


def publish(compiled: Path) -> None:
    """Link the compiled third-party packages into the cache."""
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
    """Delete compiled dependencies that no clone used for a while.

    Keep those with the same KEY and another HOME, because symbolic links may refer to them.
    """
    oldest = time.time() - KEEP_DAYS * 24 * 3600
    same_key = f"dependencies-{caches.dependencies_key()}-"
    for other in caches.cache_directory().glob("dependencies-*"):
        if not other.name.startswith(same_key) and other.stat().st_mtime < oldest:
            shutil.rmtree(other, ignore_errors=True)
