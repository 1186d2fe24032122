"""The Rust tests run with a time limit."""

import sys
import textwrap
import time

import pytest

from wearable_jupyter.bootstrap.platform import is_alive
from wearable_jupyter.rust_tests import run_with_limit
from wearable_jupyter.setup.errors import UserError


def program(text: str) -> list[str]:
    """A command that behaves like `cargo test`."""
    return [sys.executable, "-uc", textwrap.dedent(text)]


def test_passing_and_failing_tests_are_reported(capfdbinary):
    run_with_limit(program("print('test a ... ok')"), 60)
    assert b"test a ... ok" in capfdbinary.readouterr().out
    with pytest.raises(UserError, match="failed; see above"):
        run_with_limit(program("print('test a ... FAILED'); exit(101)"), 60)


def test_hanging_test_is_reported_and_killed(tmp_path):
    pid = tmp_path / "pid"
    hangs = program(
        f"""
        import subprocess, time
        print("test a has been running for over 60 seconds")
        print("test b has been running for over 60 seconds")
        print("test a ... ok")
        child = subprocess.Popen(["sleep", "1000"])
        open({str(pid)!r}, "w").write(str(child.pid))
        time.sleep(1000)
        """
    )
    with pytest.raises(UserError, match=r"Still running: b\.") as error:
        run_with_limit(hangs, 3)
    assert "cargo test NAME" in str(error.value)
    # The child process that the test started has ended, too.
    child, deadline = int(pid.read_text()), time.monotonic() + 10
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_output_renews_the_limit():
    slow = program("import time\nfor n in range(6): print('test', n, '... ok'); time.sleep(0.5)")
    start = time.monotonic()
    run_with_limit(slow, 2)
    assert time.monotonic() - start > 2
