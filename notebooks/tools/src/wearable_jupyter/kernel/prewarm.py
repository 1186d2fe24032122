"""Make a spare kernel, and be its companion.

python -m wearable_jupyter.kernel.prewarm SERVER
"""

import fcntl
import json
import sys

import psutil

from ..setup import paths
from ..setup.errors import Problem
from . import directories, prewarmed, supervisor

# Bytes that must be available, or a spare kernel is not made: its own and as much for cells again.
ROOM = 2 * 1024**3


def make(server: int) -> None:
    """Make a spare kernel and stay its companion, unless there is one, or memory is short."""
    if psutil.virtual_memory().available < ROOM:
        return
    with (paths.TARGET / ".spare.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        directories.get_ready()
        # Before the kernel is made, because the library may be edited meanwhile.
        mark = json.dumps(prewarmed.purpose(server))
        directory = directories.make(warm=True)
        supervisor.accompany(
            directory,
            server,
            started=lambda: (directory / directories.SPARE).write_text(mark),
            claimed=handle.close,
        )


if __name__ == "__main__":
    try:
        make(int(sys.argv[1]))
    except (Problem, OSError):
        sys.exit(1)  # whoever asks for a kernel meets the same, and is told
