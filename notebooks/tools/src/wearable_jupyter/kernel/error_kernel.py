"""A kernel that runs nothing and says why: what a notebook gets when ours cannot start.

A kernel that just exits leaves a reader with "Kernel died", and the reason in a terminal that may
not be in sight. This one answers every cell with the reason and the command that mends it; after
that command, Kernel > Restart starts the real one.
"""

import os
import sys
from typing import Any

from ipykernel.kernelapp import IPKernelApp
from ipykernel.kernelbase import Kernel

REASON = "WEARABLE_KERNEL_ERROR"


class ErrorKernel(Kernel):
    """Fails every cell with the reason in the environment."""

    implementation = "wearable_jupyter"
    implementation_version = "0"
    language_info = {"name": "Rust", "mimetype": "text/rust", "file_extension": ".rs"}  # noqa: RUF012
    banner = "The Rust kernel could not start."

    async def do_execute(self, code: str, silent: bool, *_: Any, **__: Any) -> dict[str, Any]:
        reason = os.environ.get(REASON, self.banner)
        content = {
            "ename": "The Rust kernel could not start",
            "evalue": reason,
            "traceback": [
                f"The Rust kernel could not start: {reason}",
                "Then restart the kernel (Kernel > Restart Kernel).",
            ],
        }
        if not silent:
            self.send_response(self.iopub_socket, "error", content)
        return content | {"status": "error", "execution_count": self.execution_count}


def start(connection_file: str, reason: str) -> None:
    """Become that kernel; does not return before it is shut down."""
    os.environ[REASON] = reason
    sys.argv = [sys.argv[0], "-f", connection_file]
    IPKernelApp.launch_instance(kernel_class=ErrorKernel)
