"""A spare kernel: loaded and warmed up before anyone asks for it.

    python -m wearable_jupyter.spare SERVER

A new kernel takes nine seconds to its first result, most of which rust-analyzer reads polars. So
`./justw lab` has one made while JupyterLab itself starts, and a kernel's companion the next when
nothing runs. The launcher takes it if it is what it would make itself: with the library as it is
now, in the same working directory, for the same server. It holds some 700 MB, so there is one at
most in a clone, and none where memory is short, or with WEARABLE_SPARE_KERNEL=0.
"""

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from . import companion, directories, layout
from .layout import Problem

VARIABLE = "WEARABLE_SPARE_KERNEL"
# Bytes that must be available, or a spare kernel is not made: its own and as much for cells again.
ROOM = 2 * 1024**3


def wanted() -> bool:
    """Whether this environment is one of `./justw lab`, and the user has nothing against it."""
    return os.environ.get(VARIABLE) == "1"


def start(server: int) -> None:
    """Have a spare kernel made for a server, by a process that is not this one's child."""
    command = (sys.executable, "-m", __name__, str(server))
    subprocess.run(
        ["sh", "-c", '"$@" &', "sh", *command],
        cwd=layout.NOTEBOOKS,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def purpose(server: int) -> dict[str, int | str]:
    """What a kernel made now, here, for this server is good for."""
    made_from = (layout.TEMPLATE / name for name in (".dependencies", "sources"))
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in made_from))
    return {"server": server, "directory": os.getcwd(), "template": digest.hexdigest()}


def take(server: int) -> Path | None:
    """The directory of the server's spare kernel, if there is one and it is as it should be."""
    wanted = purpose(server)
    for directory, running in directories.found().items():
        mark = directory / directories.SPARE
        try:
            found = json.loads(mark.read_text())
            if not running or any(found[k] != wanted[k] for k in ("server", "directory")):
                continue
            mark.unlink()
        except (FileNotFoundError, ValueError):
            continue  # no spare, or not yet, or another launcher was quicker
        if found == wanted:
            return directory
        with suppress(ProcessLookupError):
            os.kill(directories.maker(directory), signal.SIGTERM)  # the library was edited
    return None


def make(server: int) -> None:
    """Make a spare kernel and stay its companion, unless there is one, or memory is short."""
    if psutil.virtual_memory().available < ROOM:
        return
    with (layout.TARGET / ".spare.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        directories.get_ready()
        directory = directories.make(warm=True)
        (directory / directories.SPARE).write_text(json.dumps(purpose(server)))
        companion.accompany(directory, server, claimed=handle.close)


if __name__ == "__main__":
    try:
        make(int(sys.argv[1]))
    except (Problem, OSError):
        sys.exit(1)  # whoever asks for a kernel meets the same, and is told
