"""Starts the processes of a cluster, writes a log for each, and ends all of them."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from ..bootstrap.platform import LOOPBACK, end_with_parent, signal_group
from ..setup.errors import UserError

# How long a process may take to end after SIGTERM.
TERMINATE_SECONDS = 10


class Processes(ExitStack):
    """A context that starts processes, each in its own process group, and ends them on exit."""

    def __init__(self, logs: Path) -> None:
        super().__init__()
        self.logs = logs
        self.running: dict[str, subprocess.Popen] = {}

    def start(self, name: str, *command: str | Path, **environment: str) -> subprocess.Popen:
        """Start a process that also ends if this process is killed, if the system can do that.

        It ends on exit of this context in any case.
        """
        with (self.logs / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                [*end_with_parent(), *map(str, command)],
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
        """Wait until `ready` returns true.

        Raises `UserError` if a process ends, or after `seconds`; `what` names the awaited service.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            for name, process in self.running.items():
                if process.poll() is not None:
                    raise UserError(
                        f"The process {name} ended with exit code {process.returncode}: "
                        f"{self.log_tail(name)}"
                    )
            if time.monotonic() > deadline:
                raise UserError(
                    f"{what} did not start within {seconds:.0f} s. Read the logs in {self.logs}"
                )
            time.sleep(0.2)

    def log_tail(self, name: str) -> str:
        """The last line of a process' log, and the log's path."""
        log = self.logs / f"{name}.log"
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        return f"{lines[-1] if lines else 'its log is empty'} ({log})"


def end(process: subprocess.Popen) -> None:
    """End a process and its children: with SIGTERM first, then with SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        signal_group(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(TERMINATE_SECONDS)
            if number == signal.SIGKILL:
                return


def free_port(preferred: int) -> int:
    """Return the preferred port, or another free port if a process uses it."""
    for port in (preferred, 0):
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                candidate.bind((LOOPBACK, port))
                return candidate.getsockname()[1]
    raise UserError(f"{LOOPBACK} has no free port. Stop other programs, and run the command again")


def listens(port: int) -> bool:
    """Whether a process listens at this port of the loopback interface."""
    with socket.socket() as connection:
        connection.settimeout(1)
        return connection.connect_ex((LOOPBACK, port)) == 0
