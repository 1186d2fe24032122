"""A kernel that runs Python and reports cells as this project's kernel does, or not at all.

    python fake_kernel.py REPORT -f CONNECTION_FILE

It starts in half a second, and serves to test the runner. REPORT is `full`, or `none` as a stock
kernel has it. A cell may choose its report: the value of the variable `report`, if it sets one, is
put into the reply's metadata.
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
    # What a cell writes to the file descriptor 2 is in the log.
    IPKernelApp.capture_fd_output = False
    IPKernelApp.launch_instance(kernel_class=FakeKernel)
