"""A fallback kernel that reports in each cell why the real kernel could not start.

After the exit of a kernel, Jupyter shows only "Kernel died"; the reason is in a terminal that the
user may not see. This kernel replies to each cell with the reason and the command that fixes it.
After that command, Kernel > Restart Kernel starts the real kernel.
"""

import os
import sys
from typing import Any

from ipykernel.kernelapp import IPKernelApp
from ipykernel.kernelbase import Kernel

REASON = "WEARABLE_KERNEL_ERROR"


class ErrorKernel(Kernel):
    """Fails every cell with the reason from the environment."""

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
    """Run the fallback kernel until it is shut down."""
    os.environ[REASON] = reason
    sys.argv = [sys.argv[0], "-f", connection_file]
    IPKernelApp.launch_instance(kernel_class=ErrorKernel)
