"""Run a notebook headless, and fail on everything that a reader would call a failure.

nbclient does the running. It trusts the kernel's reply, and evcxr replies "ok" to a cell that
failed by `?`, panicked or exited; then only stderr, or an error message beside the reply, tells. So
here a cell fails if

- the reply is an error: it did not compile, or its process ended;
- it shows an error, whatever the reply;
- it writes to stderr (a cell tagged `stderr` may);
- it takes longer than its limit, or the kernel dies;
- it does not show what it is tagged to show: `shows-table`, `shows-chart`, `shows-text`,
  `shows-source`.
"""

import atexit
import os
import re
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty

import nbformat
from jupyter_client.utils import ensure_async
from nbclient import NotebookClient
from nbclient.exceptions import (
    CellControlSignal,
    CellExecutionComplete,
    CellTimeoutError,
    DeadKernelError,
)
from nbformat import NotebookNode

from . import directories
from .charts import MIME as CHART

# Stderr travels beside the reply. This long after a cell is done, what came is taken as its own;
# what comes later still is caught by the next cell or, at the end, by `_flush`.
QUIET_SECONDS = 0.03
FLUSH_SECONDS = 60
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


def plain(text: str) -> str:
    """`text` without a terminal's colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def outputs(cell: NotebookNode, mime: str) -> list:
    """What the cell shows in `mime`."""
    return [o.data[mime] for o in cell.outputs if "data" in o and mime in o.data]


def stream(cell: NotebookNode, name: str) -> str:
    """What the cell printed to stdout or stderr."""
    return "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == name)


PROMISES = {
    "shows-table": lambda cell: any("<table" in html for html in outputs(cell, "text/html")),
    "shows-chart": lambda cell: any(chart.get("data") for chart in outputs(cell, CHART)),
    "shows-source": lambda cell: any("```rust" in text for text in outputs(cell, "text/markdown")),
    "shows-text": lambda cell: bool(
        stream(cell, "stdout").strip() or "".join(outputs(cell, "text/plain")).strip()
    ),
}


def fault(cell: NotebookNode) -> str | None:
    """Why an executed cell counts as failed, or None."""
    tags = cell.metadata.get("tags", [])
    errors = [o for o in cell.outputs if o.output_type == "error"]
    if errors:
        return "\n".join(plain("\n".join(e.traceback) or f"{e.ename}: {e.evalue}") for e in errors)
    if "stderr" not in tags and (text := stream(cell, "stderr")):
        return on_stderr(plain(text).rstrip())
    for tag in tags:
        if tag.startswith("shows-") and tag not in PROMISES:
            return f"its tag {tag} is none of {', '.join(PROMISES)}"
        if tag in PROMISES and not PROMISES[tag](cell):
            shown = [m for o in cell.outputs for m in o.get("data", {o.output_type: None})]
            return f"it promises an output ({tag}) and does not show it; it shows: " + (
                ", ".join(shown) or "nothing"
            )
    return None


def on_stderr(text: str) -> str:
    """What stderr says of a cell: evcxr has panics and errors by `?` there, and nowhere else."""
    if not text:
        return "it wrote an empty line to stderr"
    if re.search(r"^thread .* panicked at ", text, re.MULTILINE):
        return f"it panicked:\n{text}"
    return f"it failed by `?`, or wrote to stderr:\n{text}"


class StrictClient(NotebookClient):
    """nbclient, with the rules above."""

    def __init__(
        self, nb: NotebookNode, progress: Callable[[str], None] = lambda cell: None, **options
    ) -> None:
        super().__init__(nb, coalesce_streams=True, iopub_timeout=FLUSH_SECONDS, **options)
        self._cells: dict[str, tuple[NotebookNode, int]] = {}
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

    async def _async_poll_output_msg(
        self, parent_msg_id: str, cell: NotebookNode, cell_index: int
    ) -> None:
        """Collect the cell's output until it is done and quiet, and late output of others."""
        self._cells[parent_msg_id] = (cell, cell_index)
        done = False
        while True:
            timeout = QUIET_SECONDS if done else None
            try:
                message = await ensure_async(self.kc.iopub_channel.get_msg(timeout=timeout))
            except Empty:
                return
            owner = self._cells.get(message["parent_header"].get("msg_id"))
            if owner is None:
                continue
            try:
                self.process_message(message, *owner)
            except CellExecutionComplete:
                done = done or owner[1] == cell_index

    async def _check_raise_for_error(
        self, cell: NotebookNode, cell_index: int, exec_reply: dict | None
    ) -> None:
        reason = fault(cell)
        if reason is None and exec_reply and exec_reply["content"]["status"] != "ok":
            reason = "the kernel replied with an error and no message"
        if reason is not None:
            raise CellFailed(reason)

    async def async_execute_cell(self, cell, cell_index, *args, **options):
        try:
            result = await super().async_execute_cell(cell, cell_index, *args, **options)
            if cell_index == self._last_code_cell():
                await self._flush(cell)
            return result
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

    def _last_code_cell(self) -> int:
        code = (
            i for i, c in enumerate(self.nb.cells) if c.cell_type == "code" and c.source.strip()
        )
        return max(code, default=-1)

    async def _flush(self, last: NotebookNode) -> None:
        """Print a line to stderr and wait for it: what was written before it has arrived then."""
        mark = f"all of stderr until {time.time_ns()}"
        self.kc.execute(f'eprintln!("{mark}");', store_history=False)
        deadline, late = time.monotonic() + FLUSH_SECONDS, ""
        while mark not in late:
            left = deadline - time.monotonic()
            try:
                message = await ensure_async(self.kc.iopub_channel.get_msg(timeout=max(left, 0)))
            except Empty:
                raise CellFailed("the kernel did not answer after the last cell") from None
            if message["msg_type"] == "error":
                raise CellFailed(plain("\n".join(message["content"]["traceback"])))
            if message["msg_type"] == "stream" and message["content"]["name"] == "stderr":
                late += message["content"]["text"]
        late = late.replace(f"{mark}\n", "")
        if late:
            last.outputs.append(nbformat.v4.new_output("stream", name="stderr", text=late))
            if (reason := fault(last)) is not None:
                raise CellFailed(reason)


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
    everything it started are gone when this returns.
    """
    notebook = nbformat.read(path, as_version=4)
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
    cells = nbformat.read(path, as_version=4).cells
    copies = nbformat.read(executed, as_version=4).cells
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
