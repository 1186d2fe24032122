"""Whatever ends a kernel, its processes and its directory are removed."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest
from jupyter_client.manager import start_new_kernel

from wearable_jupyter.kernel import directories
from wearable_jupyter.setup import errors, paths

pytestmark = pytest.mark.usefixtures("nothing_left")

BUSY = "loop { std::hint::spin_loop(); }"


@pytest.fixture
def started():
    """Starts kernels, and ends those that the test leaves."""
    kernels = []

    def start():
        manager, client = start_new_kernel(kernel_name="rust", cwd=str(paths.NOTEBOOKS))
        kernels.append((manager, client))
        return manager, client

    yield start
    for manager, client in kernels:
        client.stop_channels()
        if manager.has_kernel:
            manager.shutdown_kernel(now=True)


def run(client, code: str) -> tuple[str, str]:
    """A cell's status, and its output or error."""
    shown = []

    def collect(message):
        content = message["content"]
        shown.append(content.get("text") or content.get("evalue") or "")

    reply = client.execute_interactive(code, timeout=60, output_hook=collect)
    return reply["content"]["status"], "".join(shown)


def test_busy_kernel_can_be_shut_down(started):
    manager, client = started()
    client.execute(BUSY)
    time.sleep(1)
    manager.shutdown_kernel(now=True)


def test_restart_deletes_variables_and_the_kernel_works(started):
    manager, client = started()
    assert run(client, "let x = 1;")[0] == "ok"
    client.execute(BUSY)
    time.sleep(1)
    manager.restart_kernel(now=True)
    client.wait_for_ready(timeout=60)
    assert run(client, 'println!("{}", x);')[0] == "error"
    assert run(client, 'let x = 2; println!("{x}");') == ("ok", "2\n")


def test_killed_runner_ends_its_kernel(notebook, tmp_path):
    busy = tmp_path / "busy"
    path = notebook('println!("here");', f"std::fs::write({json.dumps(str(busy))}, [])?;\n{BUSY}")
    script = textwrap.dedent(f"""
        from pathlib import Path
        from wearable_jupyter.runner import strict_run
        strict_run.run(Path({str(path)!r}))
    """)
    before = set(paths.KERNELS.glob("*"))
    runner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not busy.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert busy.exists() and set(paths.KERNELS.glob("*")) - before
    runner.kill()
    runner.wait()


@pytest.mark.parametrize("cell", [BUSY, 'loop { println!("x"); }'])
def test_killed_server_ends_its_kernels(cell):
    """JupyterLab's server is killed while a cell runs, or prints without end."""
    script = textwrap.dedent(f"""
        import sys, time
        from jupyter_client.manager import start_new_kernel
        manager, client = start_new_kernel(kernel_name="rust", cwd={str(paths.NOTEBOOKS)!r})
        client.execute({cell!r})
        time.sleep(1)
        print("busy", flush=True)
        time.sleep(600)
    """)
    server = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    lines = iter(server.stdout.readline, "")
    assert any("busy" in line for line in lines)
    assert list(paths.KERNELS.glob("*"))
    server.send_signal(signal.SIGKILL)
    server.wait()


def test_next_kernel_deletes_the_directory_of_killed_processes():
    dead = subprocess.Popen(["true"])
    dead.wait()
    directory = paths.KERNELS / f"{dead.pid}-1"
    (directory / "project").mkdir(parents=True)
    mine = paths.KERNELS / f"{os.getpid()}-1"
    mine.mkdir()
    directories.remove_stale()
    assert not directory.exists() and mine.exists()
    mine.rmdir()


def test_new_directory_is_never_taken_for_an_abandoned_one(tmp_path, monkeypatch):
    """Another kernel that starts meanwhile would delete it."""
    directory = tmp_path / f"{os.getpid()}-1"
    directory.mkdir()
    monkeypatch.setattr(directories.paths, "KERNELS", tmp_path)
    moments, lock = [], fcntl.flock

    def observed_lock(file, operation):
        if not operation & fcntl.LOCK_NB:
            moments.append(directories.list_kernels())
        lock(file, operation)
        moments.append(operation & fcntl.LOCK_NB or directories.list_kernels())

    monkeypatch.setattr(directories.fcntl, "flock", observed_lock)
    directories.hold_lock(directory)
    monkeypatch.undo()
    assert {directory: True} in moments and {directory: False} not in moments


def test_directory_is_removed_if_another_process_has_its_owners_number(tmp_path):
    """The owner's process ID belongs to this process, which does not hold the lock."""
    script = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from wearable_jupyter.kernel import directories
        directory = Path(sys.argv[1])
        directory.mkdir()
        directories.hold_lock(directory)
        print("held", flush=True)
        time.sleep(600)
    """)
    directory = paths.KERNELS / f"{os.getpid()}-2"
    maker = subprocess.Popen(
        [sys.executable, "-c", script, directory], stdout=subprocess.PIPE, text=True
    )
    assert maker.stdout.readline() == "held\n"
    assert directories.list_kernels()[directory]
    maker.kill()
    maker.wait()
    maker.stdout.close()
    assert not directories.list_kernels()[directory]
    directories.remove_stale()
    assert not directory.exists()


def test_unread_reason_is_removed():
    dead = subprocess.Popen(["true"])
    dead.wait()
    directories.store_start_error(dead.pid, "an old reason")
    directories.store_start_error(os.getpid(), "the disk is full")
    directories.remove_stale()
    assert directories.pop_start_error(dead.pid) is None
    assert directories.pop_start_error(os.getpid()) == "the disk is full"
    assert directories.pop_start_error(os.getpid()) is None


def test_killed_supervisor_ends_its_kernel(started):
    """Jupyter must notice that the kernel has ended, and evcxr must end."""
    manager, client = started()
    client.execute(BUSY)
    time.sleep(1)
    (directory,) = directories.owned_by(manager.provisioner.pid)
    evcxr = psutil.Process(directories.evcxr(directory))
    evcxr.parent().kill()
    deadline = time.monotonic() + 60
    while (manager.is_alive() or evcxr.is_running()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not manager.is_alive() and not evcxr.is_running()


def test_full_disk_is_reported_and_leaves_no_incomplete_directory(monkeypatch):
    def full(directory, *_):
        (directory / "bin").mkdir(parents=True)
        raise OSError(28, "No space left on device", str(directory))

    monkeypatch.setattr(directories.rustc_call, "install_wrappers", full)
    with pytest.raises(errors.UserError, match=r"No space left on device.*Free some disk space"):
        directories.create()
    assert not directories.owned_by(os.getpid())


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device", "here"),
        directories.shutil.Error([("a", "b", "[Errno 28] No space left on device: 'here'")]),
    ],
)
def test_disk_that_fills_up_during_a_session_is_reported(monkeypatch, tmp_path, error):
    def full(*_, **__):
        raise error

    monkeypatch.setattr(directories, "link_tree", full)
    with pytest.raises(errors.UserError, match=r"No space left on device.*Free some disk space"):
        directories.link_compiled(tmp_path)
