"""Prewarms a kernel and supervises it: python -m wearable_jupyter.kernel.prewarm SERVER."""

import fcntl
import json
import sys

import psutil

from ..setup import paths
from ..setup.errors import UserError
from . import directories, prewarmed, supervisor

# Available memory in bytes that a prewarmed kernel requires, for itself and for cells.
MIN_AVAILABLE = 2 * 1024**3


def prewarm(server: int) -> None:
    """Prewarm a kernel and supervise it, unless one exists or memory is short."""
    if psutil.virtual_memory().available < MIN_AVAILABLE:
        return
    with (paths.TARGET / ".prewarmed-kernel.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        directories.prepare()
        # Read before the kernel is created, because the library may be edited meanwhile.
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
        sys.exit(1)  # the next launcher gets the same error and reports it
