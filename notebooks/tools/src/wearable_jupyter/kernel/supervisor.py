"""Supervises one kernel: runs evcxr, relays its messages, and cleans up after it.

    python -m wearable_jupyter.kernel.supervisor DIRECTORY

Each kernel has a supervisor in a session of its own. So the supervisor still runs when the user
closes the notebook or kills Jupyter, and cleans up. The supervisor starts evcxr in the kernel's
directory, waits for the handoff, and relays messages (`proxy.py`) until evcxr, the launcher
(`launcher.py`) or Jupyter ends. Then it kills all processes that evcxr started, such as a compiler
or a running cell, and deletes the directory.
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

from ..bootstrap.platform import is_alive
from ..setup import caches, paths, toolchain
from ..setup.errors import UserError
from . import directories, prewarmed
from .events import Events
from .handoff import POLL_SECONDS, Handoff, hand_off, wait_for_handoff, watch

# The variable in which polars_profile looks for its worker program.
WORKER = "PROFILE_WORKER"
# The next kernel is prewarmed after this time without a running cell.
QUIET_SECONDS = 10.0
# How long clients have to read the last reply before the kernel ends.
LAST_REPLY_SECONDS = 0.5
# Seconds to wait for the rest of evcxr's stderr after its end, because it may contain the reason.
LAST_OUTPUT_SECONDS = 1.0
# The last bytes of evcxr's stderr, enough for a panic message with a backtrace.
STDERR_LIMIT = 1 << 16


def start(directory: Path, handoff: Handoff) -> int:
    """Start a supervisor for a directory of this process, and return its process ID.

    Raises `UserError` if it cannot be started, and deletes the directory then.
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
    """Wait for the end of a supervisor."""
    poller = select.poll()
    watch(poller, pid)
    while is_alive(pid):
        poller.poll(1000 * POLL_SECONDS)


class ErrorOutput:
    """Forwards evcxr's stderr, and keeps its end for error messages."""

    def __init__(self, pipe: int) -> None:
        self.tail = b""
        self.thread = threading.Thread(target=self._forward, args=(pipe,), daemon=True)
        self.thread.start()

    def _forward(self, pipe: int) -> None:
        while data := os.read(pipe, STDERR_LIMIT):
            self.tail = (self.tail + data)[-STDERR_LIMIT:]
            with suppress(OSError):
                os.write(2, data)

    def reason(self, status: int | None) -> str:
        """Why evcxr stopped. `status` is its exit status, or None while it runs."""
        if status is not None:
            self.thread.join(LAST_OUTPUT_SECONDS)
        text = self.tail.decode(errors="replace")
        panics = re.findall(r"panicked at (\S+?):?\n(.+)", text)
        if panics:
            place, message = panics[-1]
            place = re.sub(r"^.*/(?=[^/]+/src/)|^.*/rustlib/src/rust/", "", place)
            return f"evcxr, the program that compiles cells, panicked: {message.strip()} ({place})."
        if status is None:
            return "evcxr, the program that compiles cells, stopped responding."
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        lines = [line for line in text.splitlines() if line.strip()]
        last = f": {lines[-1].strip()}" if lines and status else "."
        return f"evcxr, the program that compiles cells, ended with {how}{last}"


def start_evcxr(directory: Path, events: Events) -> subprocess.Popen:
    """Start evcxr in a new process group, in the current working directory."""
    environment = toolchain.kernel_environment() | {
        **toolchain.with_standard_library(),
        **events.environment,
        "EVCXR_TMPDIR": str(directory / "project"),
        "EVCXR_CONFIG_DIR": str(directory / "config"),
        "CARGO_HOME": str(paths.ANALYSIS_HOME),
        "RUST_SRC_PATH": str(paths.ANALYSIS_LIBRARY),
        # The kernel's own copy of the library has no worker next to it.
        WORKER: os.environ.get(WORKER) or str(toolchain.program("profile_worker")),
        # evcxr's allocator would otherwise use huge pages, of which many stay half empty.
        "MIMALLOC_ALLOW_THP": "0",
        "PATH": f"{directory / 'bin'}{os.pathsep}{os.environ['PATH']}",
        # evcxr_jupyter would update a stock installation that it finds in JUPYTER_PATH.
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
    """Relay messages until evcxr, the launcher or Jupyter ends.

    Returns the reason if evcxr ended before its first reply. No cell could show this reason, so the
    launcher starts a kernel that reports it.
    """
    from . import proxy  # after evcxr's start, because loading ZeroMQ takes a moment

    private = json.loads((directory / directories.CONNECTION).read_text())
    public = json.loads(Path(handoff.connection_file).read_text())
    why_evcxr_stopped = lambda: output.reason(evcxr.poll())  # noqa: E731
    try:
        messages = proxy.Proxy(public, private, events, directory, why_evcxr_stopped)
    except UserError as error:
        # No kernel can report this in a cell, because it could not use these ports either.
        print(f"error: {error}", file=sys.stderr, flush=True)
        return None
    execution = messages.execution
    watch(messages.poller, evcxr.pid, handoff.launcher, handoff.jupyter)
    to_prewarm = prewarmed.is_enabled(handoff.jupyter)
    wanted = lambda: is_alive(handoff.launcher) and is_alive(handoff.jupyter)  # noqa: E731
    while evcxr.poll() is None and execution.stopped is None and wanted():
        try:
            messages.step(POLL_SECONDS)
        except Exception as error:
            traceback.print_exc()
            execution.stop(f"The kernel's message proxy failed: {type(error).__name__}: {error}")
        if to_prewarm and messages.quiet_seconds() > QUIET_SECONDS:
            to_prewarm = False
            with suppress(OSError):  # this kernel works without the next one
                prewarmed.start(handoff.jupyter)
    reason = None
    by_itself = evcxr.poll() is not None and wanted() and not messages.shutdown_requested
    if execution.stopped is not None or by_itself:
        reason = execution.stopped or output.reason(evcxr.poll())
    # End evcxr first, because a cell may print endlessly although no client reads its output.
    directories.end(evcxr.pid)
    messages.close(reason)
    if reason is None:
        return None
    print(f"error: {reason}", file=sys.stderr, flush=True)
    time.sleep(LAST_REPLY_SECONDS)
    return None if execution.is_ready else reason


def supervise(
    directory: Path,
    requester_pid: int,
    started: Callable[[], object] = lambda: None,
    handed_off: Callable[[], object] = lambda: None,
) -> None:
    """Supervise a kernel until it ends.

    Before the handoff, the end of the process `requester_pid`, which needs the kernel, ends it too.

    Calls `started` when evcxr runs, and `handed_off` after the handoff.
    """
    evcxr = handoff = reason = None
    try:
        events = Events(directory)
        evcxr = start_evcxr(directory, events)
        output = ErrorOutput(evcxr.stderr.fileno())
        (directory / directories.EVCXR).write_text(str(evcxr.pid))
        # SIGTERM runs the clean-up too.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        started()
        handoff = wait_for_handoff(evcxr, directory, requester_pid)
        if handoff is not None:
            handed_off()
            reason = relay_messages(evcxr, directory, handoff, events, output)
    finally:
        if reason is not None:
            directories.store_start_error(handoff.launcher, reason)
        elif handoff is not None:
            # For Jupyter, the end of the launcher is the end of the kernel.
            with suppress(ProcessLookupError):
                os.kill(handoff.launcher, signal.SIGTERM)
        directories.remove(directory, evcxr and evcxr.pid)


if __name__ == "__main__":
    supervise(Path(sys.argv[1]), directories.owner_pid(Path(sys.argv[1])))
