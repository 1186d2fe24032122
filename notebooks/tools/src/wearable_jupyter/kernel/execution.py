"""One cell at a time, and for each how it ended and what it printed.

evcxr answers "ok" to a cell that failed by `?` or panicked, never gives up requests that wait
behind a failed one, lets output come after "idle", and counts cells from two. So a request to run a
cell reaches evcxr only when the one before has ended with all its output, and what evcxr says of it
is held until the cell itself has told how it ended (`events.py`). If a later evcxr tells rightly by
itself, its cells have nothing to tell here, and its word is passed on as it is.

`Execution` decides; what it decides goes out by the `Outlet`, which is the relay.
"""

import os
import re
import signal
import time
from collections import deque
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from . import debug_lines, failure
from .events import Events
from .failure import Failure
from .origin import Place
from .wire import SESSION, Message, made

# When a cell has ended, its last lines are under way: milliseconds, or as long as a megabyte takes.
# If its mark does not come at all, the cell has closed the stream, or written what is no text.
MARK_SECONDS = 10.0
# A query ends so soon after an interrupt; if the cell goes on, the reader is told how to end it.
INTERRUPT_SECONDS = 1.0
STILL_COMPILING = "Interrupted: the cell ends as soon as its compilation can be given up.\n"
STILL_RUNNING = (
    "Interrupted, but the cell goes on: only a polars query can be stopped in the middle.\n"
    "A second interrupt ends the process that runs cells, and with it all variables.\n"
)
STREAMS = ("stdout", "stderr")
ATTENDED = "attended"
# How a cell has ended that could not tell it any more.
GONE = "gone"


class Outlet(Protocol):
    """Where messages go."""

    def to_evcxr(self, message: Message) -> None: ...
    def reply(self, message: Message) -> None: ...
    def publish(self, message: Message) -> None: ...


