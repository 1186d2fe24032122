"""An address for fake kernels, because tests of real kernels use 127.0.0.1 at the same time.

Jupyter chooses free ports, and a kernel binds them later. Two kernels could get the same ports.
"""

from jupyter_client import localinterfaces

from wearable_jupyter.bootstrap import platform


def use(assign=setattr) -> None:
    """Make Jupyter choose ports of another loopback address. `assign` sets a module's variable."""
    known = localinterfaces.local_ips()
    address = platform.loopback_address()
    assign(localinterfaces, "LOCALHOST", address)
    assign(localinterfaces, "LOCAL_IPS", [*known, address])
