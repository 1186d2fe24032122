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


def compilers(evcxr: int) -> Iterator[int]:
    """evcxr's children, without the one that runs cells, which is the same program."""
    with suppress(psutil.Error):
        parent = psutil.Process(evcxr)
        program = parent.exe()
        for child in parent.children():
            with suppress(psutil.Error):
                if child.exe() != program:
                    yield child.pid