class Running:
    """A cell under way, and what is known of it so far."""

    def __init__(self, request: Message, count: int) -> None:
        content = request.content
        self.request = request
        self.code: str = content.get("code", "")
        self.silent = bool(content.get("silent"))
        self.stop_on_error = bool(content.get("stop_on_error", True))
        self.count = count
        # What evcxr says, held until the end.
        self.evcxr_reply: Message | None = None
        self.idle: Message | None = None
        self.results: list[Message] = []
        self.errors: list[dict[str, Any]] = []
        # What the cell tells.
        self.compiler = self.process = self.compilations = 0
        self.begun: str | None = None
        self.failed: list[str] | None = None
        self.panicked: list[str] | None = None
        self.ended: str | None = None
        self.marks: dict[str, str] = {}
        self.interrupts: list[float] = []
        self.told_going_on = False
        # When each phase began, for the benchmark.
        self.times = {"sent": time.monotonic()}

    def note(self, phase: str) -> None:
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

    def __init__(self, outlet: Outlet, events: Events, directory: Path) -> None:
        self.outlet, self.events, self.directory = outlet, events, directory
        self.waiting: deque[Message] = deque()
        self.running: Running | None = None
        self.count = 0
        # After the end of evcxr's process: a cell of ours, whose marks end the streams.
        self.flushing: Message | None = None
        self.own: set[str] = set()
        self.lost: set[str] = set()
        self.printed: list[tuple[Message, str, str]] = []
        self.interrupt_flag = directory / "interrupted"
        self.mark = re.compile(re.escape(events.mark) + r"(\d+|-)\n")
        self.settle_by: float | None = None
        # evcxr's start-up commands must print nothing, not even marks: nobody would take it from
        # them, and they would wait. What evcxr says first, it says after them.
        self.attended, self.is_attended = directory / ATTENDED, False
        first = made("kernel_info_request", {}, SESSION, b"{}", [])
        self.own.add(first.id)
        outlet.to_evcxr(first)

    # From Jupyter

    def request(self, message: Message) -> None:
        """A request on the shell channel."""
        self.waiting.append(message)
        self._next()

    def _next(self) -> None:
        while self.running is None and self.waiting and self.is_attended:
            message = self.waiting.popleft()
            if message.kind == "execute_request":
                self._start(message)
            else:
                self.outlet.to_evcxr(message)

    def _start(self, request: Message) -> None:
        content = request.content
        if not content.get("silent") and content.get("store_history", True):
            self.count += 1
        self.interrupt_flag.unlink(missing_ok=True)
        self.events.read()
        self.running = Running(request, self.count)
        self.outlet.to_evcxr(request)

    def interrupt(self) -> bool:
        """An interrupt; whether evcxr shall end the process."""
        cell = self.running
        if cell is None:
            return False
        self._hear()
        cell.interrupts.append(time.monotonic())
        if cell.begun is None:
            # Nothing has run yet, so nothing need be lost.
            self.interrupt_flag.touch()
            with suppress(ProcessLookupError):
                if cell.compiler:
                    os.kill(cell.compiler, signal.SIGTERM)
        elif cell.ended is None:
            if len(cell.interrupts) > 1:
                return True
            self._stop(cell)
        return False

    def _stop(self, cell: Running) -> None:
        with suppress(ProcessLookupError):
            os.kill(cell.process, signal.SIGINT)

    # From the cell

    def _hear(self) -> None:
        """Take in what the cell has told."""
        for name, *fields in self.events.read():
            cell = self.running
            if cell is None:
                continue  # a start-up command's
            if self.flushing is not None:
                if name == "end":
                    cell.ended, cell.begun = GONE, fields[0]
                continue
            match name:
                case "compile":
                    cell.compiler = int(fields[0])
                    cell.compilations += 1
                    cell.times.setdefault("compile", time.monotonic())
                case "begin":
                    cell.begun, cell.process, cell.compiler = fields[0], int(fields[1]), 0
                    cell.note("begin")
                    if cell.interrupts:
                        self._stop(cell)
                case "failed":
                    cell.failed = fields
                case "panicked":
                    cell.panicked = fields
                case "end":
                    cell.ended = fields[1]
                    cell.note("end")

    # From evcxr

    def published(self, message: Message) -> None:
        """What evcxr publishes."""
        if not self.is_attended:
            self.is_attended = True
            self.attended.touch()
            self._next()
        cell = self.running
        of_cell = cell is not None and message.request == cell.request.id
        if message.kind == "stream":
            ours = message.request in self.own and cell is not None
            self._print(cell.request if ours else message, message.content)
        elif message.request in self.own:
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
            if not cell.silent:
                message.content |= {"execution_count": cell.count}
                self.outlet.publish(message)
        else:
            self.outlet.publish(message)

    def replied(self, message: Message) -> None:
        """evcxr's reply on the shell channel."""
        if message.request in self.own:
            return
        if self.running is None or message.request != self.running.request.id:
            self.outlet.reply(message)
            return
        self.running.evcxr_reply = message

    def _print(self, parent: Message, content: dict[str, Any]) -> None:
        """Take in a line of output, and the mark in it."""
        name, text = content["name"], content["text"]
        # A line without its end is followed by the mark.
        while found := self.mark.search(text):
            if self.running is not None and found[1] != "-":
                self.running.marks[name] = found[1]
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
            self._say(parent, name, text)

    def _say(self, parent: Message, name: str, text: str) -> None:
        content = {"name": name, "text": text}
        if parent.kind == "stream":
            parent.content = content
            self.outlet.publish(parent)
        else:
            self.outlet.publish(parent.answer("stream", content))

    # The end of a cell

    def settle(self) -> float | None:
        """End the cell if all of it is known; otherwise, seconds until there is more to do."""
        self._hear()
        self.flush()
        cell = self.running
        if cell is None:
            return None
        if cell.evcxr_reply is None or cell.idle is None:
            return self._going_on(cell)
        if cell.begun is not None and cell.ended is None and self.flushing is None:
            self._flush_streams(cell)
        missing = self._missing(cell)
        if missing:
            now = time.monotonic()
            self.settle_by = self.settle_by or now + MARK_SECONDS
            if now < self.settle_by:
                return self.settle_by - now
            if self.flushing is None:
                self.lost.update(missing)
        self.settle_by = None
        cell.note("done")
        self._end(cell)
        return self.settle()

    def _flush_streams(self, cell: Running) -> None:
        """Have the process that takes the place of an ended one say where the output ends."""
        self.lost.clear()
        cell.marks.clear()
        self.flushing = made("execute_request", {"code": "();"}, SESSION, b"{}", [])
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

    def _going_on(self, cell: Running) -> float | None:
        """Tell the reader once that an interrupted cell does not end by it."""
        if not cell.interrupts or cell.told_going_on or cell.ended is not None:
            return None
        left = cell.interrupts[0] + INTERRUPT_SECONDS - time.monotonic()
        if left > 0:
            return left
        cell.told_going_on = True
        text = STILL_RUNNING if cell.begun is not None else STILL_COMPILING
        self._say(cell.request, "stderr", text)
        return None

    def _end(self, cell: Running) -> None:
        self.running = None
        failed = self._failure(cell)
        self.flushing = None
        reply = cell.evcxr_reply
        reply.content = {
            "execution_count": cell.count,
            "user_expressions": {},
            "payload": [],
            **({"status": "ok"} if failed is None else {"status": "error"} | failed.content()),
        }
        told = {"phases": cell.phases(), "compilations": cell.compilations}
        reply.metadata = reply.metadata | told
        if not cell.silent:
            for result in cell.results:
                self.outlet.publish(result)
            if failed is not None:
                self.outlet.publish(cell.request.answer("error", failed.content()))
        self.outlet.reply(reply)
        self.outlet.publish(cell.idle)
        # Who interrupts wants the cells behind this one not to run, also if it ended by itself.
        if cell.interrupts or (failed is not None and cell.stop_on_error):
            self._abort_waiting()
        self._next()

    def _failure(self, cell: Running) -> Failure | None:
        """How the cell failed, if it did."""
        refused = cell.evcxr_reply.content.get("status") != "ok"
        if cell.ended == "interrupted":
            return failure.interrupted()
        if cell.ended == "panicked":
            message, file, line, column, compiled, calls, backtrace = cell.panicked
            elsewhere = ""
            if file != failure.SOURCE:
                elsewhere = f"{file}:{line}:{column}" if file else ""
                line, column = debug_lines.called(Path(compiled), calls) or (0, 0)
                file = failure.SOURCE if line else ""
            where = self._where(cell, file, line, column)
            return failure.panic(message, where, elsewhere, backtrace)
        if cell.failed is not None:
            type_name, message, file, line, column = cell.failed
            where = self._where(cell, file, line, column)
            return failure.at_question_mark(type_name, message, where)
        evcxrs = "\n".join(error["evalue"] for error in cell.errors)
        if cell.ended == GONE or self.flushing is not None or failure.ENDED in evcxrs:
            return failure.process_ended(evcxrs, len(cell.interrupts) > 1)
        if not refused:
            return None
        if cell.interrupts and cell.begun is None:
            return failure.interrupted("The cell had not begun to run.")
        return failure.not_compiled(cell.errors, cell.count)

    def _where(self, cell: Running, file: str, line: str, column: str) -> list[str]:
        generated = ""
        with suppress(OSError):
            generated = (self.directory / "project" / "src" / "lib.rs").read_text()
        return failure.where(cell.code, generated, file, Place(int(line), int(column)), cell.count)

    def _abort_waiting(self) -> None:
        """Answer requests to run cells that wait behind a failed one; others stay."""
        kept = deque()
        for message in self.waiting:
            if message.kind != "execute_request":
                kept.append(message)
                continue
            self.outlet.publish(message.answer("status", {"execution_state": "busy"}))
            self.outlet.reply(message.answer("execute_reply", {"status": "aborted"}))
            self.outlet.publish(message.answer("status", {"execution_state": "idle"}))
        self.waiting = kept
