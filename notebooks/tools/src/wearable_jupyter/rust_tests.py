"""Runs the Rust tests with a time limit for each; a hanging test is reported and killed."""

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from .bootstrap import platform
from .setup import paths, toolchain
from .setup.errors import UserError

# Seconds. The slowest test takes about one minute.
LIMIT = 600

SLOW = re.compile(r"^test (\S+) has been running for over \d+ seconds")
ENDED = re.compile(r"^test (\S+) \.\.\. ")


def run() -> None:
    """Run the tests of the workspace. Raises `UserError` if one fails or takes too long."""
    run_with_limit(["cargo", "test", "--workspace", "--locked", "--no-fail-fast"], LIMIT)


def run_with_limit(command: Sequence[str], limit: float) -> None:
    """Run `cargo test` and print its output; kill it after `limit` seconds without output.

    Each finished test prints a line, so at least one test has run for `limit` seconds by then.
    """
    process = subprocess.Popen(
        command,
        cwd=paths.ROOT,
        env=toolchain.cargo_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    running: dict[str, None] = {}
    line = b""
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            deadline = time.monotonic() + limit
            while True:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise UserError(too_long(list(running), limit))
                output = os.read(process.stdout.fileno(), 1 << 16)
                if not output:
                    break
                sys.stdout.buffer.write(output)
                sys.stdout.buffer.flush()
                *lines, line = (line + output).split(b"\n")
                for text in lines:
                    update_running(text.decode(errors="replace"), running)
                deadline = time.monotonic() + limit
        if process.wait() != 0:
            raise UserError(f"`{' '.join(command)}` failed; see above")
    finally:
        # Tests and their children are in cargo's process group.
        platform.signal_group(process.pid, signal.SIGKILL)
        process.stdout.close()
        process.wait()


def update_running(line: str, running: dict[str, None]) -> None:
    """Update the slow tests that still run from one line of a test program's output."""
    if slow := SLOW.match(line):
        running[slow[1]] = None
    elif ended := ENDED.match(line):
        running.pop(ended[1], None)


def too_long(running: Sequence[str], limit: float) -> str:
    """The message for tests that exceeded the limit."""
    names = ", ".join(running) or "the program in the last line above that begins with Running"
    return (
        f"No Rust test finished within {limit:.0f} s, so all were killed. "
        f"Still running: {names}.\nRun that test alone: cargo test NAME"
    )
