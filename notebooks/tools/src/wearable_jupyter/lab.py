"""Start JupyterLab on the walkthrough: python -m wearable_jupyter.lab OPTION…

The options are JupyterLab's. A module of its own, so that it loads no more than it needs.
"""

import os
import sys

from .kernel import prewarmed, spec
from .kernel.template import prepare
from .setup import entry_point, paths


def main(options: list[str]) -> None:
    """Become JupyterLab's server, with a spare kernel under way."""
    prepare()
    # Not by its script, in whose first line is a path that may have spaces and quotes.
    command = [*paths.PYTHON_MODULE, "jupyterlab"]
    # Root may only start Jupyter with this said; in a container there often is no other user.
    command += ["--allow-root"] if os.geteuid() == 0 else []
    # As the default page, so that the address in the terminal leads there too.
    command += [
        f"--ServerApp.root_dir={paths.ROOT}",
        # Our kernel by its path, whatever JUPYTER_PATH has by that name, and no other: before the
        # notebook has its kernel, a click opens a list of kernels to choose from.
        f"--ServerApp.kernel_spec_manager_class={spec.__name__}.ProjectKernelSpecManager",
        "--MultiKernelManager.default_kernel_name=rust",
        "--LabApp.default_url=/lab/tree/notebooks/02a_lazy_join.ipynb",
    ]
    os.chdir(paths.ROOT)
    command += options  # last, so that they take precedence
    server = os.getpid()  # from the last line on
    if prewarmed.enable(server):
        prewarmed.start(server)
    os.execv(command[0], [str(part) for part in command])


if __name__ == "__main__":
    sys.exit(entry_point.exit_code(lambda: main(sys.argv[1:])))
