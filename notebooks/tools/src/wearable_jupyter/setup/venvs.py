"""Virtual environments next to `.venv`, for packages that conflict with those in it."""

import subprocess
from pathlib import Path

from ..bootstrap.command_environment import tool_environment
from ..bootstrap.venv import PYTHON, TOOLS, package_cache, wheel_options
from . import errors, paths


def ensure_venv(name: str, lock: Path) -> Path:
    """Create the virtual environment `target/NAME` from a lock file; the path of its `bin`."""
    folder = paths.TARGET / name
    stamp = folder / "installed"
    if not stamp.is_file() or stamp.read_text() != lock.read_text():
        uv = PYTHON.with_name("uv")
        locked = ("--require-hashes", lock, *wheel_options(lock))
        variables = tool_environment() | {"UV_CACHE_DIR": package_cache("uv")}
        for command in (
            ("venv", "--clear", "--quiet", "--python", PYTHON, folder),
            ("pip", "sync", "--quiet", "--python", folder, *locked),
        ):
            result = subprocess.run([uv, *command], cwd=TOOLS, env=variables, umask=0o022)
            if result.returncode != 0:
                raise errors.UserError(
                    f"The packages of {lock.name} could not be installed; see above. "
                    "Check the network, then try again"
                )
        stamp.write_text(lock.read_text())
    return folder / "bin"
