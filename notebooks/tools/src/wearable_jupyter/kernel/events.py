"""Events of a cell, from the programs that compile and run it.

They write events into a named pipe (`evcxr_shim` defines them). A pipe works even if the disk is
full. Events that were written before evcxr's reply can be read when the reply arrives.
"""

import os
import secrets
from pathlib import Path

FIELD, RECORD = "\x1f", "\x1e"
NAME, MARKER = "events", "marker"


class Events:
    """The reading end of the pipe, and the marker that ends a cell's output."""

    def __init__(self, directory: Path) -> None:
        path = directory / NAME
        os.mkfifo(path, mode=0o600)
        # Open for writing too, so that the pipe never reaches its end.
        self.pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self.marker = f"\x02{secrets.token_hex(8)}:"
        (directory / MARKER).write_text(self.marker)
        self.environment = {
            "EVCXR_SHIM_DIRECTORY": str(directory),
            # evcxr sets RUST_BACKTRACE itself; the first cell restores the user's value.
            "EVCXR_SHIM_BACKTRACE": os.environ.get("RUST_BACKTRACE", ""),
        }
        self._partial = b""

    def read(self) -> list[list[str]]:
        """The events since the last call, each as a list of fields."""
        received = [self._partial]
        try:
            while data := os.read(self.pipe, 1 << 16):
                received.append(data)
        except BlockingIOError:
            pass
        *complete, self._partial = b"".join(received).split(RECORD.encode())
        return [event.decode(errors="replace").split(FIELD) for event in complete]
