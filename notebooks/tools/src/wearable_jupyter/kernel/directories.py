"""Kernels' directories in `target/kernels/`: creates, lists and removes them.

Two evcxr kernels in one directory run each other's code, so each gets its own. The name is
`PID-TIME`, from the process that owns the directory and lives as long as the kernel.

    project/           evcxr's Cargo project and its artifacts
    config/            evcxr's start-up commands, and the workspace's lock file
    library/           the workspace's crates and kernel_cell, as of the directory's creation
    bin/, calls/       the kernel's cargo, and the calls of rustc that it repeats; see rustc_call.py
    alive              locked by the owner until it ends
    events             a pipe for events of cells; see events.py
    marker             the line that ends a cell's output
    ready              exists when evcxr has started and its output is read
    interrupted        exists when the cell that is being compiled was interrupted
    connection.json    evcxr's connection file; Jupyter's is another, see proxy.py
    evcxr              evcxr's process ID
    handoff            a pipe for the handoff to a launcher; see handoff.py
    prewarmed          for which server a kernel was prewarmed; see prewarmed.py
"""

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import stat
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from ..bootstrap import platform
from ..bootstrap.platform import is_alive
from ..setup import caches, paths, toolchain
from ..setup.build import prerequisites
from ..setup.errors import UserError
from ..setup.links import is_rewritten, link, link_tree
from . import analysis_home, rustc_call, template

MODULE = __spec__.name if __spec__ else __name__
CONNECTION, EVCXR, HANDOFF, PREWARMED = "connection.json", "evcxr", "handoff", "prewarmed"
# The owner of a directory holds a lock on this file until it ends.
ALIVE = "alive"
# The prefix of a file with the reason why a launcher's kernel did not start.
REASON = "reason-"
PORTS = tuple(f"{channel}_port" for channel in ("shell", "control", "stdin", "hb", "iopub"))
# Makes evcxr load the library, and rust-analyzer read all crates that a first `let` needs.
# Leaves no variables and no imports. If this does not compile, evcxr ends.
PREWARM_CELL = """\
:dep {crate} = {{ path = {library} }}
let warm_up = {{
    use {crate}::prelude::*;
    df!["x" => [1i64]]?.lazy().select([col("x").sum()])
}};
drop(warm_up);
"""


def folder() -> Path:
    """The path of `target/kernels`, or a symbolic link to it if the path contains a space.

    evcxr passes the path of a compiled cell to its process in a line separated by spaces. The link
    is in a directory that only this user can change. Raises `UserError` if there is none.
    """
    paths.KERNELS.mkdir(parents=True, exist_ok=True)
    if " " not in str(paths.KERNELS):
        return paths.KERNELS
    name = hashlib.sha256(str(paths.KERNELS).encode()).hexdigest()[:16]
    runtime, user = os.environ.get("XDG_RUNTIME_DIR"), f"wearable_demo-{os.getuid()}"
    places = [caches.cache_directory() / "kernels", *([Path(runtime) / user] if runtime else [])]
    for place in (*places, Path("/tmp") / user):
        short = place / name
        if " " not in str(place) and is_private(place):
            if not short.is_symlink() or os.readlink(short) != str(paths.KERNELS):
                part = place / f"{name}.{os.getpid()}"
                part.symlink_to(paths.KERNELS)
                part.replace(short)
            return short
    raise UserError(
        f"The path of this clone, {paths.ROOT}, contains a space, and no writable directory "
        "without a space was found for a link to it. Set WEARABLE_CACHE_DIR to such a directory"
    )


def is_private(place: Path) -> bool:
    """Whether a directory, which is created if missing, is writable for this user only."""
    with suppress(OSError):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = place.lstat()
        own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
        return own and not status.st_mode & 0o022 and os.access(place, os.W_OK)
    return False


def owned_by(pid: int) -> list[Path]:
    """The directories that a process owns: one, if it is a supervisor."""
    return list(paths.KERNELS.glob(f"{pid}-*"))


def owner_pid(directory: Path) -> int:
    """The process that created a directory."""
    return int(directory.name.split("-")[0])


def list_kernels() -> dict[Path, bool]:
    """Every kernel's directory, and whether the kernel runs."""
    named = (path for path in paths.KERNELS.glob("*-*") if path.name.split("-")[0].isdigit())
    return {directory: is_in_use(directory) for directory in named}


