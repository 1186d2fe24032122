"""Prewarmed kernels: started before a notebook needs one.

A new kernel takes seven seconds to its first result, mostly because rust-analyzer reads polars. So
`./justw lab` prewarms a kernel while JupyterLab starts, and a supervisor prewarms the next one when
no cell runs. The launcher takes a prewarmed kernel that equals a new one: with the current library,
in the same working directory, for the same server. It needs about 0.6 GB of memory, so a clone has
at most one, and none if memory is short or with WEARABLE_PREWARMED_KERNEL=0.
"""

import hashlib
import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from ..setup import paths
from ..setup.build import DEPENDENCIES
from . import directories
from .handoff import Handoff, hand_off

VARIABLE = "WEARABLE_PREWARMED_KERNEL"
# The module that prewarms a kernel and supervises it.
PREWARM_MODULE = f"{__package__}.prewarm"


def enable(server: int) -> bool:
    """Enable prewarmed kernels for a server, in this process and its children.

    Returns False if the user disabled them.
    """
    if os.environ.get(VARIABLE) == "0":
        return False
    os.environ[VARIABLE] = str(server)
    return True


def is_enabled(jupyter: int) -> bool:
    """Whether prewarmed kernels are enabled for this Jupyter process."""
    return os.environ.get(VARIABLE) == str(jupyter)


def start(server: int) -> None:
    """Prewarm a kernel for a server, in a process that is not a child of this one."""
    command = (*paths.PYTHON_MODULE, PREWARM_MODULE, str(server))
    subprocess.run(
        ["sh", "-c", '"$@" &', "sh", *command],
        cwd=paths.NOTEBOOKS,
        # Without Jupyter's variables, which describe the kernel that runs here.
        env={k: v for k, v in os.environ.items() if not k.startswith("JPY_")},
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def purpose(server: int) -> dict[str, int | str]:
    """The purpose of a kernel that is created now: the server, directory and template."""
    inputs = (paths.TEMPLATE / name for name in (DEPENDENCIES, "sources"))
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in inputs))
    return {"server": server, "directory": os.getcwd(), "template": digest.hexdigest()}


def take(handoff: Handoff) -> int | None:
    """Take the prewarmed kernel of a server if there is one that equals a new kernel.

    Returns the process ID of its supervisor, or None.
    """
    with suppress(OSError):
        needed = purpose(handoff.jupyter)
        for directory in directories.list_kernels():
            if (found := read_purpose(directory)) is None:
                continue
            if any(found[part] != needed[part] for part in ("server", "directory")):
                continue
            supervisor = directories.owner_pid(directory)
            # If several launchers compete, the one that deletes the file gets the kernel.
            (directory / directories.PREWARMED).unlink()
            if found == needed:
                hand_off(directory, handoff)
                return supervisor
            os.kill(supervisor, signal.SIGTERM)  # the library was edited since
    return None


def read_purpose(directory: Path) -> dict[str, int | str] | None:
    """The purpose of a prewarmed kernel; None if it does not run or is not prewarmed."""
    if directories.evcxr(directory) is not None:
        with suppress(OSError, ValueError):
            return json.loads((directory / directories.PREWARMED).read_text())
    return None
