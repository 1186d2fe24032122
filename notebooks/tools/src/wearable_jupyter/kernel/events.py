"""What happens to a cell, told by the programs that compile and run it.

They write into a pipe, events of fields (`evcxr_shim` says which). A pipe takes them also where
the disk is full, and what has been written into it before evcxr replies can be read then.
"""

import os
import secrets
from pathlib import Path

FIELD, RECORD = "\x1f", "\x1e"
NAME = "events"


class Events:
    """The reading end, and the mark by which a cell says where its output ends."""

    def __init__(self, directory: Path) -> None:
        path = directory / NAME
        os.mkfifo(path, mode=0o600)
        # For writing, too: so there is always a reader, and never an end.
        self.pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self.mark = f"\x02{secrets.token_hex(8)}:"
        self.environment = {
            "KERNEL_DIRECTORY": str(directory),
            "KERNEL_MARK": self.mark,
            # evcxr sets RUST_BACKTRACE itself; the first cell sets it as the user had it.
            "KERNEL_BACKTRACE": os.environ.get("RUST_BACKTRACE", ""),
        }
        self._half = b""

    def read(self) -> list[list[str]]:
        """The events that have been told since the last call, each as its fields."""
        received = [self._half]
        try:
            while data := os.read(self.pipe, 1 << 16):
                received.append(data)
        except BlockingIOError:
            pass
        *whole, self._half = b"".join(received).split(RECORD.encode())
        return [event.decode(errors="replace").split(FIELD) for event in whole]
