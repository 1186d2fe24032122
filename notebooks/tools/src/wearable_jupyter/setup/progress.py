"""Progress of cargo: finished packages, and an estimate of the remaining minutes.

cargo reports each finished package, and `compile_seconds.toml` has the measured time of each. The
estimate scales these times by the speed of this machine so far.
"""

import json
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

# A log gets a line in this interval; on a terminal, one line is updated.
LOG_SECONDS = 60
TERMINAL_SECONDS = 1
# The share of the work that must be done before there is an estimate.
MIN_DONE = 0.03

SECONDS = tomllib.loads(Path(__file__).with_name("compile_seconds.toml").read_text())


def parse_message(line: str) -> dict:
    """Parse a JSON message of cargo; empty for a line that a build script printed."""
    return json.loads(line) if line.startswith("{") else {}


class Task:
    """A run of cargo that compiles `total` packages, which take `work` seconds on one core."""

    def __init__(self, name: str, total: int, work: float) -> None:
        self.name, self.total, self.work_left = name, total, work
        self.done: set[str] = set()
        self.compiled = 0
        self.work_done = 0.0
        self.started = self.last_artifact = time.monotonic()

    def read_message(self, line: str) -> None:
        """Process a line of `cargo --message-format=json`."""
        message = parse_message(line)
        # A package's build script has a message of its own, before that of the library.
        if message.get("reason") != "compiler-artifact" or is_script(message["target"]):
            return
        package = message["package_id"]
        if package in self.done:
            return
        self.done.add(package)
        work = weight(package_name(package))
        self.work_left -= work
        if not message["fresh"]:
            self.compiled += 1
            self.work_done += work
            self.last_artifact = time.monotonic()

    def seconds_left(self) -> float | None:
        """An estimate from the speed until the last message; None if too little is done.

        Concurrent tasks share the cores, so the estimate is for all of them together. Between two
        messages, which can be minutes for a large package, it counts down.
        """
        tasks = concurrent if self in concurrent else [self]
        done, left = (sum(getattr(t, name) for t in tasks) for name in ("work_done", "work_left"))
        if done < MIN_DONE * (done + left):
            return None
        last = max(task.last_artifact for task in tasks)
        total = left * (last - min(task.started for task in tasks)) / done
        return max(0.0, total - (time.monotonic() - last))

    def __str__(self) -> str:
        return f"{self.name}: {len(self.done)} of {self.total} packages"


class Reported(Protocol):
    """Something with progress: `str()` is its state."""

    def seconds_left(self) -> float | None:
        """An estimate of the remaining seconds, or None."""


# Tasks that run, and the condition that wakes the reporting thread.
running: list[Reported] = []
# Those of cargo that run at the same time, also if they have ended meanwhile.
concurrent: list[Task] = []
changed = threading.Condition()


@contextmanager
def reporting(task: Reported) -> Iterator[Reported]:
    """Report the progress of a task while it runs, in one line with concurrent tasks."""
    with changed:
        if not running:
            concurrent.clear()
        if isinstance(task, Task):
            concurrent.append(task)
        running.append(task)
        if len(running) == 1:
            threading.Thread(target=report_progress, daemon=True).start()
    try:
        yield task
    finally:
        with changed:
            running.remove(task)
            if isinstance(task, Task):
                task.work_left = 0.0
            changed.notify_all()


def report_progress() -> None:
    """Print the progress until no task runs."""
    on_terminal = sys.stdout.isatty()
    seconds = TERMINAL_SECONDS if on_terminal else LOG_SECONDS
    with changed:
        while True:
            changed.wait_for(lambda: not running, timeout=seconds)
            if on_terminal:
                print("\r\x1b[K", end="", flush=True)
            if not running:
                return
            print(status_line(), end="" if on_terminal else "\n", flush=True)


def status_line() -> str:
    """One line with the progress of all tasks."""
    estimates = [seconds for task in running if (seconds := task.seconds_left()) is not None]
    minutes = f"; about {max(estimates) / 60:.0f} min left" if estimates else ""
    return "; ".join(map(str, running)) + minutes


def weight(package: str) -> float:
    """The measured compile time of a package, in seconds."""
    return SECONDS["packages"].get(package, SECONDS["each_other"])


def package_name(package_id: str) -> str:
    """`…#name@1.0.0`, or `…/name#1.0.0` if folder and package have the same name."""
    place, _, version = package_id.rpartition("#")
    return version.split("@")[0] if "@" in version else place.rsplit("/", 1)[-1]


def is_script(target: dict) -> bool:
    """Whether an artifact is a build script, which is compiled before its package."""
    return "custom-build" in target["kind"]
