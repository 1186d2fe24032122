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
    # Jupyter says who it is: should it be gone already, this process has another parent.
    jupyter = int(os.environ.get("JPY_PARENT_PID") or os.getppid())
    handoff = Handoff(os.getpid(), jupyter, connection_file)
    command_environment.use_user_environment()
    toolchain.find_rust()  # an editor may have been started from a menu
    try:
        directories.prepare()
        supervisor_pid = prewarmed.take(handoff) or supervisor.start(directories.create(), handoff)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        start_error_kernel(connection_file, str(error))
        return

    # To be interrupted is evcxr's business; Jupyter tells it by a message.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    supervisor.wait_for_end(supervisor_pid)
    # It ends this process first, unless evcxr could not start, or it was killed itself.
    if (reason := directories.take_reason(os.getpid())) is not None:
        start_error_kernel(connection_file, reason)
        return
    for directory in (*directories.owned_by(os.getpid()), *directories.owned_by(supervisor_pid)):
        directories.remove(directory)
    sys.exit("error: the process that cares for this kernel is gone")


def start_error_kernel(connection_file: str, reason: str) -> None:
    """Become a kernel that gives the reason in each cell."""
    from . import error_kernel  # only now: it loads IPython

    error_kernel.start(connection_file, reason)


if __name__ == "__main__":
    main(sys.argv[1])
