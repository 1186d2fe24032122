"""Installs a kernelspec for the user's other Jupyter installations, such as VS Code's.

The project's own kernelspec names `python`, which Jupyter replaces by its own interpreter. In
another installation, that interpreter lacks this package, so this kernelspec has absolute paths.
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
    """Install the kernel for the user, or remove it."""
    specs = KernelSpecManager()
    if remove:
        try:
            print(f"Removed {specs.remove_kernel_spec(NAME)}")
        except KeyError:
            print("The kernel is not installed, so there is nothing to remove")
        except OSError as error:
            raise UserError(
                f"{error.filename} could not be removed: {error.strerror}. Delete it yourself"
            ) from error
        return
    prepare()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "kernel.json").write_text(json.dumps(SPEC, indent=2) + "\n")
        try:
            installed = specs.install_kernel_spec(folder, NAME, user=True)
        except OSError as error:
            raise UserError(
                f"{error.filename} could not be written: {error.strerror}. "
                "Change its permissions or set JUPYTER_DATA_DIR"
            ) from error
    print(
        f"Installed as {SPEC['display_name']!r} in {installed}\n"
        f"The kernel needs this clone, {paths.ROOT}: do not move or delete it. "
        "Uninstall the kernel with: ./justw install-kernel --remove"
    )