def is_in_use(directory: Path) -> bool:
    """Whether the owner of a directory runs; another process may have its number by now."""
    if not is_alive(owner_pid(directory)):
        return False
    with suppress(OSError), (directory / ALIVE).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
    return True  # the owner is just creating it


def evcxr(directory: Path) -> int | None:
    """evcxr's process ID in a directory, or None if evcxr does not run."""
    with suppress(OSError, ValueError):
        pid = int((directory / EVCXR).read_text())
        # Another process may have this number after evcxr's end.
        if directory.name in platform.command_line(pid):
            return pid
    return None


def is_prewarmed(directory: Path) -> bool:
    """Whether a kernel is prewarmed and not taken yet."""
    return (directory / PREWARMED).exists()


def prepare() -> None:
    """Check a kernel's prerequisites, and update the template.

    Raises `UserError`, also if the disk is full.
    """
    prerequisites()
    if not caches.evcxr().is_file():
        raise UserError("The Rust kernel is not installed. Run: ./justw setup")
    try:
        remove_stale()
        template.build()
        analysis_home.make_home(
            paths.ANALYSIS_HOME, paths.CRATE, toolchain.cargo(), toolchain.cargo_home()
        )
        analysis_home.make_library(paths.ANALYSIS_LIBRARY, toolchain.standard_library())
    except OSError as error:
        raise not_written(error) from error


def create(prewarm: bool = False) -> Path:
    """Create a directory for a kernel of this process; with `prewarm`, it loads the library.

    Raises `UserError` if the disk is full, and leaves no directory then.
    """
    directory = folder() / f"{os.getpid()}-{time.time_ns():x}"
    try:
        directory.mkdir(parents=True)
        hold_lock(directory)
        populate(directory, prewarm)
    except OSError as error:
        shutil.rmtree(directory, ignore_errors=True)
        raise not_written(error) from error
    return directory


def hold_lock(directory: Path) -> None:
    """Lock a file in a directory until this process ends.

    The file gets its name when it is locked. Otherwise another process could find it without a
    lock, and delete the directory as that of a process that has ended.
    """
    unnamed = directory / f"{ALIVE}.new"
    file = os.open(unnamed, os.O_CREAT | os.O_RDWR, 0o600)
    with suppress(OSError):  # the file system does not support locks
        fcntl.flock(file, fcntl.LOCK_EX)
    unnamed.rename(directory / ALIVE)


def populate(directory: Path, prewarm: bool) -> None:
    """Fill a directory with everything that evcxr needs.

    The call of rustc that compiled the template names all inputs of a cell. Dependencies are used
    in place. The library is linked, because an edit replaces the one in the template.
    """
    project, config, library = (directory / name for name in ("project", "config", "library"))
    for folder in (config, library):
        folder.mkdir(parents=True)
    own = [template.TEMPLATE.target / path for path in template.own_in(paths.TEMPLATE)]
    for file in own:
        link(file, library / file.name)
    shutil.copy(paths.TEMPLATE / template.OWN, library)
    runtime = library / template.cell_library().name
    link(template.cell_library(), runtime)
    shutil.copy(paths.EVCXR_SHIM / "src" / "cell.rs", library)
    rustc_call.install_wrappers(directory, template.program(), runtime, MODULE)
    dependencies = compiled()
    for name, project_ in (("with_library", template.TEMPLATE), ("without_library", template.BARE)):
        call = (project_.folder / "call").read_text()
        for part, replacement in (
            *((f"={file}", f"={library / file.name}") for file in own),
            (f"dependency={template.TEMPLATE.target}", f"dependency={dependencies}"),
            (f"native={template.TEMPLATE.target}", f"native={dependencies}"),
            (str(template.cell_library()), str(runtime)),
            (str(project_.folder), str(project)),
        ):
            call = call.replace(part, replacement)
        call += f"\0-L\0dependency={library}"
        key = rustc_call.key(toolchain.RUSTFLAGS, project_.arguments(), project_.manifest)
        folder = rustc_call.output_folder(call)
        folder.mkdir(parents=True, exist_ok=True)
        artifact = folder / platform.shared_library("ctx")
        rustc_call.save_call(directory / "calls" / name, key, call, artifact)

    lock = config / "Cargo.lock"
    shutil.copy(paths.TEMPLATE / "Cargo.lock", lock)
    # evcxr starts without dependencies, so cargo prunes the lock file. Restoring it before the
    # first `:dep` keeps the workspace's versions. Cells are compiled without optimisation, because
    # polars and the library are optimised already.
    commands = (
        f":build_env RUSTFLAGS={toolchain.RUSTFLAGS}\n"
        f":build_env CARGO_HOME={toolchain.cargo_home()}\n"
        # Prevents evcxr from using mold or lld if they are installed.
        ":linker system\n"
        ":opt 0\n"
        ":offline 1\n"
        f"!cp {shlex.quote(str(lock))} {shlex.quote(str(project))}\n"
    )
    if prewarm:
        commands += PREWARM_CELL.format(crate=paths.CRATE, library=paths.toml_string(paths.LIBRARY))
    (config / "init.evcxr").write_text(commands)
    write_connection(directory / CONNECTION)
    os.mkfifo(directory / HANDOFF, mode=0o600)


