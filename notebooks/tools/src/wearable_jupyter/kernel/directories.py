"""Kernels' directories in `target/kernels/`: how they are made, found, and removed.

Two evcxr kernels that share a directory run each other's code, so each gets one of its own, named
`PID-TIME` after the process that made it, which lives as long as the kernel does.

    project/           evcxr's Cargo project, and what it compiles
    config/            its start-up commands, and the workspace's lock file
    library/           our crates, and kernel_cell, as they were when the directory was made
    bin/, known/       its cargo, and what it knows; see rustc_call.py
    alive              locked by the process that made the directory, until it ends
    events             a pipe, in which cells tell how they end; see events.py
    attended           there when evcxr has started, and somebody takes what cells print
    interrupted        there when the cell that is being compiled is not wanted any more
    connection.json    its connection file; Jupyter's is another, see proxy.py
    evcxr              its process
    handoff              a pipe, in which the kernel's companion is told whom it is for
    spare              in a prewarmed kernel: for which server it was started; see prewarmed.py
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

from ..setup import caches, paths, toolchain
from ..setup.build import prerequisites
from ..setup.errors import UserError
from ..setup.links import is_rewritten, link, link_tree
from . import prune_metadata, rustc_call, template

MODULE = __spec__.name if __spec__ else __name__
CONNECTION, EVCXR, HANDOFF, PREWARMED = "connection.json", "evcxr", "handoff", "prewarmed"
# Held locked by the process that made a directory, as long as it lives.
ALIVE = "alive"
# Before the number of a launcher: a file beside the directories, with why its kernel did not start.
REASON = "reason-"
PORTS = tuple(f"{channel}_port" for channel in ("shell", "control", "stdin", "hb", "iopub"))
# What makes evcxr load the library, and rust-analyzer read all that it needs for a first `let`. No
# variable stays and nothing is imported; only the crate can be named without a `:dep`. If this does
# not compile, evcxr ends.
PREWARM_CELL = """\
:dep {crate} = {{ path = {library} }}
let warm_up = {{
    use {crate}::prelude::*;
    df!["x" => [1i64]]?.lazy().select([col("x").sum()])
}};
drop(warm_up);
"""


def is_alive(pid: int) -> bool:
    """Whether a process is there; a zombie counts as gone."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return True


def folder() -> Path:
    """`target/kernels`, by a path without spaces.

    evcxr passes the path of a compiled cell to the process that runs it in a line of words. A clone
    whose path has a space gets a symbolic link in a directory that only this user can change.
    Raises `UserError` if there is no place for it.
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
        f"The path of this clone, {paths.ROOT}, contains a space, and there is no writable "
        "directory without one for a link to it. Set WEARABLE_CACHE_DIR to such a directory"
    )


def is_private(place: Path) -> bool:
    """Whether a directory is there, or could be made, that no other user can change."""
    with suppress(OSError):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = place.lstat()
        mine = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
        return mine and not status.st_mode & 0o022 and os.access(place, os.W_OK)
    return False


def owned_by(pid: int) -> list[Path]:
    """The directories that a process has made: one, if it is a kernel's."""
    return list(paths.KERNELS.glob(f"{pid}-*"))


def owner_pid(directory: Path) -> int:
    """The process that made a directory."""
    return int(directory.name.split("-")[0])


def list_kernels() -> dict[Path, bool]:
    """Every kernel's directory, and whether the kernel is alive."""
    named = (path for path in paths.KERNELS.glob("*-*") if path.name.split("-")[0].isdigit())
    return {directory: is_in_use(directory) for directory in named}


def is_in_use(directory: Path) -> bool:
    """Whether the process that made a directory lives; its number may be another's by now."""
    if not is_alive(owner_pid(directory)):
        return False
    with suppress(OSError), (directory / ALIVE).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
    return True  # it is just being made


def evcxr(directory: Path) -> int | None:
    """The process of evcxr in a directory, while it runs."""
    with suppress(OSError, ValueError):
        pid = int((directory / EVCXR).read_text())
        # After its end, the number may become another process's.
        if directory.name in Path(f"/proc/{pid}/cmdline").read_text():
            return pid
    return None


def is_prewarmed(directory: Path) -> bool:
    """Whether nobody has asked for a kernel yet."""
    return (directory / PREWARMED).exists()


def prepare() -> None:
    """Check what a kernel needs, and bring the template up to date.

    Raises `UserError`, also for a disk that is full.
    """
    prerequisites()
    if not caches.evcxr().is_file():
        raise UserError("The Rust kernel is not installed. Run: ./justw setup")
    try:
        sweep()
        template.build()
        prune_metadata.make_home(
            paths.ANALYSIS_HOME, paths.CRATE, toolchain.cargo(), toolchain.cargo_home()
        )
    except OSError as error:
        raise not_written(error) from error


def create(prewarm: bool = False) -> Path:
    """Make a directory for a kernel of this process, which warms itself up if asked to.

    Raises `UserError` when the disk is full; then there is none.
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
    """Lock a directory's file until this process ends, however it does."""
    file = os.open(directory / ALIVE, os.O_CREAT | os.O_RDWR, 0o600)
    with suppress(OSError):  # of a file system without locks
        fcntl.flock(file, fcntl.LOCK_EX)


