"""A spare kernel is what a new one would be, only warm; and there is never more than one."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest
from jupyter_client.manager import start_new_kernel

from wearable_jupyter.bench import measure
from wearable_jupyter.kernel import directories, handoff, prewarm, prewarmed, supervisor
from wearable_jupyter.setup import errors, paths

pytestmark = pytest.mark.usefixtures("nothing_left")

USE = "use wearable_demo::prelude::*;"
LOAD = f':dep wearable_demo = {{ path = "{paths.ROOT}/crates/wearable_demo" }}\n{USE}'


def prewarmed_kernels() -> set:
    return {path for path in directories.list_kernels() if directories.is_prewarmed(path)}


@pytest.fixture(autouse=True)
def nobody_elses():
    """A clone has one spare kernel, and the tests must not take, or end, that of its user."""
    if prewarmed_kernels():
        pytest.skip("JupyterLab runs in this clone, with a spare kernel: stop it first")


def wait_for_spare():
    """The spare kernel's directory, when there is one whose evcxr runs."""
    deadline = time.monotonic() + supervisor.QUIET_SECONDS + 30
    while time.monotonic() < deadline:
        for directory in prewarmed_kernels():
            if prewarmed.read_purpose(directory):
                return directory
        time.sleep(0.1)
    pytest.fail("there is no spare kernel")


def results(client, code: str) -> list[dict]:
    """The number and the results of a cell."""
    shown = []
    reply = client.execute_interactive(code, timeout=60, output_hook=shown.append)
    return [reply["content"]["execution_count"], *(m["content"].get("data") for m in shown)]


@pytest.fixture
def started(monkeypatch):
    """Kernels to start in the test, as `./justw lab` does; they and a spare one end after it."""
    monkeypatch.setenv(prewarmed.VARIABLE, str(os.getpid()))
    kernels = []

    def start(directory=paths.NOTEBOOKS, wanted=True):
        environment = os.environ | ({} if wanted else {prewarmed.VARIABLE: "0"})
        kernels.append(start_new_kernel(kernel_name="rust", cwd=str(directory), env=environment))
        return kernels[-1]

    yield start
    for manager, client in kernels:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    for directory in prewarmed_kernels():
        os.kill(directories.owner_pid(directory), signal.SIGTERM)


def test_prewarmed_kernel_equals_a_new_one_and_is_replaced(started):
    prewarmed.start(os.getpid())
    first = wait_for_spare()
    manager, client = started()
    assert prewarmed_kernels() == set() and first.exists()
    # It is the kernel of the launcher, which has none of its own.
    assert directories.owned_by(manager.provisioner.pid) == []

    new, client_of_new = started(wanted=False)
    assert directories.owned_by(new.provisioner.pid)
    for code in ("1 + 1", ":vars"):
        assert results(client, code) == results(client_of_new, code) != []
    with pytest.raises(errors.UserError, match="cannot find"):
        measure.printed(client, 'println!("{:?}", col("x"));')
    with pytest.raises(errors.UserError, match="cannot find value `warm_up`"):
        measure.printed(client, "drop(warm_up);")
    assert measure.printed(client, LOAD) == ""
    assert measure.printed(client, 'println!("{}", col("x"));') == 'col("x")\n'

    second = wait_for_spare()
    manager.restart_kernel(now=True)
    client.wait_for_ready(timeout=60)
    assert prewarmed_kernels() == set() and second.exists() and not first.exists()
    assert measure.printed(client, f'{LOAD}\nprintln!("{{}}", col("x"));') == 'col("x")\n'


def test_at_most_one_kernel_is_prewarmed_for_its_server(started, monkeypatch):
    for _ in range(3):
        prewarmed.start(os.getpid())
    first = wait_for_spare()
    time.sleep(2)
    assert prewarmed_kernels() == {first}
    # Of another working directory, or of another server.
    manager, _ = started(paths.ROOT, wanted=False)
    assert directories.owned_by(manager.provisioner.pid) and prewarmed_kernels() == {first}
    monkeypatch.chdir(paths.NOTEBOOKS)
    assert prewarmed.take(handoff.Handoff(os.getpid(), os.getppid(), "connection.json")) is None
    assert prewarmed_kernels() == {first}


def test_prewarmed_kernel_of_a_killed_launcher_is_removed():
    prewarmed.start(os.getpid())
    directory = wait_for_spare()
    (directory / directories.PREWARMED).unlink()
    deadline = time.monotonic() + handoff.HANDOFF_SECONDS + 10
    while directory.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not directory.exists()


def test_edit_of_the_library_ends_the_prewarmed_kernel(started):
    source = paths.LIBRARY / "src" / "lib.rs"
    committed = source.read_text()
    prewarmed.start(os.getpid())
    before = wait_for_spare()
    try:
        source.write_text(f"{committed}\n/// For a test.\npub fn edited() -> u32 {{ 7 }}\n")
        manager, client = started(wanted=False)
        assert directories.owned_by(manager.provisioner.pid) and prewarmed_kernels() == set()
        measure.printed(client, LOAD)
        assert measure.printed(client, 'println!("{}", wearable_demo::edited());') == "7\n"
        assert not before.exists()
    finally:
        source.write_text(committed)


def test_killed_server_ends_its_prewarmed_kernel():
    script = textwrap.dedent("""
        import os, time
        from wearable_jupyter.kernel import prewarmed
        prewarmed.start(os.getpid())
        time.sleep(600)
    """)
    server = subprocess.Popen([sys.executable, "-c", script])
    wait_for_spare()
    server.kill()
    server.wait()


def test_next_kernel_ends_leftovers_of_a_killed_prewarmed_kernel():
    """Nobody else watches it: it has no launcher yet, and its server does not know of it."""
    prewarmed.start(os.getpid())
    directory = wait_for_spare()
    evcxr = psutil.Process(directories.evcxr(directory))
    os.kill(directories.owner_pid(directory), signal.SIGKILL)
    time.sleep(1)
    assert evcxr.is_running() and directory.exists()
    directories.sweep()
    evcxr.wait(10)
    assert not directory.exists()


def test_kernels_are_prewarmed_for_enabled_servers_only(monkeypatch):
    monkeypatch.setenv(prewarmed.VARIABLE, "0")
    assert not prewarmed.enable(7) and not prewarmed.is_enabled(7)
    monkeypatch.delenv(prewarmed.VARIABLE)
    assert not prewarmed.is_enabled(7)
    assert prewarmed.enable(7) and prewarmed.is_enabled(7)
    # What is run headless in a terminal of JupyterLab's inherits the variable.
    assert not prewarmed.is_enabled(8)


def test_no_kernel_is_prewarmed_if_memory_is_short(monkeypatch):
    before = set(directories.list_kernels())
    monkeypatch.setattr(prewarm, "MIN_AVAILABLE", psutil.virtual_memory().total)
    prewarm.prewarm(os.getpid())
    assert set(directories.list_kernels()) == before