def compiled() -> Path:
    """The folder of the compiled dependencies, marked as in use.

    Raises `UserError` if another user can change it.
    """
    folder = caches.trusted(caches.compiled_dependencies())
    with suppress(OSError):
        os.utime(folder)
    return folder


def write_connection(file: Path) -> None:
    """Write a connection file for evcxr, with free local ports and a new key."""
    connection = {"transport": "tcp", "ip": platform.loopback_address()}
    connection["signature_scheme"] = "hmac-sha256"
    connection["key"] = secrets.token_hex(16)
    with ExitStack() as stack:
        for name in PORTS:
            sock = stack.enter_context(socket.socket())
            sock.bind((connection["ip"], 0))
            connection[name] = sock.getsockname()[1]
    file.touch(mode=0o600)
    file.write_text(json.dumps(connection))


def link_compiled(directory: Path) -> None:
    """Link compiled dependencies into a kernel's project, so that cargo does not compile them.

    Raises `UserError` if the disk is full. The next call continues from there.
    """
    target = directory / "project" / "target"
    try:
        link_tree(
            template.TEMPLATE.target,
            target,
            copy=is_rewritten,
            skip=lambda path: path.name == "incremental",
        )
        # The kernel's own version of the library, which may have been edited since.
        library = directory / "library"
        for path in template.own_in(library):
            (target / path).unlink(missing_ok=True)
            link(library / path.name, target / path)
        (target / ".linked").touch()
    except OSError as error:
        raise not_written(error) from error


def end(group: int) -> None:
    """Kill a process group if it still runs."""
    platform.signal_group(group, signal.SIGKILL)


def remove(directory: Path, group: int | None = None) -> None:
    """Kill evcxr and all that it started, and delete its directory.

    `group` is evcxr's process group, which may outlive evcxr; the default is from the directory.
    """
    group = group or evcxr(directory)
    if group is not None:
        end(group)
    # A dying compiler may still write a file.
    for _ in range(20):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            break
        time.sleep(0.1)


def remove_stale() -> None:
    """Remove the directories of kernels whose supervisor was killed."""
    for directory, running in list_kernels().items():
        if not running:
            remove(directory)
    for file in paths.KERNELS.glob(f"{REASON}*"):
        pid = file.name.removeprefix(REASON)
        if not (pid.isdigit() and is_alive(int(pid))):
            file.unlink(missing_ok=True)


def store_start_error(launcher: int, reason: str) -> None:
    """Store the reason why a launcher's kernel could not start."""
    with suppress(OSError):
        (paths.KERNELS / f"{REASON}{launcher}").write_text(reason)


def pop_start_error(launcher: int) -> str | None:
    """Read and delete the reason that was stored for a launcher."""
    with suppress(OSError):
        file = paths.KERNELS / f"{REASON}{launcher}"
        reason = file.read_text()
        file.unlink()
        return reason
    return None


def not_written(error: OSError) -> UserError:
    """The error for a file that could not be written."""
    # For a directory, shutil's error has only text.
    message = f"{error.strerror}: {error.filename}" if error.errno else str(error)
    full = (os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT))
    hint = "Run: ./justw setup"
    if any(reason in message for reason in full):
        hint = "Free some disk space; ./justw clean deletes generated files"
    return UserError(f"{message}. {hint}")


if __name__ == "__main__":
    # A kernel's cargo runs this: `--link DIRECTORY`.
    try:
        link_compiled(Path(sys.argv[2]))
    except UserError as error:
        sys.exit(f"error: {error}")
