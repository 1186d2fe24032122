"""Finds this project's kernelspec by its path.

Another kernel named `rust`, on `JUPYTER_PATH` or in the user's folder, is ignored. Clients that
select kernels by name, such as papermill, are not affected.
"""

from typing import Any

from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel
from jupyter_client.manager import KernelManager

from ..bootstrap.command_environment import user_environment
from ..setup import paths

NAME = "rust"
# The time limit for a kernel's first reply.
STARTUP_SECONDS = 120
FOLDER = paths.NOTEBOOKS / "tools" / "kernelspec"


def project_kernelspec() -> KernelSpec:
    """The kernelspec in `notebooks/tools/kernelspec/`."""
    spec = KernelSpec.from_resource_dir(str(FOLDER))
    # Jupyter would otherwise read the provisioner's name from JUPYTER_DEFAULT_PROVISIONER_NAME.
    spec.metadata = spec.metadata | {
        "kernel_provisioner": {"provisioner_name": "local-provisioner"}
    }
    return spec


class ProjectKernelSpecManager(KernelSpecManager):
    """Finds exactly one kernel: this project's.

    For JupyterLab: `--ServerApp.kernel_spec_manager_class=` and this class's full name.
    """

    def find_kernel_specs(self) -> dict[str, str]:
        return {NAME: str(FOLDER)}

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        if kernel_name != NAME:
            raise NoSuchKernel(kernel_name)
        return project_kernelspec()

    def get_all_specs(self) -> dict[str, Any]:
        spec = project_kernelspec()
        return {NAME: {"resource_dir": spec.resource_dir, "spec": spec.to_dict()}}


def start_kernel(**options: Any) -> tuple[KernelManager, BlockingKernelClient]:
    """Start this project's kernel, and return it with a client when it is ready."""
    manager = KernelManager(kernel_name=NAME, kernel_spec_manager=ProjectKernelSpecManager())
    manager.start_kernel(**{"env": user_environment()} | options)
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=STARTUP_SECONDS)
    except RuntimeError:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        raise
    return manager, client
