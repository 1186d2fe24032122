"""Runs a notebook headless and strictly.

nbclient runs the cells. A cell with Rust code fails if its report in the kernel's reply lacks a
begin, or an end without error (`kernel/execution.py`). A cell without Rust code has nothing to
report. A cell also fails if

- it exceeds its time limit or `OUTPUT_LIMIT`, or the kernel dies;
- an output is missing that a tag requires: `shows-table`, `shows-chart`, `shows-picture`
  or `shows-text`;
- it has Jupyter's tag `raises-exception`, but passes. Such a cell must fail.

A cell with Jupyter's tag `skip-execution` is not run, and is reported as skipped.
"""

import asyncio
import json
import math
import os
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, CellExecutionComplete, DeadKernelError
from nbformat import NotebookNode

from ..bootstrap.command_environment import user_environment
from ..kernel import directories, spec
from ..setup import paths, signals
from ..setup.errors import UserError
from .load import read
from .output_tags import RAISES_EXCEPTION, SKIP_EXECUTION, fault
from .streams import merged

CELL_SECONDS = 300
# The maximum number of characters that a cell may print or show, so that it cannot fill the memory.
OUTPUT_LIMIT = 100_000_000
# The number of lines from the end of the kernel's log in a message.
LOG_LINES = 5

NO_REPORT = (
    "The reply has no cell report, so another kernel than the project's ran the notebook. Run: "
    "./justw doctor"
)


class CellFailed(CellControlSignal):
    """A cell failed. `str()` is the reason; `index` is the cell's, or None."""

    def __init__(self, reason: str, index: int | None = None) -> None:
        super().__init__(reason)
        self.index = index


@dataclass
class Result:
    """The result of a notebook's run.

    `timings` has the wall time in seconds of each started code cell, by its index among all cells.
    `failures` has the reasons of failed cells by the same index, and of the kernel by None.
    `skipped` has the indexes of skipped cells.
    """

    notebook: Path
    cells: int = 0
    seconds: float = 0.0
    timings: dict[int, float] = field(default_factory=dict)
    failures: dict[int | None, str] = field(default_factory=dict)
    executed: NotebookNode | None = field(default=None, repr=False)
    skipped: list[int] = field(default_factory=list)

    @property
    def failure(self) -> str | None:
        """All failures as text, or None."""
        return "\n\n".join(self.failures.values()) or None


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def has_report(reply: dict[str, Any]) -> bool:
    """Whether an execute_reply has a report of the cell that agrees with the reply's status."""
    cell = reply.get("metadata", {}).get("cell")
    if not isinstance(cell, dict) or reply["content"].get("status") not in ("ok", "error"):
        return False
    if reply["content"]["status"] == "error":
        return True
    # A cell without Rust code has nothing to report.
    return cell.get("code") is False or (cell.get("began") is True and cell.get("ended") == "ok")


def failure_reason(cell: NotebookNode, reply: dict[str, Any] | None) -> str | None:
    """Why a cell failed, from its outputs, its tags and the reply, or None."""
    content = reply["content"] if reply else {}
    failed = content.get("status") == "error"
    if failed and RAISES_EXCEPTION not in tags(cell):
        return fault(cell) or content.get("evalue") or content.get("ename") or "it failed"
    if reply is None or not has_report(reply):
        shown = [o for o in cell.outputs if o.output_type == "error"]
        return "\n".join([*(f"{error.ename}: {error.evalue}" for error in shown), NO_REPORT])
    if RAISES_EXCEPTION in tags(cell) and not failed:
        return f"the tag {RAISES_EXCEPTION} requires a failure, but the cell passed"
    return fault(cell)


