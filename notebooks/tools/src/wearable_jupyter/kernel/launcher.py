"""Start a Rust kernel for Jupyter.

    python -m wearable_jupyter.kernel.launcher CONNECTION_FILE

`kernelspec/kernel.json` names this module, so Jupyter treats this process as the kernel: it waits
for its end, and kills it. evcxr itself runs next to it under a supervisor (`supervisor.py`). The
launcher takes the prewarmed kernel (`prewarmed.py`) if there is one; otherwise it starts a new one
in a directory of its own (`directories.py`).
"""

import os
import signal
import sys

from ..bootstrap import command_environment
from ..setup import toolchain
from ..setup.errors import UserError
from . import directories, prewarmed, supervisor
from .handoff import Handoff


def main(connection_file: str) -> None:
    # If Jupyter has ended already, this process has another parent.
    jupyter = int(os.environ.get("JPY_PARENT_PID") or os.getppid())
    handoff = Handoff(os.getpid(), jupyter, connection_file)
    command_environment.use_user_environment()
    toolchain.find_rust()  # an editor may lack the PATH of the shell
    try:
        directories.prepare()
        supervisor_pid = prewarmed.take(handoff) or supervisor.start(directories.create(), handoff)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        start_error_kernel(connection_file, str(error))
        return

    # Jupyter interrupts evcxr by a message, so this process ignores the signal.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    supervisor.wait_for_end(supervisor_pid)
    # The supervisor ends this process, unless evcxr did not start or the supervisor was killed.
    if (reason := directories.pop_start_error(os.getpid())) is not None:
        start_error_kernel(connection_file, reason)
        return
    for directory in (*directories.owned_by(os.getpid()), *directories.owned_by(supervisor_pid)):
        directories.remove(directory)
    sys.exit("error: The kernel's supervisor was killed. Restart the kernel")


def start_error_kernel(connection_file: str, reason: str) -> None:
    """Replace this kernel by one that reports the reason in each cell."""
    from . import error_kernel  # rarely needed, and it loads IPython

    error_kernel.start(connection_file, reason)


if __name__ == "__main__":
    main(sys.argv[1])
