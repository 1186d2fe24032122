"""Hands a running kernel over to the launcher that Jupyter started.

A supervisor starts evcxr before a launcher requests the kernel. The launcher writes its
process ID, Jupyter's process ID, and the path of Jupyter's connection file into a named pipe in
the kernel's directory.
"""

import json
import os
import select
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from ..bootstrap import platform
from ..bootstrap.platform import is_alive
from . import directories

POLL_SECONDS = 1.0
# How long a supervisor waits after a launcher took its kernel. The launcher may have been killed.
HANDOFF_SECONDS = 10.0
# More than a handoff, whose longest part is a path.
READ_BYTES = 1 << 16


class Handoff(NamedTuple):
    """The launcher that takes a kernel, its Jupyter process, and Jupyter's connection file."""

    launcher: int
    jupyter: int
    connection_file: str


def hand_off(directory: Path, handoff: Handoff) -> None:
    """Send a handoff to a kernel's supervisor, which may still be starting."""
    pipe = os.open(directory / directories.HANDOFF, os.O_RDWR)
    os.write(pipe, json.dumps(handoff).encode())
    # A pipe keeps its content while a process has it open, so this process never closes it.


def watch(poller: select.poll, *pids: int) -> None:
    """Wake up a poller when one of the processes ends, if the system can."""
    for pid in pids:
        if (descriptor := platform.end_descriptor(pid)) is not None:
            poller.register(descriptor, select.POLLIN)


def wait_for_handoff(
    evcxr: subprocess.Popen, directory: Path, requester_pid: int
) -> Handoff | None:
    """Return the handoff, or None if evcxr or the process `requester_pid` ends first."""
    pipe = os.open(directory / directories.HANDOFF, os.O_RDWR)
    poller = select.poll()
    poller.register(pipe, select.POLLIN)
    watch(poller, evcxr.pid, requester_pid)
    was_prewarmed, taken = directories.is_prewarmed(directory), None
    while evcxr.poll() is None and is_alive(requester_pid):
        if was_prewarmed and not directories.is_prewarmed(directory):
            taken = taken or time.monotonic()
            if time.monotonic() > taken + HANDOFF_SECONDS:
                return None
        if any(ready == pipe for ready, _ in poller.poll(1000 * POLL_SECONDS)):
            return read_handoff(pipe)
    # evcxr may have ended during the handoff. Then the launcher must receive the reason.
    return read_handoff(pipe) if has_data(pipe) else None


def has_data(pipe: int) -> bool:
    return bool(select.select([pipe], [], [], 0)[0])


def read_handoff(pipe: int) -> Handoff:
    return Handoff(*json.loads(os.read(pipe, READ_BYTES)))
