"""Runs one cell at a time, and decides how it ended and what it printed.

evcxr replies "ok" to a cell that failed by `?` or panicked, never aborts the requests queued after
a failed one, sends output after "idle", and counts cells from two. So a request reaches evcxr only
when the previous cell has ended with all its output. evcxr's reply is held until the cell itself
has reported how it ended (`events.py`). A cell with Rust code that did not report its start and its
end has failed, whatever evcxr replies.

Messages from and to evcxr can be lost, and evcxr can hang. So the kernel sends requests of its own
(probes) after a cell, at growing intervals. evcxr replies in order: after its reply to a probe, it
has sent everything about the cell. Then a lost request is sent again, and a lost reply is created
here. An evcxr that no longer runs cells is reported, and the kernel ends.

`Execution` decides, and sends messages with a `MessageSender`, which is the proxy.
"""

import os
import re
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from ..bootstrap.platform import is_alive
from . import cell_code, failure, line_table, processes
from .events import Events
from .failure import Failure
from .messages import SESSION, Message, new_message
from .source_map import Place

# How long to wait for the last output after a cell has ended. If the end marker does not arrive,
# the cell closed the stream or wrote invalid UTF-8. Then the wait ends after some silence.
MARK_SECONDS = 10.0
MARK_SILENCE_SECONDS = 2.0
# The replacement of an ended process compiles a cell before it writes its markers.
FLUSH_SECONDS = 60.0
# Intervals of requests until evcxr's first message, and of probes during a cell.
FIRST_KERNEL_INFO_SECONDS, LAST_KERNEL_INFO_SECONDS = 0.1, 1.0
FIRST_PROBE_SECONDS, LAST_PROBE_SECONDS = 2.0, 60.0
# The interval in which a cell's process is checked.
WATCH_SECONDS = 1.0
# How often the kernel sends a request or a blank cell without a reaction of evcxr.
TRIES = 3
# A polars query ends within this time after an interrupt. After it, a still running cell gets a
# message about a second interrupt.
INTERRUPT_SECONDS = 1.0
STILL_COMPILING = (
    "The cell will end as soon as its compilation can be stopped.\n"
    "Interrupt again to end the kernel; all variables will be lost.\n"
)
STILL_RUNNING = (
    "This cell can't be interrupted safely (only polars queries can).\n"
    "Interrupt again to kill the process; all variables will be lost.\n"
)
STREAMS = ("stdout", "stderr")
# Exists when evcxr has started and its output is read.
READY = "ready"
# The current cell's code.
CELL_CODE = "cell_code.rs"
# The source that evcxr generated from this and from earlier cells.
GENERATED = "generated"
# The end of a cell whose process ended without a report.
GONE = "gone"
# The strict runner sets it: cells go online only by `:offline 0`.
OFFLINE = "WEARABLE_OFFLINE"


class MessageSender(Protocol):
    """Sends messages."""

    def to_evcxr(self, message: Message, **changed: str) -> None: ...
    def reply(self, message: Message) -> None: ...
    def publish(self, message: Message) -> None: ...


class Running:
    """A running cell, with its state so far."""

    def __init__(self, request: Message, count: int, code: cell_code.CellCode) -> None:
        content = request.content
        self.request = request
        self.code: str = request.text("code")
        self.parsed = code
        self.silent = bool(content.get("silent"))
        self.stop_on_error = bool(content.get("stop_on_error", True))
        self.count = count
        # Messages of evcxr, held until the end.
        self.evcxr_reply: Message | None = None
        self.idle: Message | None = None
        self.results: list[Message] = []
        self.errors: list[dict[str, Any]] = []
        # Whether evcxr reacted to the request, and whether its messages are complete.
        self.input_shown = False
        self.acknowledged = self.replies_over = self.publications_over = False
        self.sent = 1
        self.probed: tuple[float, float] | None = None
        # Whether the cell's process has ended, and the time of the next check.
        self.is_dead, self.watch_at = False, 0.0
        # Blank cells that test whether evcxr still runs cells.
        self.blank_cells: dict[str, bool] = {}
        self.went_online = False
        # Events of the cell.
        self.compiler = self.process = self.compilations = 0
        self.begun: str | None = None
        self.failed: list[str] | None = None
        self.panicked: list[str] | None = None
        self.ended: str | None = None
        self.markers: dict[str, str] = {}
        self.published_at = 0.0
        # Variables that no longer exist, each with the reason.
        self.dropped: dict[str, str] = {}
        self.interrupts: list[float] = []
        self.warned_still_running = False
        # The start of each phase, for the benchmark.
        self.times = {"sent": time.monotonic()}

    def evidence(self) -> dict[str, Any]:
        """The cell's own report, for its reply's metadata."""
        failed = self.failed is not None and self.ended == "ok"
        return {
            "code": self.parsed.has_rust,
            "began": self.begun is not None,
            "ended": "failed" if failed else self.ended,
        }

    def enter_phase(self, phase: str) -> None:
        self.times[phase] = time.monotonic()

    def phases(self) -> dict[str, float]:
        """The seconds of each phase that the cell reached."""
        names = {
            "sent": "analysis",
            "compile": "compilation",
            "begin": "run",
            "end": "delivery",
            "done": "",
        }
        there = [(names[name], when) for name, when in self.times.items()]
        return {name: round(until - since, 4) for (name, since), (_, until) in pairwise(there)}


