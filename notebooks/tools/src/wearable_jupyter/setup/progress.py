"""How far cargo is: packages done of all, and the minutes that are left.

cargo says which package it has finished, and `compile_seconds.toml` how long each took once. How
quick this machine is shows while it works, so the minutes need no clock of another one.
"""

import json
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# In a log, a line says how far it is so often; on a terminal, one line is replaced.
LOG_SECONDS = 60
TERMINAL_SECONDS = 1
# Of the work, so much must be done before it tells how quick this machine is.
MIN_DONE = 0.03

SECONDS = tomllib.loads(Path(__file__).with_name("compile_seconds.toml").read_text())


def parse_message(line: str) -> dict:
    """A message of cargo's in JSON; nothing of what build scripts print among them."""
    return json.loads(line) if line.startswith("{") else {}


class Task:
    """One cargo that compiles `total` packages, which take `work` seconds of one core or so."""

    def __init__(self, what: str, total: int, work: float) -> None:
        self.what, self.total, self.work_left = what, total, work
        self.done: set[str] = set()
        self.compiled = 0
        self.work_done = 0.0
        self.started = self.last_artifact = time.monotonic()

    def read_message(self, line: str) -> None:
        """Take a line of `cargo --message-format=json`."""
        message = parse_message(line)
        # A package's build script is a message of its own, and its library comes after it.
        if message.get("reason") != "compiler-artifact" or is_script(message["target"]):
            return
        package = message["package_id"]
        if package in self.done:
            return
        self.done.add(package)
        work = weight(name(package))
        self.work_left -= work
        if not message["fresh"]:
            self.compiled += 1
            self.work_done += work
            self.last_artifact = time.monotonic()

    def seconds_left(self) -> float | None:
        """By what it had done in its time when it was last heard; `None` where that tells nothing.

        A large package is not heard of for minutes, in which the work goes on all the same.
        """
        if self.work_done < MIN_DONE * (self.work_done + self.work_left):
            return None
        total = self.work_left * (self.last_artifact - self.started) / self.work_done
        return max(0.0, total - (time.monotonic() - self.last_artifact))

    def __str__(self) -> str:
        return f"{self.what}: {len(self.done)} of {self.total} packages"


# Those that go on side by side, and what wakes who tells of them.
running: list[Task] = []
changed = threading.Condition()


@contextmanager
def reporting(task: Task) -> Iterator[Task]:
    """Say how far a task is while it goes on, in one line with those beside it."""
    with changed:
        running.append(task)
        if len(running) == 1:
            threading.Thread(target=report_progress, daemon=True).start()
    try:
        yield task
    finally:
        with changed:
            running.remove(task)
            changed.notify_all()


def report_progress() -> None:
    """Print how far the tasks are, until none goes on."""
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
    """How far the tasks are."""
    estimates = [seconds for task in running if (seconds := task.seconds_left()) is not None]
    minutes = f"; about {max(estimates) / 60:.0f} min left" if estimates else ""
    return "; ".join(map(str, running)) + minutes


def weight(package: str) -> float:
    """How long a package takes, beside others."""
    return SECONDS["packages"].get(package, SECONDS["each_other"])


def name(package_id: str) -> str:
    """`…#name@1.0.0`, or `…/name#1.0.0` where folder and package are called the same."""
    place, _, version = package_id.rpartition("#")
    return version.split("@")[0] if "@" in version else place.rsplit("/", 1)[-1]


def is_script(target: dict) -> bool:
    """Whether what was made is a build script, which its package still comes after."""
    return "custom-build" in target["kind"]