class StrictClient(NotebookClient):
    """nbclient with the rules above and this project's kernel."""

    def __init__(
        self,
        nb: NotebookNode,
        progress: Callable[[str], None] = lambda cell: None,
        cell_seconds: float = CELL_SECONDS,
        **options: Any,
    ) -> None:
        # This class enforces limits for the whole cell with its output, because nbclient's limits
        # do not fire while messages arrive.
        super().__init__(nb, timeout=None, raise_on_iopub_timeout=True, **options)
        self.iopub_timeout = 10**6
        self.kernel_name = spec.NAME
        self.cell_seconds = cell_seconds
        self.seconds: dict[int, float] = {}
        self.group: int | None = None
        self.progress = progress
        self.on_cell_execute = self._started
        self.on_cell_executed = self._ended
        self.stop = signals.Deferred()
        self.deadline = 0.0
        self.received = 0

    def create_kernel_manager(self) -> AsyncKernelManager:
        self.km = AsyncKernelManager(
            kernel_name=self.kernel_name, kernel_spec_manager=spec.ProjectKernelSpecManager()
        )
        return self.km

    @asynccontextmanager
    async def async_setup_kernel(self, **options: Any):
        """nbclient's method without its signal handlers, which end the kernel but not the run."""
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        self.stop.callback = lambda: loop.call_soon_threadsafe(task.cancel)
        if self.stop.number is not None:
            task.cancel()
        self.create_kernel_manager()
        try:
            async with asyncio.timeout(spec.STARTUP_SECONDS):
                await self.async_start_new_kernel(**options)
                await self.async_start_new_kernel_client()
            yield
        finally:
            if self.km is not None:
                await self._async_cleanup_kernel()
            # nbclient does not end its tasks that poll the kernel.
            left = asyncio.all_tasks() - {task}
            for other in left:
                other.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def async_start_new_kernel(self, **options: Any) -> None:
        options = {"env": variables()} | options
        await super().async_start_new_kernel(**options)
        self.group = self.km.provisioner.pgid

    async def async_wait_for_reply(self, msg_id: str, cell: NotebookNode | None = None):
        async with asyncio.timeout(spec.STARTUP_SECONDS):
            return await super().async_wait_for_reply(msg_id, cell)

    def _started(self, cell: NotebookNode, cell_index: int) -> None:
        self.progress(f"cell {cell_index + 1} of {len(self.nb.cells)}, {cell.id}")
        self.seconds[cell_index] = -time.monotonic()

    def _ended(self, cell: NotebookNode, cell_index: int, execute_reply: dict) -> None:
        self.seconds[cell_index] += time.monotonic()

    async def _check_raise_for_error(
        self, cell: NotebookNode, cell_index: int, exec_reply: dict | None
    ) -> None:
        reason = "" if self._over_limit() else failure_reason(cell, exec_reply)
        if reason is not None:
            raise CellFailed(reason)

    def process_message(self, msg: dict, cell: NotebookNode, cell_index: int):
        content = msg["content"]
        if msg["msg_type"] == "stream":
            self.received += len(content["text"])
        else:
            data = content.get("data", {})
            values = data.values() if isinstance(data, dict) else []
            self.received += sum(len(value) for value in values if isinstance(value, str))
        # The event loop and its time limit do not run while messages are queued. So end the
        # reception here.
        if self.received > OUTPUT_LIMIT:
            self.scope.reschedule(asyncio.get_running_loop().time())
        if self._over_limit():
            raise CellExecutionComplete
        return super().process_message(msg, cell, cell_index)

    def _over_limit(self) -> bool:
        return self.received > OUTPUT_LIMIT or time.monotonic() > self.deadline

    async def async_execute_cell(self, cell, cell_index, *args, **options):
        if not is_executed(cell):
            if cell.cell_type == "code" and (reason := fault(cell)) is not None:
                raise CellFailed(describe(self.nb, cell_index, reason), cell_index)
            return cell
        limit = cell.metadata.get("limit_seconds", self.cell_seconds)
        self.received, self.deadline = 0, time.monotonic() + limit
        try:
            async with asyncio.timeout(limit) as self.scope:
                return await super().async_execute_cell(cell, cell_index, *args, **options)
        except (TimeoutError, DeadKernelError, CellFailed) as error:
            # nbclient turns a cancellation into a DeadKernelError.
            if asyncio.current_task().cancelling():
                raise asyncio.CancelledError from None
            if self.received > OUTPUT_LIMIT:
                reason = f"it printed more than {OUTPUT_LIMIT // 10**6} million characters"
            elif self._over_limit():
                reason = f"it ran longer than its limit of {limit} s"
            elif isinstance(error, DeadKernelError):
                reason = "the kernel died"
            else:
                reason = str(error)
        finally:
            self._merge_streams(cell, cell_index)
        if self.seconds.get(cell_index, 0.0) < 0:
            self.seconds[cell_index] += time.monotonic()
        raise CellFailed(describe(self.nb, cell_index, reason), cell_index)

    def _merge_streams(self, cell: NotebookNode, cell_index: int) -> None:
        cell.outputs, moved = merged(cell.outputs)
        # A later cell may update an output of this one.
        for shown in self._display_id_map.values():
            if cell_index in shown:
                shown[cell_index] = [moved[place] for place in shown[cell_index]]


