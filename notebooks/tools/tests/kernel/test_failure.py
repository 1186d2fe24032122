"""Failures as they are reported to the user, from the output of cargo and evcxr."""

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from wearable_jupyter.kernel import directories, failure, handoff, processes, supervisor
from wearable_jupyter.setup import caches, paths

OFFLINE = (
    "\nAs a reminder, you're using offline mode (--offline) which can sometimes cause surprising "
    "resolution failures, if this error is too confusing you may wish to retry without `--offline`."
)
SOURCE = "\nlocation searched: crates.io index"
PATH = (
    "error: failed to get `a`\n\nCaused by:\n  failed to load source for dependency `a`\n\n"
    "Caused by:\n  unable to update /nowhere\n\nCaused by:\n  failed to read `/nowhere/Cargo.toml`"
    "\n\nCaused by:\n  No such file or directory (os error 2)"
)
NETWORK = (
    "error: failed to get `bytesize`\n\nCaused by:\n  download of config.json failed\n\nCaused by:"
    "\n  failed to download from `https://the-index/config.json`\n\nCaused by:\n"
    "  [7] Could not connect to server (Failed to connect to 127.0.0.1 port 9)"
)
GIT = (
    "error: failed to get `a`\n\nCaused by:\n  network failure seems to have happened\n\nCaused by:"
    "\n  failed to resolve address for nowhere.invalid: Name or service not known; class=Net (12)"
)
VERSION = (
    'error: failed to select a version for the requirement `itoa = "^99"`\n'
    "candidate versions found which didn't match: 1.0.19, 1.0.18, ..." + SOURCE
)


def errors(text: str) -> list[dict]:
    return [{"ename": "Error", "evalue": text, "traceback": [text]}]


@pytest.mark.parametrize(
    ("text", "online", "name", "parts"),
    [
        (f"error: no matching package named `new` found{SOURCE}{OFFLINE}", False,
         "DependencyNotFound", ["`new` is not in the lock file", "`:offline 0`"]),
        ("error: no matching package named `new` found", False,
         "DependencyNotFound", ["`new` is not in the lock file", "`:offline 0`"]),
        (VERSION + OFFLINE, False, "DependencyNotFound", ["`itoa` is not", "`:offline 0`"]),
        ("error: failed to download `serde v1.0.1`\n\nCaused by:\n  attempting to make an HTTP "
         "request, but --offline was specified", False,
         "DependencyNotFound", ["`serde` is not in the lock file", "`:offline 0`"]),
        (f"error: no matching package named `nwe` found{SOURCE}", True,
         "DependencyNotFound", ["crates.io has no package `nwe`", "name"]),
        (VERSION, True, "DependencyNotFound",
         ["`itoa` has no version that matches `^99`", "1.0.19, 1.0.18, ..."]),
        (NETWORK, True, "NetworkError",
         ["`bytesize` could not be fetched", "Could not connect", "HTTPS_PROXY"]),
        (GIT, True, "NetworkError", ["`a` could not be fetched", "failed to resolve address"]),
        (PATH, False, "DependencyNotFound", ["/nowhere contains no crate"]),
        (PATH, True, "DependencyNotFound", ["/nowhere contains no crate"]),
        ("No such file or directory (os error 2)", False,
         "DependencyNotFound", ["./given contains no crate"]),
    ],
)  # fmt: skip
def test_missing_dependency_is_reported_with_a_fix(text, online, name, parts):
    found = failure.dependency(errors(text), online, "./given")
    assert found.name == name and all(part in found.message for part in parts)
    assert "retry without" not in found.message and len(found.message.splitlines()) <= 2


@pytest.mark.parametrize(
    "text",
    [
        "mismatched types",
        "error: unclosed inline table, expected `}`",
        "error: no matching package named `other` found\nlocation searched: /some/folder",
        "Dependency `x` is missing a lib target",
    ],
)
def test_other_errors_stay_as_they_are(text):
    assert failure.dependency(errors(text), True, "./given") is None
    assert failure.needs_network(errors(text)) is None


def test_error_without_a_message_is_a_failure():
    assert failure.not_compiled([], 1).message


