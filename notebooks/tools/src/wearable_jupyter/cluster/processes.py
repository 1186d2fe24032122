"""The processes of a cluster: each with a log of its own, and none left when the cluster ends."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from ..setup.errors import UserError

LOOPBACK = "127.0.0.1"
# How long a process may take to end when it is asked to.
GOODBYE_SECONDS = 10


class Processes(ExitStack):
    """Starts processes and ends them, in a group each; a context."""

    def __init__(self, logs: Path) -> None:
        super().__init__()
        self.logs = logs
        self.running: dict[str, subprocess.Popen] = {}

    def start(self, name: str, *command: str | Path, **environment: str) -> subprocess.Popen:
        """Start a process that also ends should this one be killed."""
        # Linux kills it when its parent dies; elsewhere, Ctrl-C must do.
        guard = end_with_the_parent() if shutil.which("setpriv") else ()
        with (self.logs / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                [*guard, *map(str, command)],
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.running[name] = process
        self.callback(end, process)
        return process

    def wait_for(self, what: str, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until it is ready. Raises `UserError` if a process ends, or it takes too long."""
        deadline = time.monotonic() + seconds
        while not ready():
            for name, process in self.running.items():
                if process.poll() is not None:
                    raise UserError(
                        f"{name} ended with {process.returncode}: {self.log_tail(name)}"
                    )
            if time.monotonic() > deadline:
                raise UserError(f"{what} was not ready within {seconds:.0f} s; logs: {self.logs}")
            time.sleep(0.2)

    def log_tail(self, name: str) -> str:
        """The last that a process said, and where all of it is."""
        log = self.logs / f"{name}.log"
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        return f"{lines[-1] if lines else 'it said nothing'} ({log})"


def end_with_the_parent() -> tuple[str, ...]:
    """Words before a command: Linux kills it when this process ends.

    This process may have ended before the request for that signal, so the parent is compared after
    it.
    """
    script = '[ "$PPID" = "$0" ] && exec "$@"'
    return ("setpriv", "--pdeathsig", "KILL", "sh", "-c", script, str(os.getpid()))


def end(process: subprocess.Popen) -> None:
    """End a process and its children: asked first, and then killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GOODBYE_SECONDS)
            if number == signal.SIGKILL:
                return


def free_port(preferred: int) -> int:
    """That port, or another one if somebody has it."""
    for port in (preferred, 0):
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                tried.bind((LOOPBACK, port))
                return tried.getsockname()[1]
    raise UserError("there is no free port")


def listens(port: int) -> bool:
    """Whether somebody does, at a port of loopback."""
    with socket.socket() as tried:
        tried.settimeout(1)
        return tried.connect_ex((LOOPBACK, port)) == 0
