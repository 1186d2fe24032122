"""`./justw test` handles stages that fail, hang or are interrupted."""

import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

from wearable_jupyter import development
from wearable_jupyter.setup.errors import UserError


def is_gone(pid: int) -> bool:
    """Whether a killed process is gone, at the latest in a moment."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def test_all_stages_run_and_one_failure_fails_the_command(capsys):
    ran = []

    def fail():
        ran.append("bad")
        raise UserError("why")

    stages = {"first": fail, "second": lambda: ran.append("good"), "third": fail}
    assert development.run_stages(stages) == 1
    assert ran == ["bad", "good", "bad"]
    printed = capsys.readouterr()
    assert printed.out.endswith("FAILED: first, third (2 of 3 stages)\n")
    assert printed.err.count("error: why") == 2
    assert development.run_stages({"second": lambda: None}) == 0
    assert "All 1 stages passed" in capsys.readouterr().out


def test_python_tests_run_after_failing_rust_tests(monkeypatch):
    ran = []

    def stage(name, fails):
        def work(*_, **__):
            ran.append(name)
            if fails:
                raise UserError(name)

        return work

    monkeypatch.setattr(development, "prepare", stage("prepare", True))
    monkeypatch.setattr(development, "LINTS", {"lints": stage("lints", True)})
    monkeypatch.setattr(development, "run_rust_tests", stage("rust", True))
    monkeypatch.setattr(development, "run_python_tests", stage("python", False))
    assert development.test([]) == 1
    assert ran == ["prepare", "lints", "rust", "python"]


@pytest.mark.parametrize(
    ("options", "workers"),
    [([], True), (["-k", "name"], True), (["-x", "-s"], False), (["--pdb"], False)],
)
def test_python_tests_use_two_workers_unless_they_use_the_terminal(monkeypatch, options, workers):
    commands = []
    monkeypatch.setattr(development, "run_limited", lambda *args, **_: commands.append(args[1]))
    development.run_python_tests(options)
    (command,) = commands
    assert ("--numprocesses=2" in command) == workers
    assert list(command[-len(options) :]) == options if options else command[-1].is_dir()


def test_hanging_program_is_killed_with_its_children(tmp_path):
    pid = tmp_path / "pid"
    script = f"sleep 60 & echo $! > {pid}; trap '' INT TERM; sleep 60"
    start = time.monotonic()
    with pytest.raises(UserError, match="The tests exceeded 2 s"):
        development.run_limited("The tests", ["sh", "-c", script], 2)
    assert time.monotonic() - start < 30
    assert is_gone(int(pid.read_text()))


def test_failing_program_is_an_error():
    development.run_limited("The tests", ["true"], 60)
    with pytest.raises(UserError, match="The tests failed; see above"):
        development.run_limited("The tests", ["false"], 60)


def test_interrupt_ends_the_program_and_prints_one_line(tmp_path):
    pid = tmp_path / "pid"
    script = (
        "import sys; from wearable_jupyter import development; from wearable_jupyter.setup import "
        f"entry_point; work = lambda: development.run_limited('It', ['sh', '-c', 'echo $$ > {pid}; "
        "sleep 60'], 60); sys.exit(entry_point.exit_code(work))"
    )
    command = [sys.executable, "-c", script]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (pid.is_file() and pid.read_text()):
        assert running.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)  # the program then waits
    os.kill(running.pid, signal.SIGINT)
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 130 and re.fullmatch("interrupted\n", stderr)
    assert is_gone(int(pid.read_text()))
