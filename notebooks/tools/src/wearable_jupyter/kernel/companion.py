"""Run evcxr, carry its messages, and leave nothing of it behind.

    python -m wearable_jupyter.kernel.companion DIRECTORY

Each kernel has such a process, in a session of its own, so that it outlives whatever ends a kernel:
closing a notebook, killing Jupyter. It starts evcxr in a directory made for it, waits to be told
whom the kernel is for, and relays messages (`relay.py`) until evcxr, or the launcher that Jupyter
knows (`kernel.py`), or Jupyter itself is gone, however that came about. Then it ends whatever evcxr
has started (a compiler, a cell that still runs) and deletes the directory.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..setup import layout
from . import directories, spare
from .directories import Claim, alive
from .events import Events

POLL_SECONDS = 1.0
# So long after the last cell, the processor is free for warming the next kernel up.
QUIET_SECONDS = 10.0
# A launcher that has taken a spare kernel says so at once, unless it was killed.
CLAIM_SECONDS = 10.0


def start(directory: Path, claim: Claim) -> int:
    """Start a companion for a directory of this process's, in this working directory; its pid.

    Raises `Problem` when it cannot be started; then the directory is gone.
    """
    try:
        directories.hand_over(directory, claim)
        return subprocess.Popen(
            [*layout.PYTHON_MODULE, __name__, directory],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        ).pid
    except OSError as error:
        directories.remove(directory)
        raise directories.not_written(error) from error


def watch(poller: select.poll, *pids: int) -> None:
    """Let a poller wake up at the end of processes, where the system has such a thing."""
    for pid in pids:
        with suppress(AttributeError, OSError):
            poller.register(os.pidfd_open(pid), select.POLLIN)


def wait_for_end(pid: int) -> None:
    """Wait for the end of a companion."""
    poller = select.poll()
    watch(poller, pid)
    while alive(pid):
        poller.poll(1000 * POLL_SECONDS)


def start_evcxr(directory: Path, events: Events) -> subprocess.Popen:
    """Start evcxr in a process group of its own, in this working directory."""
    environment = layout.kernel_environment() | {
        **layout.with_standard_library(),
        **events.environment,
        "EVCXR_TMPDIR": str(directory / "project"),
        "EVCXR_CONFIG_DIR": str(directory / "config"),
        "CARGO_HOME": str(layout.ANALYSIS_HOME),
        "PATH": f"{directory / 'bin'}{os.pathsep}{os.environ['PATH']}",
        # evcxr_jupyter would bring a stock installation that it finds there up to date.
        "JUPYTER_PATH": str(directory / "no-installation"),
    }
    return subprocess.Popen(
        [layout.evcxr(), "--control_file", directory / directories.CONNECTION],
        env=environment,
        process_group=0,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def wait_for_claim(evcxr: subprocess.Popen, directory: Path, waiting_for: int) -> Claim | None:
    """Whom the kernel is for; None if evcxr, or the process that would need it, is gone before."""
    pipe = os.open(directory / directories.CLAIM, os.O_RDWR)
    poller = select.poll()
    poller.register(pipe, select.POLLIN)
    watch(poller, evcxr.pid, waiting_for)
    was_spare, taken = directories.is_spare(directory), None
    while evcxr.poll() is None and alive(waiting_for):
        if was_spare and not directories.is_spare(directory):
            taken = taken or time.monotonic()
            if time.monotonic() > taken + CLAIM_SECONDS:
                return None
        if any(ready == pipe for ready, _ in poller.poll(1000 * POLL_SECONDS)):
            return Claim(*json.loads(os.read(pipe, select.PIPE_BUF)))
    return None


def carry(evcxr: subprocess.Popen, directory: Path, claim: Claim, events: Events) -> None:
    """Relay messages until the end of evcxr, or of whom it is for."""
    from . import relay  # only now: evcxr is under way, and ZeroMQ takes a moment to load

    private = json.loads((directory / directories.CONNECTION).read_text())
    public = json.loads(Path(claim.connection_file).read_text())
    messages = relay.Relay(public, private, events, directory)
    watch(messages.poller, evcxr.pid, claim.launcher, claim.jupyter)
    to_start_spare = spare.wanted(claim.jupyter)
    while evcxr.poll() is None and alive(claim.launcher) and alive(claim.jupyter):
        messages.step(POLL_SECONDS)
        if to_start_spare and messages.quiet_seconds() > QUIET_SECONDS:
            to_start_spare = False
            with suppress(OSError):  # this kernel needs no other
                spare.start(claim.jupyter)
    # A cell may print without end, and there is nobody who would hear it.
    directories.end(evcxr.pid)
    messages.close()


def accompany(
    directory: Path,
    waiting_for: int,
    started: Callable[[], object] = lambda: None,
    claimed: Callable[[], object] = lambda: None,
) -> None:
    """Do all of the above, for a kernel that is of no use without the process `waiting_for`.

    `started` is called when evcxr runs, `claimed` when it is told whom the kernel is for.
    """
    evcxr = claim = None
    try:
        events = Events(directory)
        evcxr = start_evcxr(directory, events)
        (directory / directories.EVCXR).write_text(str(evcxr.pid))
        # What has to be done at the end is done then, too.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        started()
        claim = wait_for_claim(evcxr, directory, waiting_for)
        if claim is not None:
            claimed()
            carry(evcxr, directory, claim, events)
    finally:
        if claim is not None:
            # Jupyter takes the end of its launcher for the kernel's.
            with suppress(ProcessLookupError):
                os.kill(claim.launcher, signal.SIGTERM)
        directories.remove(directory, evcxr and evcxr.pid)


if __name__ == "__main__":
    accompany(Path(sys.argv[1]), directories.maker(Path(sys.argv[1])))
