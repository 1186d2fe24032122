"""A spare kernel: loaded and warmed up before anyone asks for it.

A new kernel takes nine seconds to its first result, most of which rust-analyzer reads polars. So
`./justw lab` has one made while JupyterLab itself starts, and a kernel's companion the next when
nothing runs. The launcher takes it if it is what it would make itself: with the library as it is
now, in the same working directory, for the same server. It holds some 700 MB, so there is one at
most in a clone, and none where memory is short, or with WEARABLE_PREWARMED_KERNEL=0.
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
# Makes one, and is its companion.
MAKER = f"{__package__}.prewarm"


def enable(server: int) -> bool:
    """Tell this process and those that it starts that a server is to have spare kernels.

    Returns False if the user does not want them.
    """
    if os.environ.get(VARIABLE) == "0":
        return False
    os.environ[VARIABLE] = str(server)
    return True


def is_enabled(jupyter: int) -> bool:
    """Whether this Jupyter, a server or a headless run, is to have spare kernels."""
    return os.environ.get(VARIABLE) == str(jupyter)


def start(server: int) -> None:
    """Have a spare kernel made for a server, by a process that is not this one's child."""
    command = (*paths.PYTHON_MODULE, MAKER, str(server))
    subprocess.run(
        ["sh", "-c", '"$@" &', "sh", *command],
        cwd=paths.NOTEBOOKS,
        # What Jupyter says of the kernel that runs here is not true of the next.
        env={k: v for k, v in os.environ.items() if not k.startswith("JPY_")},
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def purpose(server: int) -> dict[str, int | str]:
    """What a kernel made now, here, for this server is good for."""
    made_from = (paths.TEMPLATE / name for name in (DEPENDENCIES, "sources"))
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in made_from))
    return {"server": server, "directory": os.getcwd(), "template": digest.hexdigest()}


def take(handoff: Handoff) -> int | None:
    """Handoff the spare kernel of a server, if there is one and it is as it should be.

    Returns its companion, which from now on is this kernel's, or None.
    """
    with suppress(OSError):
        needed = purpose(handoff.jupyter)
        for directory in directories.list_kernels():
            if (found := read_purpose(directory)) is None:
                continue
            if any(found[part] != needed[part] for part in ("server", "directory")):
                continue
            supervisor = directories.owner_pid(directory)
            # Of several launchers, the one that removes the mark has the kernel.
            (directory / directories.PREWARMED).unlink()
            if found == needed:
                hand_off(directory, handoff)
                return supervisor
            os.kill(supervisor, signal.SIGTERM)  # the library was edited
    return None


def read_purpose(directory: Path) -> dict[str, int | str] | None:
    """What a kernel is good for that nobody has asked for yet; None if it is no such kernel."""
    if directories.evcxr(directory) is not None:
        with suppress(OSError, ValueError):
            return json.loads((directory / directories.PREWARMED).read_text())
    return None
