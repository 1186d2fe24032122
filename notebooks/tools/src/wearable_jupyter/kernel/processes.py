"""End processes together with all that they have started."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from . import directories


def end_tree(*roots: int) -> None:
    """End processes and their descendants.

    They are stopped first: cargo would start the next rustc while the last one is being ended.
    """
    found: list[int] = []
    waiting = [pid for pid in roots if pid > 1]
    while waiting:
        pid = waiting.pop()
        if pid in found:
            continue
        found.append(pid)
        with suppress(OSError):
            os.kill(pid, signal.SIGSTOP)
        with suppress(psutil.Error):
            waiting += [child.pid for child in psutil.Process(pid).children()]
    for pid in found:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def end_compilers(directory: Path) -> None:
    """End what evcxr runs in a kernel's directory besides the process of the cells."""
    evcxr = directories.evcxr(directory)
    if evcxr is not None:
        end_tree(*compilers(evcxr))


def end_orphans(directory: Path) -> None:
    """End what is left of a cell's process that has ended.

    evcxr waits until nobody can write to the process's stderr any more, so a program that the cell
    left running would keep evcxr waiting.
    """
    evcxr = directories.evcxr(directory)
    if evcxr is not None:
        for pid in orphans(evcxr):
            end_tree(pid)


def orphans(evcxr: int) -> Iterator[int]:
    """The processes in evcxr's group that have another parent than a process of evcxr's."""
    with suppress(psutil.Error):
        family = {evcxr, *(child.pid for child in psutil.Process(evcxr).children(recursive=True))}
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                if process.pid not in family and os.getpgid(process.pid) == evcxr:
                    yield process.pid


def compilers(evcxr: int) -> Iterator[int]:
    """evcxr's children, without the one that runs cells, which is the same program."""
    with suppress(psutil.Error):
        parent = psutil.Process(evcxr)
        program = parent.exe()
        for child in parent.children():
            with suppress(psutil.Error):
                if child.exe() != program:
                    yield child.pid
