"""One cell at a time, and for each how it ended and what it printed.

evcxr answers "ok" to a cell that failed by `?` or panicked, never gives up requests that wait
behind a failed one, lets output come after "idle", and counts cells from two. So a request to run a
cell reaches evcxr only when the one before has ended with all its output, and what evcxr says of it
is held until the cell itself has told how it ended (`events.py`). A cell with Rust code that did
not report its beginning and its end has failed, whatever evcxr replies.

A message can be lost between evcxr and here, and evcxr can stop without ending. So requests of our
own (probes) follow a cell at growing intervals. evcxr answers in order: when it has answered a
probe, it has sent all that it had to send about the cell. A missing request is then sent again, and
a missing reply is made here. An evcxr that runs no cells any more is reported, and the kernel ends.

`Execution` decides; what it decides goes out by the `Outlet`, which is the relay.
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

from . import cell_code, failure, line_table, processes
from .directories import is_alive
from .events import Events
from .failure import Failure
from .messages import SESSION, Message, new_message
from .source_map import Place

# When a cell has ended, its last lines are under way: milliseconds, or as long as a megabyte takes.
# If its mark does not come at all, the cell has closed the stream, or written what is no text: then
# nothing more comes, and after some silence nobody waits.
MARK_SECONDS = 10.0
MARK_SILENCE_SECONDS = 2.0
# A process that takes the place of an ended one compiles a cell before its marks.
FLUSH_SECONDS = 60.0
# Until evcxr's first message, it is asked again and again; a running cell is followed by probes.
FIRST_GREETING_SECONDS, LAST_GREETING_SECONDS = 0.1, 1.0
FIRST_PROBE_SECONDS, LAST_PROBE_SECONDS = 2.0, 60.0
# How often a cell's process is looked at.
WATCH_SECONDS = 1.0
# How often a request is sent that evcxr shows no sign of, and a blank cell that it does not answer.
TRIES = 3
# A query ends so soon after an interrupt; if the cell goes on, the reader is told how to end it.
INTERRUPT_SECONDS = 1.0
STILL_COMPILING = (
    "Interrupted: the cell ends as soon as its compilation can be given up.\n"
    "A second interrupt ends the kernel, and with it all variables.\n"
)
STILL_RUNNING = (
    "Interrupted, but the cell goes on: only a polars query can be stopped in the middle.\n"
    "A second interrupt ends the process that runs cells, and with it all variables.\n"
)
STREAMS = ("stdout", "stderr")
ATTENDED = "attended"
# The current cell's code.
CELL = "cell"
# What evcxr has generated from it, and from earlier cells.
GENERATED = "generated"
# How a cell has ended that could not tell it any more.
GONE = "gone"
# Set by the strict runner: no cell goes online that does not say so.
OFFLINE = "WEARABLE_OFFLINE"


class Outlet(Protocol):
    """Where messages go."""

    def to_evcxr(self, message: Message, **changed: str) -> None: ...
    def reply(self, message: Message) -> None: ...
    def publish(self, message: Message) -> None: ...


class Running:
    """A cell under way, and what is known of it so far."""

    def __init__(self, request: Message, count: int, code: cell_code.CellCode) -> None:
        content = request.content
        self.request = request
        self.code: str = request.text("code")
        self.parsed = code
        self.silent = bool(content.get("silent"))
        self.stop_on_error = bool(content.get("stop_on_error", True))
        self.count = count
        # What evcxr says, held until the end.
        self.evcxr_reply: Message | None = None
        self.idle: Message | None = None
        self.results: list[Message] = []
        self.errors: list[dict[str, Any]] = []
        # Whether evcxr has shown that it has the request, and what it cannot send any more.
        self.input_shown = False
        self.acknowledged = self.replies_over = self.publications_over = False
        self.sent = 1
        self.probed: tuple[float, float] | None = None
        # Whether the process that runs it has ended, and when that is looked at again.
        self.is_dead, self.watch_at = False, 0.0
        # Blank cells that evcxr was sent to see whether it still runs any.
        self.blank_cells: dict[str, bool] = {}
        self.went_online = False
        # What the cell tells.
        self.compiler = self.process = self.compilations = 0
        self.begun: str | None = None
        self.failed: list[str] | None = None
        self.panicked: list[str] | None = None
        self.ended: str | None = None
        self.marks: dict[str, str] = {}
        self.published_at = 0.0
        # Variables that no longer exist, each with the reason.
        self.dropped: dict[str, str] = {}
        self.interrupts: list[float] = []
        self.warned_still_running = False
        # When each phase began, for the benchmark.
        self.times = {"sent": time.monotonic()}

    def evidence(self) -> dict[str, Any]:
        """What the cell itself reported, for its reply's metadata."""
        failed = self.failed is not None and self.ended == "ok"
        return {
            "code": self.parsed.has_rust,
            "began": self.begun is not None,
            "ended": "failed" if failed else self.ended,
        }

    def enter_phase(self, phase: str) -> None:
        self.times[phase] = time.monotonic()

    def phases(self) -> dict[str, float]:
        """Seconds of each phase that the cell came to."""
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
        outlet: Outlet,
        events: Events,
        directory: Path,
        why_evcxr_stopped: Callable[[], str],
    ) -> None:
        self.outlet, self.events, self.directory = outlet, events, directory
        self.why_evcxr_stopped = why_evcxr_stopped
        # Why this kernel must end.
        self.stopped: str | None = None
        self.queue: deque[Message] = deque()
        self.running: Running | None = None
        self.count = 0
        # After the end of evcxr's process: a cell of ours, whose marks end the streams.
        self.flushing: Message | None = None
        self.own: set[str] = set()
        self.probes: dict[str, Running] = {}
        self.lost: set[str] = set()
        # The process of the last cell, and its request, to which output belongs that comes later.
        self.process = 0
        self.last: Message | None = None
        # What the last `:offline` of a cell was, if there was one.
        self.is_online: bool | None = None
        self.printed: list[tuple[Message, str, str]] = []
        self.interrupt_flag = directory / "interrupted"
        self.mark = re.compile(re.escape(events.mark) + r"(\d+|-)\n")
        self.settle_by: float | None = None
        # evcxr's start-up commands must print nothing, not even marks: nobody would take it from
        # them, and they would wait. What evcxr says first, it says after them.
        self.attended, self.is_ready = directory / ATTENDED, False
        # evcxr may publish its first status before anyone can receive it, so it is asked again.
        self.greeting_interval, self.greet_at = FIRST_GREETING_SECONDS, time.monotonic()
        self._greet()

    def _own(self, kind: str, **content: str) -> str:
        """Send evcxr a request of our own; its id."""
        request = new_message(kind, content, SESSION, b"{}", [])
        self.own.add(request.id)
        self.outlet.to_evcxr(request)
        return request.id

    def _greet(self) -> float:
        """Ask evcxr for a first message, if it is time to; seconds until the next time."""
        now = time.monotonic()
        if now >= self.greet_at:
            self._own("kernel_info_request")
            self.greet_at = now + self.greeting_interval
            self.greeting_interval = min(2 * self.greeting_interval, LAST_GREETING_SECONDS)
        return self.greet_at - now

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
                self.outlet.to_evcxr(message)

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
        # Of two `impl` blocks, that of the current cell counts; see evcxr_shim.
        (self.directory / CELL).write_text(code.sent, errors="replace")
        self.outlet.to_evcxr(request, code=code.sent)

    def _refuse(self, cell: Running, fault: str) -> None:
        """Fail a cell that evcxr cannot be given."""
        request = cell.request
        self.outlet.publish(request.answer("status", {"execution_state": "busy"}))
        if not cell.silent:
            source = {"code": cell.code, "execution_count": cell.count}
            self.outlet.publish(request.answer("execute_input", source))
        cell.enter_phase("done")
        self._finish(cell, failure.refused(fault))

    def interrupt(self) -> bool:
        """An interrupt; whether evcxr shall end the process."""
        cell = self.running
        if cell is None:
            return False
        self._read_events()
        cell.interrupts.append(time.monotonic())
        if cell.begun is None:
            # Nothing has run yet, so nothing need be lost.
            self.interrupt_flag.touch()
            processes.end_tree(cell.compiler)
            processes.end_compilers(self.directory)
            if cell.warned_still_running:
                self.stop("It was interrupted twice, and did not end.")
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
        """Take in what the cell has told."""
        for name, *fields in self.events.read():
            # What is no event of ours was written by a user's code.
            with suppress(ValueError, IndexError):
                self._handle_event(name, fields)

    def _handle_event(self, name: str, fields: list[str]) -> None:
        """Take in one event."""
        cell = self.running
        if cell is None:
            return  # a start-up command's
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
        """What evcxr publishes."""
        if not self.is_ready:
            self.is_ready = True
            self.attended.touch()
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
            self.outlet.publish(message)
        elif message.kind == "status":
            if message.content["execution_state"] == "idle":
                cell.idle = message
            else:
                self.outlet.publish(message)
        elif message.kind == "error":
            cell.errors.append(message.content)
        elif message.kind == "execute_result":
            # A loop at the end of a cell has a value, which says nothing.
            if message.content["data"] != {"text/plain": "()"}:
                message.content |= {"execution_count": cell.count}
                cell.results.append(message)
        elif message.kind == "execute_input":
            if not cell.silent and not cell.input_shown:
                cell.input_shown = True
                message.content |= {"code": cell.code, "execution_count": cell.count}
                self.outlet.publish(message)
        else:
            self.outlet.publish(message)

    def replied(self, message: Message) -> None:
        """evcxr's reply on the shell channel."""
        cell = self.running
        if message.request in self.own:
            if cell is not None and self.probes.get(message.request) is cell:
                cell.replies_over = True
            if cell is not None and message.request in cell.blank_cells:
                cell.blank_cells[message.request] = True
            return
        if cell is None or message.request != cell.request.id:
            self.outlet.reply(message)
            return
        cell.acknowledged, cell.evcxr_reply = True, message

    def _print(self, parent: Message, content: dict[str, Any]) -> None:
        """Take in a line of output, and the mark in it."""
        name, text = content["name"], content["text"]
        # A line without its end is followed by the mark.
        while found := self.mark.search(text):
            if self.running is not None and found[1] != "-":
                self.running.marks[name] = found[1]
                self.lost.discard(name)
            text = text[: found.start()] + text[found.end() :]
        # What begins so takes the place of the line before it, and the next may take its place.
        if text.startswith("\r"):
            text = text.removesuffix("\n")
        if text and not (self.running is not None and self.running.silent):
            self.printed.append((parent, name, text))

    def flush(self) -> None:
        """Publish what has been printed: lines that follow each other as one message."""
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
            self.outlet.publish(parent)
        else:
            self.outlet.publish(parent.answer("stream", content))

    # The end of a cell

    def settle(self) -> float | None:
        """End the cell if all of it is known; otherwise, seconds until there is more to do."""
        self._read_events()
        self.flush()
        if not self.is_ready:
            return self._greet()
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

    # What is lost, and what has stopped

    def _is_answered(self, cell: Running) -> bool:
        """Whether evcxr has sent its reply and its last status; what was lost is made here."""
        if cell.evcxr_reply is not None and cell.idle is not None:
            return True
        if not (cell.evcxr_reply is not None or cell.replies_over):
            return False
        if not (cell.idle is not None or cell.publications_over):
            return False
        if not cell.acknowledged and cell.sent < TRIES:
            # evcxr does not know of it.
            cell.sent += 1
            self._expect_again(cell)
            self.outlet.to_evcxr(cell.request, code=cell.parsed.sent)
            return False
        if cell.evcxr_reply is None:
            if not any(cell.blank_cells.values()):
                # After a panic in its thread that runs cells, evcxr answers to anything else.
                if len(cell.blank_cells) == TRIES - 1:
                    self.stop(self.why_evcxr_stopped())
                else:
                    cell.replies_over = False
                    self.probes.clear()
                    cell.blank_cells[self._own("execute_request", code="")] = False
                    self._send_probe(cell)
                return False
            status = "error" if cell.errors else "ok"
            cell.evcxr_reply = cell.request.answer("execute_reply", {"status": status})
        if cell.idle is None:
            cell.idle = cell.request.answer("status", {"execution_state": "idle"})
        return True

    def _expect_again(self, cell: Running) -> None:
        """Forget what evcxr has answered."""
        cell.evcxr_reply = cell.idle = cell.probed = None
        cell.acknowledged = cell.replies_over = cell.publications_over = False
        cell.errors.clear()
        cell.results.clear()
        self.probes.clear()

    def _probe(self, cell: Running) -> float:
        """Send a probe, if it is time to; seconds until the next time."""
        now = time.monotonic()
        at, every = cell.probed or (now + FIRST_PROBE_SECONDS, FIRST_PROBE_SECONDS)
        if now >= at:
            self._send_probe(cell)
            every = min(2 * every, LAST_PROBE_SECONDS)
            at = now + every
        cell.probed = at, every
        return at - now

    def _end_orphans(self, cell: Running) -> float | None:
        """End what a cell's ended process has left behind, if evcxr does not report the end."""
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
        """Give up: fail the cell that runs, and those that wait; the kernel ends after that."""
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
        """Seconds for which a stream's end is still waited for."""
        now = time.monotonic()
        limit = MARK_SECONDS if self.flushing is None else FLUSH_SECONDS
        self.settle_by = self.settle_by or now + limit
        if self.flushing is not None:
            return self.settle_by - now
        last = max(cell.published_at, self.settle_by - limit)
        return min(self.settle_by, last + MARK_SILENCE_SECONDS) - now

    def _goes_online(self, cell: Running) -> bool:
        """Run a cell again online, if its `:dep` failed because evcxr works offline.

        Nothing of it has run by then, unless it has shell commands.
        """
        if self.is_online is not None or os.environ.get(OFFLINE) == "1" or cell.went_online:
            return False
        package = failure.needs_network(cell.errors)
        if package is None or cell.begun is not None or cell.interrupts or cell.parsed.has_shell:
            return False
        cell.went_online = True
        notice = (
            f"`{package}` is not in the lock file: its packages are fetched from the network.\n"
        )
        self._publish_stream(cell.request, "stderr", notice)
        self._expect_again(cell)
        self._own("execute_request", code=":offline 0")
        self.outlet.to_evcxr(cell.request, code=cell.parsed.sent)
        return True

    # The streams of a cell

    def _flush_streams(self, cell: Running) -> None:
        """Have the process that takes the place of an ended one say where the output ends."""
        self.lost.clear()
        cell.marks.clear()
        self.flushing = new_message("execute_request", {"code": "();"}, SESSION, b"{}", [])
        self.own.add(self.flushing.id)
        self.outlet.to_evcxr(self.flushing)

    def _missing(self, cell: Running) -> list[str]:
        """The streams whose end has not come yet."""
        if cell.begun is None:
            return []
        waited_for = [name for name in STREAMS if name not in self.lost]
        if cell.ended is None:
            return waited_for
        return [name for name in waited_for if cell.marks.get(name) != cell.begun]

    def _warn_still_running(self, cell: Running) -> float | None:
        """Tell the reader once that an interrupted cell does not end by it."""
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
        """Reply to a cell's request, and go on with the next."""
        self.running = None
        self.flushing = None
        if cell.went_online:
            self._own("execute_request", code=":offline 1")
        reply = cell.evcxr_reply or cell.request.answer("execute_reply", {})
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
                self.outlet.publish(result)
            if failed is not None:
                self.outlet.publish(cell.request.answer("error", failed.content()))
        self.outlet.reply(reply)
        self.outlet.publish(cell.idle or cell.request.answer("status", {"execution_state": "idle"}))
        # Who interrupts wants the cells behind this one not to run, also if it ended by itself.
        if cell.interrupts or (failed is not None and cell.stop_on_error):
            self._abort_queued()
        self._next()

    def _failure(self, cell: Running) -> Failure | None:
        """How the cell failed, if it did."""
        refused = cell.evcxr_reply.content.get("status") != "ok"
        if cell.ended == "interrupted":
            return failure.interrupted()
        if cell.ended == "panicked":
            if cell.panicked is None:
                return failure.panic("a panic whose message is lost", [], "", "")
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
            return failure.interrupted("The cell had not begun to run.")
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
        """Answer requests to run cells that wait behind a failed one; others stay."""
        kept = deque()
        for message in self.queue:
            if message.kind != "execute_request":
                kept.append(message)
                continue
            self._answer(message, {"status": "aborted"})
        self.queue = kept

    def _answer(self, request: Message, content: dict[str, Any]) -> None:
        """Answer a request here."""
        kind = request.kind.replace("_request", "_reply")
        self.outlet.publish(request.answer("status", {"execution_state": "busy"}))
        self.outlet.reply(request.answer(kind, {"evalue": "", "traceback": []} | content))
        self.outlet.publish(request.answer("status", {"execution_state": "idle"}))
