"""A kernel that runs Python and reports cells like this project's kernel, or not at all.

    python fake_kernel.py REPORT -f CONNECTION_FILE

It starts in half a second, for tests of the runner. REPORT is `full`, or `none` like a stock
kernel. A cell can choose its report: if it sets the variable `report`, its value becomes the
reply's metadata.
"""

import sys

from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp


class FakeKernel(IPythonKernel):
    reports = True

    def finish_metadata(self, parent, metadata, reply_content):
        metadata = super().finish_metadata(parent, metadata, reply_content)
        if self.reports:
            ended = "ok" if reply_content["status"] == "ok" else "failed"
            cell = {"code": True, "began": True, "ended": ended}
            metadata["cell"] = self.shell.user_ns.pop("report", cell)
        metadata["phases"] = {}
        return metadata


if __name__ == "__main__":
    FakeKernel.reports = sys.argv.pop(1) == "full"
    # Text that a cell writes to file descriptor 2 appears in the log.
    IPKernelApp.capture_fd_output = False
    IPKernelApp.launch_instance(kernel_class=FakeKernel)
