"""Start kernels as Jupyter does, but give a restarted one ports of its own.

Jupyter restarts a kernel on the ports of the one before. Sockets that still belong to that one then
connect to the new kernel and go away again, and evcxr ends when a socket breaks while it sends: the
restarted kernel died, about every second time. On other ports nobody disturbs it. Only JupyterLab's
server looks for changed ports after a restart, so other clients keep theirs.
"""

from typing import Any

from jupyter_client.provisioning import LocalProvisioner
from jupyter_server.services.kernels.kernelmanager import ServerKernelManager


class FreshPorts(LocalProvisioner):
    """Jupyter's local provisioner; a restart gets new ports and a new connection file."""

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        manager = self.parent
        if self.ports_cached and isinstance(manager, ServerKernelManager):
            # The old ports stay in Jupyter's list of those in use, so the new ones are others.
            self.ports_cached = False
            manager.cleanup_connection_file()
        return await super().pre_launch(**kwargs)
