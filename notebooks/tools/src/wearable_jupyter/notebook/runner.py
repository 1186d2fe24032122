"""Run a notebook headless, and fail on everything that a reader would call a failure.

nbclient does the running, and fails at a cell that the kernel says has failed. Besides, a cell
fails here if

- it takes longer than its limit, or the kernel dies;
- it does not show what it is tagged to show: `shows-table`, `shows-chart`, `shows-picture`,
  `shows-text`, `shows-source`;
- it is tagged to fail (`raises-exception`, Jupyter's own tag) and does not.
"""

import atexit
import os
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from ..kernel import directories
from .normal_form import KERNELSPEC
from .promises import FAILS, fault
from .reading import read

STARTUP_SECONDS = 120
CELL_SECONDS = 300


class CellFailed(CellControlSignal):
    """A cell failed; `str()` is the reason, for a terminal, and `index` the cell's, if known."""

    def __init__(self, reason: str, index: int | None = None) -> None:
        super().__init__(reason)
        self.index = index


@dataclass
class Result:
    """How a notebook's run went.

    `timings` has the wall time in seconds of every code cell that was started, by its index among
    all cells; `failures` says why cells failed, by the same index, or why the kernel did, by None.
    """

    notebook: Path
    cells: int = 0
    seconds: float = 0.0
    timings: dict[int, float] = field(default_factory=dict)
    failures: dict[int | None, str] = field(default_factory=dict)
    executed: NotebookNode | None = field(default=None, repr=False)

    @property
    def failure(self) -> str | None:
        """All that failed, None if nothing did."""
        return "\n\n".join(self.failures.values()) or None


class StrictClient(NotebookClient):
    """nbclient, with the rules above."""

    def __init__(
        self, nb: NotebookNode, progress: Callable[[str], None] = lambda cell: None, **options
    ) -> None:
        options.setdefault("kernel_name", KERNELSPEC["name"])
        super().__init__(nb, coalesce_streams=True, **options)
        self.seconds: dict[int, float] = {}
        self.group: int | None = None
        self.progress = progress
        self.on_cell_execute = self._started
        self.on_cell_executed = self._ended

    def _started(self, cell: NotebookNode, cell_index: int) -> None:
        self.group = self.km.provisioner.pgid
        self.progress(f"cell {cell_index + 1} of {len(self.nb.cells)}, {cell.id}")
        self.seconds[cell_index] = -time.monotonic()

    def _ended(self, cell: NotebookNode, cell_index: int, execute_reply: dict) -> None:
        self.seconds[cell_index] += time.monotonic()

    async def _check_raise_for_error(
        self, cell: NotebookNode, cell_index: int, exec_reply: dict | None
    ) -> None:
        reason, reply = fault(cell), exec_reply["content"] if exec_reply else {"status": "ok"}
        if (
            reason is None
            and reply["status"] == "error"
            and FAILS not in cell.metadata.get("tags", [])
        ):
            reason = reply["evalue"]
        if reason is not None:
            raise CellFailed(reason)

    async def async_execute_cell(self, cell, cell_index, *args, **options):
        try:
            return await super().async_execute_cell(cell, cell_index, *args, **options)
        except CellTimeoutError:
            limit = self._get_timeout(cell)
            reason = f"it ran longer than its limit of {limit} s"
        except DeadKernelError:
            reason = "the kernel died"
        except CellFailed as failed:
            reason = str(failed)
        if self.seconds[cell_index] < 0:
            self.seconds[cell_index] += time.monotonic()
        raise CellFailed(describe(self.nb, cell_index, reason), cell_index)


def describe(notebook: NotebookNode, index: int, reason: str) -> str:
    """Which cell, by number and id, its first line, and why."""
    source = notebook.cells[index].source.strip().splitlines()
    first = next((line for line in source if not line.startswith("//")), "")
    return f"cell {index + 1} ({notebook.cells[index].id}): {first}\n{reason}"


def run(
    path: Path,
    *,
    working_directory: Path | None = None,
    cell_seconds: int = CELL_SECONDS,
    environment: dict[str, str] | None = None,
    progress: Callable[[str], None] = lambda cell: None,
) -> Result:
    """Execute the notebook at `path` from its first cell, and say how it went.

    `working_directory` is the kernel's, the notebook's own if None; `environment` is set for the
    kernel besides this process's; `progress` is told of every cell that starts. The kernel and
    everything it started are gone when this returns. Raises `Problem` for what is no notebook.
    """
    notebook = read(path)
    result = Result(path, executed=notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            result.cells += 1
    client = StrictClient(
        notebook,
        progress,
        timeout_func=lambda cell: cell.metadata.get("limit_seconds", cell_seconds),
        startup_timeout=STARTUP_SECONDS,
        resources={"metadata": {"path": str(working_directory or path.parent)}},
        shutdown_kernel="immediate",
    )
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as log:
        try:
            client.execute(stdout=log, stderr=log, env=os.environ | (environment or {}))
        except CellFailed as failed:
            result.failures[failed.index] = str(failed)
        except DeadKernelError:
            result.failures[None] = "the kernel died after the last cell"
        except RuntimeError as error:  # from jupyter_client: there is no kernel to speak of
            log.seek(0)
            reason = log.read().strip() or error
            result.failures[None] = f"the kernel did not start: {reason}"
        finally:
            atexit.unregister(client._cleanup_kernel)
            end_group(client.group)
    result.seconds = time.monotonic() - start
    result.timings = client.seconds
    return result


def is_current(path: Path, executed: Path, newest_source: float) -> bool:
    """Whether `executed` is the notebook at `path` as it is now, run to its end without a fault.

    `newest_source` is the time, as in `stat`, of the last change to what a kernel is made of.
    """
    if not executed.is_file() or executed.stat().st_mtime < newest_source:
        return False
    cells, copies = read(path).cells, read(executed).cells
    return [(c.id, c.source) for c in cells] == [(c.id, c.source) for c in copies] and all(
        cell.execution_count and fault(cell) is None
        for cell in copies
        if cell.cell_type == "code" and cell.source.strip()
    )


def end_group(group: int | None) -> None:
    """End what is left of a kernel's process group, and wait until all of the kernel is gone."""
    deadline = time.monotonic() + 10
    while group is not None and time.monotonic() < deadline:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            # The kernel's companion has seen it, and removes the rest.
            if not directories.of(group):
                return
        # A dead kernel stays in its group until its exit status is taken.
        with suppress(ChildProcessError):
            os.waitpid(-group, os.WNOHANG)
        time.sleep(0.01)
