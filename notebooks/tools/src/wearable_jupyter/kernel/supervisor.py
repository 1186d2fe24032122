"""Run evcxr, carry its messages, and leave nothing of it behind.

    python -m wearable_jupyter.kernel.supervisor DIRECTORY

Each kernel has such a process, in a session of its own, so that it outlives whatever ends a kernel:
closing a notebook, killing Jupyter. It starts evcxr in a directory made for it, waits to be told
whom the kernel is for, and relays messages (`proxy.py`) until evcxr, or the launcher that Jupyter
knows (`kernel.py`), or Jupyter itself is gone, however that came about. Then it ends whatever evcxr
has started (a compiler, a cell that still runs) and deletes the directory.
"""

import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..setup import caches, paths, toolchain
from . import directories, prewarmed
from .directories import is_alive
from .events import Events
from .handoff import POLL_SECONDS, Handoff, hand_off, wait_for_handoff, watch

# So long after the last cell, the processor is free for warming the next kernel up.
QUIET_SECONDS = 10.0
# Clients read the last reply before they learn of the kernel's end.
LAST_REPLY_SECONDS = 0.5
# Bytes of evcxr's stderr that are kept: the message of a panic, and the backtrace behind it.
STDERR_LIMIT = 1 << 16


def start(directory: Path, handoff: Handoff) -> int:
    """Start a companion for a directory of this process's, in this working directory; its pid.

    Raises `UserError` when it cannot be started; then the directory is gone.
    """
    try:
        hand_off(directory, handoff)
        return subprocess.Popen(
            [*paths.PYTHON_MODULE, __name__, directory],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        ).pid
    except OSError as error:
        directories.remove(directory)
        raise directories.not_written(error) from error


def wait_for_end(pid: int) -> None:
    """Wait for the end of a companion."""
    poller = select.poll()
    watch(poller, pid)
    while is_alive(pid):
        poller.poll(1000 * POLL_SECONDS)


class ErrorOutput:
    """evcxr's stderr: passed on, and its last part kept for the reason of a failure."""

    def __init__(self, pipe: int) -> None:
        self.tail = b""
        threading.Thread(target=self._pass_on, args=(pipe,), daemon=True).start()

    def _pass_on(self, pipe: int) -> None:
        while data := os.read(pipe, STDERR_LIMIT):
            self.tail = (self.tail + data)[-STDERR_LIMIT:]
            with suppress(OSError):
                os.write(2, data)

    def reason(self, status: int | None) -> str:
        """Why evcxr has stopped; `status` is its exit status, None while it is there."""
        text = self.tail.decode(errors="replace")
        panics = re.findall(r"panicked at (\S+?):?\n(.+)", text)
        if panics:
            place, message = panics[-1]
            place = re.sub(r"^.*/(?=[^/]+/src/)|^.*/rustlib/src/rust/", "", place)
            return f"evcxr, the program that compiles cells, panicked: {message.strip()} ({place})."
        if status is None:
            return "evcxr, the program that compiles cells, does not answer any more."
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        lines = [line for line in text.splitlines() if line.strip()]
        last = f": {lines[-1].strip()}" if lines and status else "."
        return f"evcxr, the program that compiles cells, has ended with {how}{last}"


def start_evcxr(directory: Path, events: Events) -> subprocess.Popen:
    """Start evcxr in a process group of its own, in this working directory."""
    environment = toolchain.kernel_environment() | {
        **toolchain.with_standard_library(),
        **events.environment,
        "EVCXR_TMPDIR": str(directory / "project"),
        "EVCXR_CONFIG_DIR": str(directory / "config"),
        "CARGO_HOME": str(paths.ANALYSIS_HOME),
        "PATH": f"{directory / 'bin'}{os.pathsep}{os.environ['PATH']}",
        # evcxr_jupyter would bring a stock installation that it finds there up to date.
        "JUPYTER_PATH": str(directory / "no-installation"),
    }
    return subprocess.Popen(
        [caches.evcxr(), "--control_file", directory / directories.CONNECTION],
        env=environment,
        process_group=0,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def relay_messages(
    evcxr: subprocess.Popen, directory: Path, handoff: Handoff, events: Events, output: ErrorOutput
) -> str | None:
    """Proxy messages until the end of evcxr, or of whom it is for.

    Returns the reason if evcxr ended before it ever answered: then no cell could show it.
    """
    from . import proxy  # only now: evcxr is under way, and ZeroMQ takes a moment to load

    private = json.loads((directory / directories.CONNECTION).read_text())
    public = json.loads(Path(handoff.connection_file).read_text())
    messages = proxy.Proxy(public, private, events, directory, lambda: output.reason(evcxr.poll()))
    execution = messages.execution
    watch(messages.poller, evcxr.pid, handoff.launcher, handoff.jupyter)
    to_prewarm = prewarmed.is_enabled(handoff.jupyter)
    wanted = lambda: is_alive(handoff.launcher) and is_alive(handoff.jupyter)  # noqa: E731
    while evcxr.poll() is None and execution.stopped is None and wanted():
        try:
            messages.step(POLL_SECONDS)
        except Exception as error:
            traceback.print_exc()
            execution.stop(f"The kernel's proxy failed: {type(error).__name__}: {error}")
        if to_prewarm and messages.quiet_seconds() > QUIET_SECONDS:
            to_prewarm = False
            with suppress(OSError):  # this kernel needs no other
                prewarmed.start(handoff.jupyter)
    reason = None
    by_itself = evcxr.poll() is not None and wanted() and not messages.shutdown_requested
    if execution.stopped is not None or by_itself:
        reason = execution.stopped or output.reason(evcxr.poll())
    # A cell may print without end, and there is nobody who would hear it.
    directories.end(evcxr.pid)
    messages.close(reason)
    if reason is None:
        return None
    print(f"error: {reason}", file=sys.stderr, flush=True)
    time.sleep(LAST_REPLY_SECONDS)
    return None if execution.is_ready else reason


def supervise(
    directory: Path,
    waiting_for: int,
    started: Callable[[], object] = lambda: None,
    handed_off: Callable[[], object] = lambda: None,
) -> None:
    """Do all of the above, for a kernel that is of no use without the process `waiting_for`.

    `started` is called when evcxr runs, `handed_off` when it is told whom the kernel is for.
    """
    evcxr = handoff = reason = None
    try:
        events = Events(directory)
        evcxr = start_evcxr(directory, events)
        output = ErrorOutput(evcxr.stderr.fileno())
        (directory / directories.EVCXR).write_text(str(evcxr.pid))
        # What has to be done at the end is done then, too.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        started()
        handoff = wait_for_handoff(evcxr, directory, waiting_for)
        if handoff is not None:
            handed_off()
            reason = relay_messages(evcxr, directory, handoff, events, output)
    finally:
        if reason is not None:
            directories.leave_reason(handoff.launcher, reason)
        elif handoff is not None:
            # Jupyter takes the end of its launcher for the kernel's.
            with suppress(ProcessLookupError):
                os.kill(handoff.launcher, signal.SIGTERM)
        directories.remove(directory, evcxr and evcxr.pid)


if __name__ == "__main__":
    supervise(Path(sys.argv[1]), directories.owner_pid(Path(sys.argv[1])))
