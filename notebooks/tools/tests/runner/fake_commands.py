"""The commands with the fake kernel: python fake_commands.py OUTPUTS COMMAND ARGUMENT…

Skips setup, writes no data, and uses no file of the clone's `target/`.
"""

import sys
from pathlib import Path

import own_address
from jupyter_client.kernelspec import KernelSpec

from wearable_jupyter.setup import entry_point, paths

paths.OUTPUTS = Path(sys.argv.pop(1))
paths.TARGET = paths.OUTPUTS.with_name("target")
own_address.use()


def main() -> int | None:
    from wearable_jupyter import command_line
    from wearable_jupyter.kernel import spec
    from wearable_jupyter.runner import commands

    fake = str(Path(__file__).with_name("fake_kernel.py"))
    argv = [sys.executable, fake, "full", "-f", "{connection_file}"]
    spec.project_kernelspec = lambda: KernelSpec(argv=argv, language="rust", name="rust")
    commands.prepare = commands.dataset.ensure = lambda: None
    return command_line.main()


if __name__ == "__main__":
    sys.exit(entry_point.exit_code(main))
