"""Start one Rust kernel in a directory of its own, and leave nothing behind.

    python -m wearable_jupyter.kernel CONNECTION_FILE

Jupyter starts this, as `kernelspec/kernel.json` says. Two evcxr kernels that share a directory run
each other's code, so each gets one of its own in `target/kernels/`. This process then becomes the
kernel. A second one, its companion, carries the messages (`relay.py`) until the kernel or Jupyter
is gone, however that came about; then it ends whatever the kernel has started (a compiler, a cell
that is still running) and deletes the directory.
"""

import errno
import json
import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from . import analysis, cells, layout
from .layout import Problem
from .prepare import build_template, link, link_tree, prerequisites

POLL_SECONDS = 1.0
# evcxr's own connection file, in its kernel's directory.
CONNECTION = "connection.json"


def alive(pid: int) -> bool:
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


def directories() -> dict[Path, bool]:
    """Every kernel's directory, and whether the kernel is alive."""
    found = {}
    for directory in layout.KERNELS.glob("*"):
        pid = directory.name.split("-")[0]
        if pid.isdigit():
            found[directory] = alive(int(pid))
    return found


def sweep() -> None:
    """Delete directories whose kernel and companion were both killed before they could."""
    for directory, running in directories().items():
        if not running:
            shutil.rmtree(directory, ignore_errors=True)


def is_rewritten(path: Path) -> bool:
    """Whether cargo may change a file or directory of the template's in place."""
    own = path.name.startswith(("ctx-", "wearable_demo-", "libctx", "libwearable_demo"))
    if path.parent.name == ".fingerprint":
        return own
    return path.is_file() and ((path.suffix == ".d" and own) or path.parent.name == "target")


def deps(target: Path) -> Path:
    """Where cargo puts what it compiles for this platform."""
    return target / layout.host() / "debug" / "deps"


def make_directory() -> Path:
    """A directory for this kernel: its start-up commands, its cargo, and the library as it is now.

    What evcxr needs to compile a cell is named in the call that the template was compiled by. The
    dependencies stay where they are; the library is linked, for an edit replaces the template's.
    """
    directory = layout.KERNELS / f"{os.getpid()}-{time.time_ns():x}"
    project, config, library = (directory / name for name in ("project", "config", "library"))
    for folder in (config, library, deps(project / "target")):
        folder.mkdir(parents=True)
    for file in deps(layout.TEMPLATE / "target").glob("libwearable_demo.*"):
        link(file, library / file.name)
    cells.make_programs(directory, layout.cargo(), layout.shared_library("ctx"), __spec__.name)
    call = (layout.TEMPLATE / "call").read_text()
    for part, replacement in (
        (f"wearable_demo={deps(layout.TEMPLATE / 'target')}", f"wearable_demo={library}"),
        (f"-L dependency={layout.TEMPLATE / 'target'}", f"-L dependency={compiled()}"),
        (f"-L native={layout.TEMPLATE / 'target'}", f"-L native={compiled()}"),
        (str(layout.TEMPLATE), str(project)),
    ):
        call = call.replace(part, replacement)
    # As evcxr calls cargo after the commands below.
    arguments = ["--offline", "build", "--target", layout.host(), "--message-format=json"]
    manifest = (layout.TEMPLATE / "Cargo.toml").read_text()
    cell = deps(project / "target") / layout.shared_library("ctx")
    cells.know(directory, cells.key(layout.RUSTFLAGS, arguments, manifest), call, cell)

    lock = config / "Cargo.lock"
    shutil.copy(layout.TEMPLATE / "Cargo.lock", lock)
    # evcxr starts with no dependencies, and cargo prunes the lock file to match. Putting it back
    # before the first `:dep` keeps the workspace's versions. Cells are compiled without
    # optimisation; what they call, polars and the library, is optimised already.
    (config / "init.evcxr").write_text(
        f":build_env RUSTFLAGS={layout.RUSTFLAGS}\n"
        f":build_env CARGO_HOME={layout.cargo_home()}\n"
        ":opt 0\n"
        ":offline 1\n"
        f"!cp {shlex.quote(str(lock))} {shlex.quote(str(project))}\n"
    )
    return directory


def compiled() -> Path:
    """The compiled dependencies, which no other process changes; marked as in use."""
    folder = layout.compiled_dependencies()
    with suppress(OSError):
        os.utime(folder)
    return folder