class Execution:
    """The cells of one kernel, whose directory is `directory`."""

    def __init__(
        self,
        sender: MessageSender,
        events: Events,
        directory: Path,
        why_evcxr_stopped: Callable[[], str],
    ) -> None:
        self.sender, self.events, self.directory = sender, events, directory
        self.why_evcxr_stopped = why_evcxr_stopped
        # Why this kernel must end.
        self.stopped: str | None = None
        self.queue: deque[Message] = deque()
        self.running: Running | None = None
        self.count = 0
        # After the end of a cell's process: a cell of the kernel, whose markers end the streams.
        self.flushing: Message | None = None
        self.own: set[str] = set()
        self.probes: dict[str, Running] = {}
        self.lost: set[str] = set()
        # The process of the last cell, and its request, to which late output belongs.
        self.process = 0
        self.last: Message | None = None
        # The setting of the last `:offline` command, or None.
        self.is_online: bool | None = None
        self.printed: list[tuple[Message, str, str]] = []
        self.interrupt_flag = directory / "interrupted"
        self.marker = re.compile(re.escape(events.marker) + r"(\d+|-)\n")
        self.settle_by: float | None = None
        # evcxr's start-up commands must not print anything, because nothing reads their output, and
        # they would block. evcxr sends its first message after them.
        self.ready_file, self.is_ready = directory / READY, False
        # evcxr may publish its first status before the proxy has subscribed, so request it again.
        self.kernel_info_interval, self.kernel_info_at = FIRST_KERNEL_INFO_SECONDS, time.monotonic()
        self._request_kernel_info()

    def _own(self, kind: str, **content: str) -> str:
        """Send a request of the kernel to evcxr, and return its id."""
        request = new_message(kind, content, SESSION, b"{}", [])
        self.own.add(request.id)
        self.sender.to_evcxr(request)
        return request.id

    def _request_kernel_info(self) -> float:
        """Request evcxr's first message if it is time; return the seconds until the next time."""
        now = time.monotonic()
        if now >= self.kernel_info_at:
            self._own("kernel_info_request")
            self.kernel_info_at = now + self.kernel_info_interval
            self.kernel_info_interval = min(2 * self.kernel_info_interval, LAST_KERNEL_INFO_SECONDS)
        return self.kernel_info_at - now

    # From Jupyter

    def request(self, message: Message) -> None:
        """A request on the shell channel."""
        self.queue.append(message)
        self._next()

    def _next(self) -> None:
        ready = self.is_ready and self.stopped is None
        while ready and self.running is None and self.queue:
            message = self.queue.popleft()
            if message.kind == "execute_request":
                self._start(message)
            elif cell_code.read(message.text("code")).fault == cell_code.TOO_DEEP:
                self._answer(message, {"status": "error", "ename": cell_code.TOO_DEEP})
            else:
                self.sender.to_evcxr(message)

    def _start(self, request: Message) -> None:
        content = request.content
        if not content.get("silent") and content.get("store_history", True):
            self.count += 1
        self.interrupt_flag.unlink(missing_ok=True)
        self.events.read()
        code = cell_code.read(request.text("code"))
        self.running = Running(request, self.count, code)
        self.last = request
        if code.fault is not None:
            self._refuse(self.running, code.fault)
            return
        if (offline := code.setting(":offline")) is not None:
            self.is_online = offline != "1"
        # evcxr_shim prefers the `impl` blocks of the current cell to earlier ones.
        (self.directory / CELL_CODE).write_text(code.sent, errors="replace")
        self.sender.to_evcxr(request, code=code.sent)

    def _refuse(self, cell: Running, fault: str) -> None:
        """Fail a cell whose text evcxr must not receive."""
        request = cell.request
        self.sender.publish(request.child("status", {"execution_state": "busy"}))
        if not cell.silent:
            source = {"code": cell.code, "execution_count": cell.count}
            self.sender.publish(request.child("execute_input", source))
        cell.enter_phase("done")
        self._finish(cell, failure.refused(fault))

    def interrupt(self) -> bool:
        """Interrupt the running cell. Returns whether evcxr must kill the process."""
        cell = self.running
        if cell is None:
            return False
        self._read_events()
        cell.interrupts.append(time.monotonic())
        if cell.begun is None:
            # The cell has not started, so variables can be kept.
            self.interrupt_flag.touch()
            processes.end_tree(cell.compiler)
            processes.end_compilers(self.directory)
            if cell.warned_still_running:
                self.stop("The cell did not end after two interrupts.")
        elif cell.ended is None:
            if len(cell.interrupts) > 1:
                return True
            self._stop(cell)
        return False

    def _stop(self, cell: Running) -> None:
        with suppress(ProcessLookupError):
            os.kill(cell.process, signal.SIGINT)

    # From the cell

    def _read_events(self) -> None:
        """Process the new events."""
        for name, *fields in self.events.read():
            # Ignore malformed events, which the user's code may write.
            with suppress(ValueError, IndexError):
                self._handle_event(name, fields)

    def _handle_event(self, name: str, fields: list[str]) -> None:
        """Process one event."""
        cell = self.running
        if cell is None:
            return  # of a start-up command
        if self.flushing is not None:
            if name == "end":
                cell.ended, cell.begun = GONE, fields[0]
            return
        cell.acknowledged = True
        match name:
            case "compile":
                cell.compiler = int(fields[0])
                cell.compilations += 1
                cell.times.setdefault("compile", time.monotonic())
            case "begin":
                number, process = fields[0], int(fields[1])
                cell.begun, cell.process, cell.compiler = number, process, 0
                if process != self.process:
                    self.process, self.lost = process, set()
                cell.enter_phase("begin")
                if cell.interrupts:
                    self._stop(cell)
            case "failed":
                type_name, message, file, line, column = fields
                cell.failed = [type_name, message, file, str(int(line)), str(int(column))]
            case "panicked":
                message, file, line, column, compiled, calls, backtrace = fields
                place = (str(int(line)), str(int(column)))
                cell.panicked = [message, file, *place, compiled, calls, backtrace]
            case "dropped":
                variable, reason = fields
                cell.dropped[variable] = reason
            case "end":
                number, how = fields[:2]
                if number == cell.begun:
                    cell.ended = how
                    cell.enter_phase("end")

    # From evcxr

    def published(self, message: Message) -> None:
        """Process a message that evcxr publishes."""
        if not self.is_ready:
            self.is_ready = True
            self.ready_file.touch()
            self._next()
        cell = self.running
        of_cell = cell is not None and message.request == cell.request.id
        if of_cell:
            cell.acknowledged, cell.published_at = True, time.monotonic()
        if message.kind == "stream":
            ours = message.request in self.own and self.last is not None
            self._print(self.last if ours else message, message.content)
        elif message.request in self.own:
            is_idle = message.content.get("execution_state") == "idle"
            if is_idle and cell is not None and self.probes.get(message.request) is cell:
                cell.publications_over = True
            return
        elif not of_cell:
            self.sender.publish(message)
        elif message.kind == "status":
            if message.content["execution_state"] == "idle":
                cell.idle = message
            else:
                self.sender.publish(message)
        elif message.kind == "error":
            cell.errors.append(message.content)
        elif message.kind == "execute_result":
            # Omit the value of a statement, such as a loop at the end of a cell.
            if message.content["data"] != {"text/plain": "()"}:
                message.content |= {"execution_count": cell.count}
                cell.results.append(message)
        elif message.kind == "execute_input":
            if not cell.silent and not cell.input_shown:
                cell.input_shown = True
                message.content |= {"code": cell.code, "execution_count": cell.count}
                self.sender.publish(message)
        else:
            self.sender.publish(message)

    def replied(self, message: Message) -> None:
        """Process evcxr's reply on the shell channel."""
        cell = self.running
        if message.request in self.own:
            if cell is not None and self.probes.get(message.request) is cell:
                cell.replies_over = True
            if cell is not None and message.request in cell.blank_cells:
                cell.blank_cells[message.request] = True
            return
        if cell is None or message.request != cell.request.id:
            self.sender.reply(message)
            return
        cell.acknowledged, cell.evcxr_reply = True, message

    def _print(self, parent: Message, content: dict[str, Any]) -> None:
        """Process a line of output, and the marker in it."""
        name, text = content["name"], content["text"]
        # The marker may follow an incomplete line.
        while found := self.marker.search(text):
            if self.running is not None and found[1] != "-":
                self.running.markers[name] = found[1]
                self.lost.discard(name)
            text = text[: found.start()] + text[found.end() :]
        # A line after a carriage return replaces the previous one, and the next may replace it.
        if text.startswith("\r"):
            text = text.removesuffix("\n")
        if text and not (self.running is not None and self.running.silent):
            self.printed.append((parent, name, text))

    def flush(self) -> None:
        """Publish the output; consecutive lines of a stream become one message."""
        printed, self.printed = self.printed, []
        while printed:
            parent, name, _ = printed[0]
            same = 0
            while (
                same < len(printed)
                and printed[same][1] == name
                and (printed[same][0] is parent or printed[same][0].request == parent.request)
            ):
                same += 1
            text = "".join(part for _, _, part in printed[:same])
            del printed[:same]
            self._publish_stream(parent, name, text)

    def _publish_stream(self, parent: Message, name: str, text: str) -> None:
        content = {"name": name, "text": text}
        if parent.kind == "stream":
            parent.content = content
            self.sender.publish(parent)
        else:
            self.sender.publish(parent.child("stream", content))

    # The end of a cell

    def settle(self) -> float | None:
        """End the cell if its messages are complete; otherwise, return the seconds to wait."""
        self._read_events()
        self.flush()
        if not self.is_ready:
            return self._request_kernel_info()
        cell = self.running
        if cell is None or self.stopped is not None:
            return None
        if not self._is_answered(cell):
            if self.stopped is not None:
                return None
            waits = (self._warn_still_running(cell), self._probe(cell), self._end_orphans(cell))
            return min(wait for wait in waits if wait is not None)
        if cell.begun is not None and cell.ended is None and self.flushing is None:
            self._flush_streams(cell)
        missing = self._missing(cell)
        if missing:
            left = self._patience(cell)
            if left > 0:
                return left
            if self.flushing is None:
                self.lost.update(missing)
        self.settle_by = None
        if self._goes_online(cell):
            return FIRST_PROBE_SECONDS
        cell.enter_phase("done")
        self._finish(cell, self._failure(cell))
        return self.settle()

    # Lost messages, and a hanging evcxr

    def _is_answered(self, cell: Running) -> bool:
        """Whether evcxr's reply and last status exist. Creates them if they were lost."""
        if cell.evcxr_reply is not None and cell.idle is not None:
            return True
        if not (cell.evcxr_reply is not None or cell.replies_over):
            return False
        if not (cell.idle is not None or cell.publications_over):
            return False
        if not cell.acknowledged and cell.sent < TRIES:
            # evcxr did not receive the request.
            cell.sent += 1
            self._expect_again(cell)
            self.sender.to_evcxr(cell.request, code=cell.parsed.sent)
            return False
        if cell.evcxr_reply is None:
            if not any(cell.blank_cells.values()):
                # After a panic in evcxr's cell thread, it still replies to other requests.
                if len(cell.blank_cells) == TRIES - 1:
                    self.stop(self.why_evcxr_stopped())
                else:
                    cell.replies_over = False
                    self.probes.clear()
                    cell.blank_cells[self._own("execute_request", code="")] = False
                    self._send_probe(cell)
                return False
            status = "error" if cell.errors else "ok"
            cell.evcxr_reply = cell.request.child("execute_reply", {"status": status})
        if cell.idle is None:
            cell.idle = cell.request.child("status", {"execution_state": "idle"})
        return True

    def _expect_again(self, cell: Running) -> None:
        """Discard evcxr's messages about the cell."""
        cell.evcxr_reply = cell.idle = cell.probed = None
        cell.acknowledged = cell.replies_over = cell.publications_over = False
        cell.errors.clear()
        cell.results.clear()
        self.probes.clear()

    def _probe(self, cell: Running) -> float:
        """Send a probe if it is time; return the seconds until the next one."""
        now = time.monotonic()
        at, every = cell.probed or (now + FIRST_PROBE_SECONDS, FIRST_PROBE_SECONDS)
        if now >= at:
            self._send_probe(cell)
            every = min(2 * every, LAST_PROBE_SECONDS)
            at = now + every
        cell.probed = at, every
        return at - now

    def _end_orphans(self, cell: Running) -> float | None:
        """Kill what an ended cell process left running, if evcxr does not report the end."""
        if not cell.process or cell.evcxr_reply is not None:
            return None
        now = time.monotonic()
        if now >= cell.watch_at:
            cell.watch_at = now + WATCH_SECONDS
            if not is_alive(cell.process):
                if cell.is_dead:
                    processes.end_orphans(self.directory)
                cell.is_dead = True
        return cell.watch_at - now

    def _send_probe(self, cell: Running) -> None:
        self.probes[self._own("kernel_info_request")] = cell

    def stop(self, reason: str) -> None:
        """Fail the running cell and abort the queued ones, before the kernel ends."""
        if self.stopped is not None:
            return
        self.stopped = reason
        cell = self.running
        if cell is not None:
            self.flush()
            cell.stop_on_error = True
            self._finish(cell, failure.kernel_ended(reason))
        elif self.last is not None:
            self._publish_stream(self.last, "stderr", failure.kernel_ended(reason).message + "\n")
        self._abort_queued()

    def _patience(self, cell: Running) -> float:
        """The seconds to wait for the end of the streams."""
        now = time.monotonic()
        limit = MARK_SECONDS if self.flushing is None else FLUSH_SECONDS
        self.settle_by = self.settle_by or now + limit
        if self.flushing is not None:
            return self.settle_by - now
        last = max(cell.published_at, self.settle_by - limit)
        return min(self.settle_by, last + MARK_SILENCE_SECONDS) - now

    def _goes_online(self, cell: Running) -> bool:
        """Run a cell again online if its `:dep` failed because evcxr works offline.

        None of its code has run by then, except shell commands.
        """
        if self.is_online is not None or os.environ.get(OFFLINE) == "1" or cell.went_online:
            return False
        package = failure.needs_network(cell.errors)
        if package is None or cell.begun is not None or cell.interrupts or cell.parsed.has_shell:
            return False
        cell.went_online = True
        notice = f"`{package}` is not in the lock file. Fetching it from the network.\n"
        self._publish_stream(cell.request, "stderr", notice)
        self._expect_again(cell)
        self._own("execute_request", code=":offline 0")
        self.sender.to_evcxr(cell.request, code=cell.parsed.sent)
        return True

    # The streams of a cell

    def _flush_streams(self, cell: Running) -> None:
        """Run a blank cell in the replacement process, whose markers end the streams."""
        self.lost.clear()
        cell.markers.clear()
        self.flushing = new_message("execute_request", {"code": "();"}, SESSION, b"{}", [])
        self.own.add(self.flushing.id)
        self.sender.to_evcxr(self.flushing)

    def _missing(self, cell: Running) -> list[str]:
        """The streams whose end marker has not arrived."""
        if cell.begun is None:
            return []
        pending = [name for name in STREAMS if name not in self.lost]
        if cell.ended is None:
            return pending
        return [name for name in pending if cell.markers.get(name) != cell.begun]

    def _warn_still_running(self, cell: Running) -> float | None:
        """Print once that an interrupted cell still runs."""
        if not cell.interrupts or cell.warned_still_running or cell.ended is not None:
            return None
        left = cell.interrupts[0] + INTERRUPT_SECONDS - time.monotonic()
        if left > 0:
            return left
        cell.warned_still_running = True
        text = STILL_RUNNING if cell.begun is not None else STILL_COMPILING
        self._publish_stream(cell.request, "stderr", text)
        return None

    def _finish(self, cell: Running, failed: Failure | None) -> None:
        """Reply to a cell's request, and run the next one."""
        self.running = None
        self.flushing = None
        if cell.went_online:
            self._own("execute_request", code=":offline 1")
        reply = cell.evcxr_reply or cell.request.child("execute_reply", {})
        reply.content = {
            "execution_count": cell.count,
            "user_expressions": {},
            "payload": [],
            **({"status": "ok"} if failed is None else {"status": "error"} | failed.content()),
        }
        report = {"phases": cell.phases(), "compilations": cell.compilations}
        reply.metadata = reply.metadata | report | {"cell": cell.evidence()}
        if not cell.silent:
            if failed is None and cell.dropped:
                self._publish_stream(
                    cell.request, "stderr", failure.dropped_variables(cell.dropped)
                )
            for result in cell.results:
                self.sender.publish(result)
            if failed is not None:
                self.sender.publish(cell.request.child("error", failed.content()))
        self.sender.reply(reply)
        self.sender.publish(cell.idle or cell.request.child("status", {"execution_state": "idle"}))
        # An interrupt aborts the queued cells, even if the running cell ended normally.
        if cell.interrupts or (failed is not None and cell.stop_on_error):
            self._abort_queued()
        self._next()

    def _failure(self, cell: Running) -> Failure | None:
        """The cell's failure, or None."""
        refused = cell.evcxr_reply.content.get("status") != "ok"
        if cell.ended == "interrupted":
            return failure.interrupted()
        if cell.ended == "panicked":
            if cell.panicked is None:
                return failure.panic("the panic's message was lost", [], "", "")
            message, file, line, column, compiled, calls, backtrace = cell.panicked
            elsewhere = ""
            if file != failure.SOURCE:
                elsewhere = f"{file}:{line}:{column}" if file else ""
                line, column = line_table.called(Path(compiled), calls) or (0, 0)
                file = failure.SOURCE if line else ""
            where = self._where(cell, file, line, column)
            return failure.panic(message, where, elsewhere, backtrace)
        if cell.failed is not None:
            type_name, message, file, line, column = cell.failed
            where = self._where(cell, file, line, column)
            return failure.at_question_mark(type_name, message, where)
        evcxr_errors = "\n".join(error["evalue"] for error in cell.errors)
        if cell.ended == GONE or self.flushing is not None or failure.ENDED in evcxr_errors:
            return failure.process_ended(evcxr_errors, len(cell.interrupts) > 1)
        if not refused:
            reported = cell.begun is not None and cell.ended == "ok"
            if cell.parsed.has_rust and not reported:
                return failure.not_reported(cell.compilations)
            return None
        if cell.interrupts and cell.begun is None:
            return failure.interrupted("The cell had not started.")
        online = cell.went_online or self.is_online
        path = cell.parsed.setting(":dep") or ""
        explained = failure.dependency(cell.errors, online, path)
        return explained or failure.not_compiled(cell.errors, cell.count, cell.dropped)

    def _where(self, cell: Running, file: str, line: str, column: str) -> list[str]:
        generated = ""
        with suppress(OSError):
            generated = (self.directory / GENERATED).read_text()
        return failure.where(cell.code, generated, file, Place(int(line), int(column)), cell.count)

    def _abort_queued(self) -> None:
        """Abort the queued cells; keep other requests."""
        kept = deque()
        for message in self.queue:
            if message.kind != "execute_request":
                kept.append(message)
                continue
            self._answer(message, {"status": "aborted"})
        self.queue = kept

    def _answer(self, request: Message, content: dict[str, Any]) -> None:
        """Reply to a request without evcxr."""
        kind = request.kind.replace("_request", "_reply")
        self.sender.publish(request.child("status", {"execution_state": "busy"}))
        self.sender.reply(request.child(kind, {"evalue": "", "traceback": []} | content))
        self.sender.publish(request.child("status", {"execution_state": "idle"}))