def populate(directory: Path, prewarm: bool) -> None:
    """Everything that evcxr starts from.

    What it needs to compile a cell is named in the call that the template was compiled by. The
    dependencies stay where they are; the library is linked, for an edit replaces the template's.
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
    shutil.copy(paths.KERNEL_CARGO / "src" / "cell.rs", library)
    rustc_call.install_wrappers(directory, template.program(), runtime, MODULE)
    dependencies = compiled()
    for known, made in (("template", template.TEMPLATE), ("bare", template.BARE)):
        call = (made.folder / "call").read_text()
        for part, replacement in (
            *((f"={file}", f"={library / file.name}") for file in own),
            (f"dependency={template.TEMPLATE.target}", f"dependency={dependencies}"),
            (f"native={template.TEMPLATE.target}", f"native={dependencies}"),
            (str(template.cell_library()), str(runtime)),
            (str(made.folder), str(project)),
        ):
            call = call.replace(part, replacement)
        call += f"\0-L\0dependency={library}"
        key = rustc_call.key(toolchain.RUSTFLAGS, made.arguments(), made.manifest)
        folder = rustc_call.output_folder(call)
        folder.mkdir(parents=True, exist_ok=True)
        cell = folder / toolchain.shared_library("ctx")
        rustc_call.save_call(directory / "known" / known, key, call, cell)

    lock = config / "Cargo.lock"
    shutil.copy(paths.TEMPLATE / "Cargo.lock", lock)
    # evcxr starts with no dependencies, and cargo prunes the lock file to match. Putting it back
    # before the first `:dep` keeps the workspace's versions. Cells are compiled without
    # optimisation; what they call, polars and the library, is optimised already.
    commands = (
        f":build_env RUSTFLAGS={toolchain.RUSTFLAGS}\n"
        f":build_env CARGO_HOME={toolchain.cargo_home()}\n"
        # Not mold or lld, which evcxr takes if they are installed.
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
    """The compiled dependencies, which no other process changes; marked as in use.

    Raises `UserError` if another user can change them.
    """
    folder = caches.trusted(caches.compiled_dependencies())
    with suppress(OSError):
        os.utime(folder)
    return folder


def write_connection(file: Path) -> None:
    """Write a connection file for evcxr, with free ports of this machine and a key of its own."""
    connection = {"transport": "tcp", "ip": "127.0.0.1", "signature_scheme": "hmac-sha256"}
    connection["key"] = secrets.token_hex(16)
    with ExitStack() as held:
        for name in PORTS:
            found = held.enter_context(socket.socket())
            found.bind((connection["ip"], 0))
            connection[name] = found.getsockname()[1]
    file.touch(mode=0o600)
    file.write_text(json.dumps(connection))


def link_compiled(directory: Path) -> None:
    """Link what is compiled into a kernel's project, for cargo to go on from.

    Raises `UserError` when the disk is full; what is there by then is gone on from the next time.
    """
    target = directory / "project" / "target"
    try:
        link_tree(
            template.TEMPLATE.target,
            target,
            copy=is_rewritten,
            skip=lambda path: path.name == "incremental",
        )
        # The library that the kernel runs with, should it have been edited since.
        library = directory / "library"
        for path in template.own_in(library):
            (target / path).unlink(missing_ok=True)
            link(library / path.name, target / path)
        (target / ".linked").touch()
    except OSError as error:
        raise not_written(error) from error


def end(group: int) -> None:
    """End a process group, if it has not ended."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def remove(directory: Path, group: int | None = None) -> None:
    """End evcxr and whatever it has started, and delete its directory.

    `group` is evcxr's process group, which may outlive it; without one it is looked for.
    """
    group = group or evcxr(directory)
    if group is not None:
        end(group)
    # A compiler that is just dying may still write a file into it.
    for _ in range(20):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            break
        time.sleep(0.1)


def sweep() -> None:
    """Remove what is left of kernels whose other processes were all killed before they could."""
    for directory, running in list_kernels().items():
        if not running:
            remove(directory)
    for file in paths.KERNELS.glob(f"{REASON}*"):
        pid = file.name.removeprefix(REASON)
        if not (pid.isdigit() and is_alive(int(pid))):
            file.unlink(missing_ok=True)


def leave_reason(launcher: int, reason: str) -> None:
    """Leave for a launcher why its kernel could not start."""
    with suppress(OSError):
        (paths.KERNELS / f"{REASON}{launcher}").write_text(reason)


def take_reason(launcher: int) -> str | None:
    """The reason that was left for a launcher, which is then gone."""
    with suppress(OSError):
        file = paths.KERNELS / f"{REASON}{launcher}"
        reason = file.read_text()
        file.unlink()
        return reason
    return None


def not_written(error: OSError) -> UserError:
    """What to say of a file that could not be made."""
    # Of a whole directory, shutil says it in words alone.
    message = f"{error.strerror}: {error.filename}" if error.errno else str(error)
    full = (os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT))
    hint = "Run: ./justw setup"
    if any(reason in message for reason in full):
        hint = "Free some space (./justw clean removes what runs left)"
    return UserError(f"{message}. {hint}")


if __name__ == "__main__":
    # For a kernel's cargo: `--link DIRECTORY`.
    try:
        link_compiled(Path(sys.argv[2]))
    except UserError as error:
        sys.exit(f"error: {error}")