def link_compiled(directory: Path) -> None:
    """Link what is compiled into a kernel's project, for cargo to go on from.

    Raises `Problem` when the disk is full; what is there by then is gone on from the next time.
    """
    target = directory / "project" / "target"
    try:
        link_tree(
            layout.TEMPLATE / "target",
            target,
            copy=is_rewritten,
            skip=lambda path: path.name == "incremental",
        )
        # The library that the kernel runs with, should it have been edited since.
        for file in (directory / "library").iterdir():
            (deps(target) / file.name).unlink(missing_ok=True)
            link(file, deps(target) / file.name)
        (target / ".linked").touch()
    except OSError as error:
        raise not_written(error) from error


def write_private(connection: dict, file: Path) -> None:
    """Write a connection file for evcxr: Jupyter's, with free ports of this machine's own."""
    private = connection | {"transport": "tcp", "ip": "127.0.0.1"}
    with ExitStack() as held:
        for name in (name for name in connection if name.endswith("_port")):
            found = held.enter_context(socket.socket())
            found.bind((private["ip"], 0))
            private[name] = found.getsockname()[1]
    file.touch(mode=0o600)
    file.write_text(json.dumps(private))


def accompany(kernel: int, jupyter: int, directory: Path, connection_file: str) -> None:
    """Relay messages until the end of the kernel or of Jupyter, then remove what is left of it."""
    from . import relay  # here, for the process that becomes the kernel has no use for ZeroMQ

    try:
        private = json.loads((directory / CONNECTION).read_text())
        messages = relay.Relay(json.loads(Path(connection_file).read_text()), private)
        # A kernel's end is in the poller too, where the system has such a thing.
        with suppress(AttributeError, OSError):
            messages.poller.register(os.pidfd_open(kernel), select.POLLIN)
        while alive(kernel) and alive(jupyter):
            messages.step(POLL_SECONDS)
        messages.close()
    finally:
        remove(kernel, directory)


def remove(kernel: int, directory: Path) -> None:
    """End what a kernel has started, and delete its directory."""
    with suppress(ProcessLookupError):
        os.killpg(kernel, signal.SIGKILL)
    # A compiler that is just dying may still write a file into it.
    for _ in range(20):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            break
        time.sleep(0.1)


def prepare_directory(connection_file: str) -> Path:
    """Check what a kernel needs, bring the template up to date, and make the kernel's directory.

    Raises `Problem`, also for a disk that is full.
    """
    prerequisites()
    if not layout.evcxr().is_file():
        raise Problem("The Rust kernel is not installed. Run: ./justw setup")
    try:
        sweep()
        build_template()
        analysis.make_home(layout.ANALYSIS_HOME, layout.cargo(), layout.cargo_home())
        directory = make_directory()
        write_private(json.loads(Path(connection_file).read_text()), directory / CONNECTION)
        return directory
    except OSError as error:
        for directory in layout.KERNELS.glob(f"{os.getpid()}-*"):
            shutil.rmtree(directory, ignore_errors=True)
        raise not_written(error) from error


def not_written(error: OSError) -> Problem:
    """What to say of a file that could not be made."""
    # Of a whole directory, shutil says it in words alone.
    said = f"{error.strerror}: {error.filename}" if error.errno else str(error)
    full = (os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT))
    hint = "Run: ./justw setup"
    if any(reason in said for reason in full):
        hint = "Free some space (./justw clean removes what runs left)"
    return Problem(f"{said}. {hint}")


def main(connection_file: str) -> None:
    jupyter = os.getppid()
    try:
        directory = prepare_directory(connection_file)
    except Problem as problem:
        print(f"error: {problem}", file=sys.stderr, flush=True)
        from . import apology  # only now: it loads IPython

        apology.start(connection_file, str(problem))
        return

    if os.getpgrp() != os.getpid():
        os.setpgrp()
    companion = ("--accompany", str(os.getpid()), str(jupyter), directory, connection_file)
    subprocess.Popen(
        [sys.executable, "-m", __spec__.name, *companion],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    environment = layout.cargo_environment() | {
        "EVCXR_TMPDIR": str(directory / "project"),
        "EVCXR_CONFIG_DIR": str(directory / "config"),
        "CARGO_HOME": str(layout.ANALYSIS_HOME),
        "PATH": f"{directory / 'bin'}{os.pathsep}{os.environ['PATH']}",
        # evcxr_jupyter would bring a stock installation that it finds there up to date.
        "JUPYTER_PATH": str(directory / "no-installation"),
    }
    command = (str(layout.evcxr()), "--control_file", str(directory / CONNECTION))
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    if sys.argv[1] == "--accompany":
        accompany(int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), sys.argv[5])
    elif sys.argv[1] == "--link":
        try:
            link_compiled(Path(sys.argv[2]))
        except Problem as problem:
            sys.exit(f"error: {problem}")
    else:
        main(sys.argv[1])
