"""A prewarmed kernel equals a new one, and a server has at most one."""

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
def no_other_prewarmed_kernel():
    """Skip if the user has a prewarmed kernel, because the tests would end it."""
    if prewarmed_kernels():
        pytest.skip("JupyterLab runs in this clone, with a prewarmed kernel: stop JupyterLab first")


def wait_for_prewarmed():
    """Wait for a prewarmed kernel whose evcxr runs, and return its directory."""
    deadline = time.monotonic() + supervisor.QUIET_SECONDS + 30
    while time.monotonic() < deadline:
        for directory in prewarmed_kernels():
            if prewarmed.read_purpose(directory):
                return directory
        time.sleep(0.1)
    pytest.fail("no kernel was prewarmed")


def results(client, code: str) -> list[dict]:
    """The number of a cell and its results."""
    shown = []
    reply = client.execute_interactive(code, timeout=60, output_hook=shown.append)
    return [reply["content"]["execution_count"], *(m["content"].get("data") for m in shown)]


@pytest.fixture
def started(monkeypatch):
    """Starts kernels like `./justw lab`. They and a prewarmed kernel are ended after the test."""
    monkeypatch.setenv(prewarmed.VARIABLE, str(os.getpid()))
    kernels = []

    def start(directory=paths.NOTEBOOKS, use_prewarmed=True):
        environment = os.environ | ({} if use_prewarmed else {prewarmed.VARIABLE: "0"})
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
    first = wait_for_prewarmed()
    manager, client = started()
    assert prewarmed_kernels() == set() and first.exists()
    # The supervisor of the prewarmed kernel owns the directory, not the launcher.
    assert directories.owned_by(manager.provisioner.pid) == []

    new, client_of_new = started(use_prewarmed=False)
    assert directories.owned_by(new.provisioner.pid)
    for code in ("1 + 1", ":vars"):
        assert results(client, code) == results(client_of_new, code) != []
    with pytest.raises(errors.UserError, match="cannot find"):
        measure.printed(client, 'println!("{:?}", col("x"));')
    with pytest.raises(errors.UserError, match="cannot find value `warm_up`"):
        measure.printed(client, "drop(warm_up);")
    assert measure.printed(client, LOAD) == ""
    assert measure.printed(client, 'println!("{}", col("x"));') == 'col("x")\n'

    second = wait_for_prewarmed()
    manager.restart_kernel(now=True)
    client.wait_for_ready(timeout=60)
    assert prewarmed_kernels() == set() and second.exists() and not first.exists()
    assert measure.printed(client, f'{LOAD}\nprintln!("{{}}", col("x"));') == 'col("x")\n'


def test_at_most_one_kernel_is_prewarmed_for_its_server(started, monkeypatch):
    for _ in range(3):
        prewarmed.start(os.getpid())
    first = wait_for_prewarmed()
    time.sleep(2)
    assert prewarmed_kernels() == {first}
    # A kernel in another working directory, or of another server, does not take it.
    manager, _ = started(paths.ROOT, use_prewarmed=False)
    assert directories.owned_by(manager.provisioner.pid) and prewarmed_kernels() == {first}
    monkeypatch.chdir(paths.NOTEBOOKS)
    assert prewarmed.take(handoff.Handoff(os.getpid(), os.getppid(), "connection.json")) is None
    assert prewarmed_kernels() == {first}


def test_prewarmed_kernel_of_a_killed_launcher_is_removed():
    prewarmed.start(os.getpid())
    directory = wait_for_prewarmed()
    (directory / directories.PREWARMED).unlink()
    deadline = time.monotonic() + handoff.HANDOFF_SECONDS + 10
    while directory.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not directory.exists()


def test_edit_of_the_library_ends_the_prewarmed_kernel(started):
    source = paths.LIBRARY / "src" / "lib.rs"
    committed = source.read_text()
    prewarmed.start(os.getpid())
    before = wait_for_prewarmed()
    try:
        source.write_text(f"{committed}\n/// For a test.\npub fn edited() -> u32 {{ 7 }}\n")
        manager, client = started(use_prewarmed=False)
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
    wait_for_prewarmed()
    server.kill()
    server.wait()


def test_next_kernel_ends_leftovers_of_a_killed_prewarmed_kernel():
    """Nothing else would end it: it has no launcher, and its server has no record of it."""
    prewarmed.start(os.getpid())
    directory = wait_for_prewarmed()
    evcxr = psutil.Process(directories.evcxr(directory))
    os.kill(directories.owner_pid(directory), signal.SIGKILL)
    time.sleep(1)
    assert evcxr.is_running() and directory.exists()
    directories.remove_stale()
    evcxr.wait(10)
    assert not directory.exists()


def test_kernels_are_prewarmed_for_enabled_servers_only(monkeypatch):
    monkeypatch.setenv(prewarmed.VARIABLE, "0")
    assert not prewarmed.enable(7) and not prewarmed.is_enabled(7)
    monkeypatch.delenv(prewarmed.VARIABLE)
    assert not prewarmed.is_enabled(7)
    assert prewarmed.enable(7) and prewarmed.is_enabled(7)
    # A headless run in a terminal of JupyterLab inherits the variable.
    assert not prewarmed.is_enabled(8)


def test_no_kernel_is_prewarmed_if_memory_is_short(monkeypatch):
    before = prewarmed_kernels()
    monkeypatch.setattr(prewarm, "MIN_AVAILABLE", psutil.virtual_memory().total)
    prewarm.prewarm(os.getpid())
    assert prewarmed_kernels() == before
