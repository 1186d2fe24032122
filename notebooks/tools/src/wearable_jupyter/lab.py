"""Open a notebook in JupyterLab: python -m wearable_jupyter.lab CALLER [NOTEBOOK] OPTION…

Without a notebook, the walkthrough opens. CALLER is the directory to which the notebook's path is
relative. The options are JupyterLab's. A separate module, because it starts faster with few
imports.
"""

import os
import sys
from pathlib import Path
from urllib.parse import quote

from .kernel import prewarmed, spec
from .kernel.template import prepare
from .setup import entry_point, paths
from .setup.errors import UserError

WALKTHROUGH = paths.NOTEBOOKS / "02a_lazy_join.ipynb"

# Names that the file browser does not list: the project's own next to the notebooks, and those that
# Jupyter hides by default. A file with such a name still opens by its path.
HIDDEN = ("tools", "expected", "__pycache__", "*.pyc", "*.pyo", ".DS_Store", "*~")
# Other names of the option `--ServerApp.root_dir`.
ROOT_ALIASES = {"--notebook-dir", "--ServerApp.notebook_dir"}


def opened(caller: Path, options: list[str]) -> tuple[Path, list[str]]:
    """The notebook to open, and the other options. Raises `UserError` for a missing notebook."""
    if not options or options[0].startswith("-"):
        return WALKTHROUGH, options
    path = (caller / options[0]).resolve()
    if not path.is_file():
        raise UserError(
            f"File not found: {path}. `./justw lab NOTEBOOK` opens a notebook, and "
            "`./justw exercises` copies the exercises"
        )
    return path, options[1:]


def without_overridden(settings: list[str], options: list[str]) -> list[str]:
    """The settings that no option sets, because Jupyter rejects two values of one setting."""
    given = {option.partition("=")[0] for option in options}
    if given & ROOT_ALIASES:
        given.add("--ServerApp.root_dir")
    return [setting for setting in settings if setting.partition("=")[0] not in given]


def main(caller: Path, options: list[str]) -> None:
    """Replace this process by JupyterLab's server, and start a prewarmed kernel."""
    notebook, options = opened(caller, options)
    # JupyterLab serves only files below its root.
    root = paths.ROOT if notebook.is_relative_to(paths.ROOT) else notebook.parent
    address = quote(notebook.relative_to(root).as_posix())
    prepare()
    # As a module: the first line of its script contains a path that may have spaces and quotes.
    command = [*paths.PYTHON_MODULE, "jupyterlab"]
    # Jupyter refuses to run as root without this option. Containers often have no other user.
    command += ["--allow-root"] if os.geteuid() == 0 else []
    # The default page, so that the address in the terminal opens the walkthrough too.
    settings = [
        f"--ServerApp.root_dir={root}",
        # Offer only this project's kernel, found by its path and not by JUPYTER_PATH. Otherwise
        # JupyterLab shows a list of kernels if you click before the kernel has started.
        f"--ServerApp.kernel_spec_manager_class={spec.__name__}.ProjectKernelSpecManager",
        "--MultiKernelManager.default_kernel_name=rust",
        f"--LabApp.default_url=/lab/tree/{address}",
        *(f"--ContentsManager.hide_globs={name}" for name in HIDDEN),
    ]
    os.chdir(root)
    command += without_overridden(settings, options) + options
    server = os.getpid()  # exec keeps the process ID
    if prewarmed.enable(server):
        prewarmed.start(server)
    os.execv(command[0], [str(part) for part in command])


if __name__ == "__main__":
    sys.exit(entry_point.exit_code(lambda: main(Path(sys.argv[1]), sys.argv[2:])))