def variables() -> dict[str, str]:
    """The environment variables of a kernel.

    The kernel does not download a dependency that is not in the lock file, because the notebook
    would pass here and fail without a network.
    """
    return user_environment() | {"WEARABLE_OFFLINE": "1"}


def is_executed(cell: NotebookNode) -> bool:
    """Whether a cell is sent to the kernel."""
    return (
        cell.cell_type == "code" and bool(cell.source.strip()) and SKIP_EXECUTION not in tags(cell)
    )


def describe(notebook: NotebookNode, index: int, reason: str) -> str:
    """A cell's number, id and first line, with the reason of its failure."""
    source = notebook.cells[index].source.strip().splitlines()
    first = next((line for line in source if not line.startswith("//")), "")
    return f"cell {index + 1} ({notebook.cells[index].id}): {first}\n{reason}"


def check_limits(notebook: NotebookNode, path: Path) -> None:
    """Raise `UserError` if a time limit in a cell's metadata is not a number above 0."""
    for number, cell in enumerate(notebook.cells, 1):
        limit = cell.metadata.get("limit_seconds", 1)
        is_number = isinstance(limit, int | float) and not isinstance(limit, bool)
        if not is_number or not 0 < limit < math.inf:
            raise UserError(
                f"{paths.display_path(path)}, cell {number} ({cell.id}): limit_seconds in its "
                f"metadata must be a number of seconds above 0, but it is {json.dumps(limit)}"
            )


def last_lines(log) -> str:
    """The last lines of a kernel's log."""
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return "\n".join(lines[-LOG_LINES:])


def run(
    path: Path,
    *,
    working_directory: Path | None = None,
    cell_seconds: float = CELL_SECONDS,
    environment: dict[str, str] | None = None,
    progress: Callable[[str], None] = lambda cell: None,
) -> Result:
    """Run all cells of the notebook at `path`, and return the result.

    `working_directory` is the kernel's; the default is the notebook's. `environment` is added to
    the kernel's. `progress` is called for each cell that starts. The kernel and its children have
    ended when this returns.

    Raises `UserError` for a file that is not a Rust notebook, and `signals.Stopped` when a signal
    ended the run.
    """
    notebook = read(path)
    result = Result(path, executed=notebook)
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            result.cells += 1
            if SKIP_EXECUTION in tags(cell):
                result.skipped.append(index)
    check_limits(notebook, path)
    client = StrictClient(
        notebook,
        progress,
        cell_seconds,
        startup_timeout=spec.STARTUP_SECONDS,
        resources={"metadata": {"path": str(working_directory or path.parent)}},
        shutdown_kernel="immediate",
    )
    start = time.monotonic()
    with signals.deferred() as client.stop, tempfile.TemporaryFile() as log:
        try:
            client.execute(stdout=log, stderr=log, env=variables() | (environment or {}))
        except CellFailed as failed:
            result.failures[failed.index] = str(failed)
            if "the kernel died" in str(failed) and (log_end := last_lines(log)):
                result.failures[failed.index] += f"; the end of its log:\n{log_end}"
        except DeadKernelError:
            result.failures[None] = "the kernel died after the last cell"
        except (RuntimeError, OSError, TimeoutError) as error:
            reason = last_lines(log) or str(error) or f"no reply in {spec.STARTUP_SECONDS} s"
            result.failures[None] = f"the kernel did not start: {reason}"
        finally:
            end_group(client.group)
    result.seconds = time.monotonic() - start
    result.timings = client.seconds
    if not result.failures and result.skipped and not any(map(is_executed, notebook.cells)):
        result.failures[None] = f"all code cells are tagged {SKIP_EXECUTION}, so no cell was run"
    return result


def end_group(group: int | None) -> None:
    """Kill the rest of a kernel's process group, and wait until its directory is deleted."""
    deadline = time.monotonic() + 10
    while group is not None and time.monotonic() < deadline:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            # The kernel's supervisor deletes the directory.
            if not directories.owned_by(group):
                return
        # A dead kernel stays in its group until its exit status is read.
        with suppress(ChildProcessError):
            os.waitpid(-group, os.WNOHANG)
        time.sleep(0.01)
