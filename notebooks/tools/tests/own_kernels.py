"""The kernels of one test process, because two run at a time."""

import os
import sys
from pathlib import Path

import psutil

from wearable_jupyter.setup import paths

# The environment variable with the name of a test process. All its children inherit it.
WORKER = "PYTEST_XDIST_WORKER"


def kernel_processes() -> list[psutil.Process]:
    """The kernel processes of this clone and test process: kernels, launchers and supervisors."""
    modules = ("launcher", "supervisor", "prewarm")
    carers = tuple(f"wearable_jupyter.kernel.{module}" for module in modules)
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            ours = command[:1] == [sys.executable] and any(part in carers for part in command)
            environment = process.environ()
            ours = ours or environment.get("EVCXR_TMPDIR", "").startswith(str(paths.KERNELS))
            if ours and environment.get(WORKER) == os.environ.get(WORKER):
                found.append(process)
        except psutil.Error:
            continue
    return found


def is_of_others(directory: Path) -> bool:
    """Whether another test process owns a kernel's directory."""
    try:
        owner = psutil.Process(int(directory.name.split("-")[0]))
        return owner.environ().get(WORKER) != os.environ.get(WORKER)
    except (ValueError, psutil.Error):
        return False
