"""The kernel for Jupyters other than the project's own: a kernelspec in the user's folder.

The project's own kernelspec names `python`, which Jupyter replaces by the interpreter that it runs
on. Another Jupyter's would not have this package. So this one names whole paths.
"""

import json
import tempfile
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager

from ..setup import paths
from ..setup.errors import UserError
from .template import prepare

NAME = "rust-wearable"
SPEC = {
    "argv": [*paths.PYTHON_MODULE, f"{__package__}.launcher", "{connection_file}"],
    "display_name": "Rust (wearable_demo)",
    "language": "rust",
    "interrupt_mode": "message",
}


def install(remove: bool = False) -> None:
    """Install the kernel for the user, or take it away."""
    specs = KernelSpecManager()
    if remove:
        try:
            print(f"Removed {specs.remove_kernel_spec(NAME)}")
        except KeyError:
            print("The kernel is not installed for you; there is nothing to remove")
        except OSError as error:
            raise UserError(f"{error.filename} could not be removed: {error.strerror}") from error
        return
    prepare()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "kernel.json").write_text(json.dumps(SPEC, indent=2) + "\n")
        try:
            installed = specs.install_kernel_spec(folder, NAME, user=True)
        except OSError as error:
            raise UserError(f"{error.filename} could not be written: {error.strerror}") from error
    print(
        f"Installed as {SPEC['display_name']!r} in {installed}\n"
        f"It runs from this clone, {paths.ROOT}, which must stay. "
        "Take it away with: ./justw install-kernel --remove"
    )
