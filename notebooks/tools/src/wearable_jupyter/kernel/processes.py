"""Kills processes together with their descendants."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from . import directories


def end_tree(*roots: int) -> None:
    """Kill processes and their descendants.

    Stops them first, because cargo would start the next rustc while the last one is killed.
    """
    stopped: list[int] = []
    waiting = [pid for pid in roots if pid > 1]
    while waiting:
        pid = waiting.pop()
        if pid in stopped:
            continue
        stopped.append(pid)
        with suppress(OSError):
            os.kill(pid, signal.SIGSTOP)
        with suppress(psutil.Error):
            waiting += [child.pid for child in psutil.Process(pid).children()]
    for pid in stopped:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def end_compilers(directory: Path) -> None:
    """Kill evcxr's children, except the process that runs cells."""
    evcxr = directories.evcxr(directory)
    if evcxr is not None:
        end_tree(*compilers(evcxr))


def end_orphans(directory: Path) -> None:
    """Kill the programs that an ended cell process left running.

    evcxr waits until all writers of the process's stderr have closed it, and such a program would
    keep it open.
    """
    evcxr = directories.evcxr(directory)
    if evcxr is not None:
        for pid in orphans(evcxr):
            end_tree(pid)


def orphans(evcxr: int) -> Iterator[int]:
    """The processes in evcxr's group that are not its descendants."""
    with suppress(psutil.Error):
        family = {evcxr, *(child.pid for child in psutil.Process(evcxr).children(recursive=True))}
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                if process.pid not in family and os.getpgid(process.pid) == evcxr:
                    yield process.pid


def compilers(evcxr: int) -> Iterator[int]:
    """evcxr's children, except the one that runs cells, which has the same executable."""
    with suppress(psutil.Error):
        parent = psutil.Process(evcxr)
        program = parent.exe()
        for child in parent.children():
            with suppress(psutil.Error):
                if child.exe() != program:
                    yield child.pid
