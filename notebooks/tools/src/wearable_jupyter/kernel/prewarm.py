"""Make a spare kernel, and be its companion.

python -m wearable_jupyter.kernel.prewarm SERVER
"""

import fcntl
import json
import sys

import psutil

from ..setup import paths
from ..setup.errors import UserError
from . import directories, prewarmed, supervisor

# Bytes that must be available, or a spare kernel is not made: its own and as much for cells again.
ROOM = 2 * 1024**3


def prewarm(server: int) -> None:
    """Make a spare kernel and stay its companion, unless there is one, or memory is short."""
    if psutil.virtual_memory().available < ROOM:
        return
    with (paths.TARGET / ".prewarmed-kernel.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        directories.prepare()
        # Before the kernel is made, because the library may be edited meanwhile.
        purpose = json.dumps(prewarmed.purpose(server))
        directory = directories.create(prewarm=True)
        supervisor.supervise(
            directory,
            server,
            started=lambda: (directory / directories.PREWARMED).write_text(purpose),
            handed_off=handle.close,
        )


if __name__ == "__main__":
    try:
        prewarm(int(sys.argv[1]))
    except (UserError, OSError):
        sys.exit(1)  # whoever asks for a kernel meets the same, and is told