def test_reason_for_evcxrs_end_is_its_panic(tmp_path):
    panicking = (
        "thread 'tokio-rt-worker' (7) panicked at /home/a/.cargo/registry/src/index/evcxr-0.22.0/"
        "src/errors.rs:454:21:\nend byte index 8 is not a char boundary\nstack backtrace:\n  0: x\n"
    )
    for script, status, expected in (
        (f"cat >&2 <<'EOF'\n{panicking}EOF\n", None, "panicked: end byte index 8 is not a char "
         "boundary (evcxr-0.22.0/src/errors.rs:454:21)."),
        ("echo one >&2; echo the reason >&2", 1, "exit status 1: the reason"),
        ("", 0, "exit status 0."),
        ("", -9, "signal 9."),
        ("", None, "stopped responding"),
    ):  # fmt: skip
        process = subprocess.Popen(["sh", "-c", script], stderr=subprocess.PIPE)
        output = supervisor.ErrorOutput(process.stderr.fileno())
        process.wait()
        deadline = time.monotonic() + 10
        while expected not in output.reason(status) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert expected in output.reason(status)
        output.thread.join()
        process.stderr.close()


def test_evcxr_that_does_not_start_leaves_a_reason_for_the_launcher(tmp_path, monkeypatch):
    """The launcher then becomes a kernel that reports the reason in each cell."""
    evcxr = tmp_path / "evcxr"
    evcxr.write_text("#!/bin/sh\nsleep 1\necho 'Error: no space left' >&2\nexit 1\n")
    evcxr.chmod(0o755)
    monkeypatch.setattr(caches, "evcxr", lambda: evcxr)
    directory = paths.KERNELS / f"{os.getpid()}-3"
    directory.mkdir(parents=True)
    for file in (directory / directories.CONNECTION, tmp_path / "public"):
        directories.write_connection(file)
    os.mkfifo(directory / directories.HANDOFF, mode=0o600)
    launcher = subprocess.Popen(["sleep", "600"])
    before = signal.getsignal(signal.SIGTERM)
    try:
        to = handoff.Handoff(launcher.pid, os.getpid(), str(tmp_path / "public"))
        handoff.hand_off(directory, to)
        supervisor.supervise(directory, os.getpid())
        assert "exit status 1: Error: no space left" in directories.pop_start_error(launcher.pid)
        assert launcher.poll() is None and not directory.exists()
    finally:
        signal.signal(signal.SIGTERM, before)
        launcher.kill()
        launcher.wait()


def test_compilation_is_killed_with_its_children():
    """cargo starts each child in its own process group, and the children do the same."""
    script = "setsid sh -c 'sleep 600 & sleep 601' & sleep 602 & wait"
    root = subprocess.Popen(["sh", "-c", script])
    tree = psutil.Process(root.pid)
    deadline = time.monotonic() + 10
    while len(tree.children(recursive=True)) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    children = tree.children(recursive=True)
    assert len(children) == 4
    processes.end_tree(root.pid)
    root.wait(10)
    _, alive = psutil.wait_procs(children, 10)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_leftover_processes_in_the_group_are_orphans():
    script = "sh -c 'sleep 600 & sleep 601 & echo started; exit 3'; sleep 602 & wait"
    evcxr = subprocess.Popen(["sh", "-c", script], process_group=0, stdout=subprocess.PIPE)
    assert evcxr.stdout.readline() == b"started\n"
    deadline = time.monotonic() + 10
    while len(found := list(processes.orphans(evcxr.pid))) != 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    commands = sorted(psutil.Process(pid).cmdline()[1] for pid in found)
    assert commands == ["600", "601"]
    processes.end_tree(*found, evcxr.pid)
    evcxr.wait(10)
    evcxr.stdout.close()


def test_process_of_the_cells_is_not_killed_as_a_compiler(tmp_path):
    program = tmp_path / "evcxr"
    program.write_bytes(Path("/bin/sh").read_bytes())
    program.chmod(0o755)
    script = f"{program} -c 'sleep 600; true' & sleep 601 & wait"
    evcxr = subprocess.Popen([program, "-c", script])
    deadline = time.monotonic() + 10
    tree = psutil.Process(evcxr.pid)
    while len(tree.children(recursive=True)) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    (compiler,) = processes.compilers(evcxr.pid)
    assert psutil.Process(compiler).cmdline() == ["sleep", "601"]
    processes.end_tree(evcxr.pid)
    evcxr.wait(10)
