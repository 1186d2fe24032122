"""Every kernel replies: new ones and prewarmed ones, many in a row.

An earlier proxy requested evcxr's first message only once, and evcxr published it before the
proxy's subscription was active. Then one prewarmed kernel in three never replied.
"""

import json
import os
import signal
import subprocess
import time

import pytest
from jupyter_client.manager import KernelManager

from wearable_jupyter.kernel import directories, prewarmed, proxy
from wearable_jupyter.kernel.events import Events
from wearable_jupyter.setup import caches, paths, toolchain

pytestmark = pytest.mark.usefixtures("nothing_left")

# Prewarming takes longest; a kernel that does not reply within this time has failed.
PREWARM_SECONDS, REPLY_SECONDS = 180, 120


def prewarmed_kernels() -> set:
    return {path for path in directories.list_kernels() if directories.is_prewarmed(path)}


def prewarm() -> None:
    """Wait for a prewarmed kernel whose evcxr has published its first status long ago."""
    prewarmed.start(os.getpid())
    deadline = time.monotonic() + PREWARM_SECONDS
    while time.monotonic() < deadline:
        for directory in prewarmed_kernels():
            # The last step before it waits for requests is the compilation of the warm-up.
            # `walk` ignores directories that rustc deletes meanwhile.
            files = (name for *_, names in os.walk(directory / "project") for name in names)
            compiled = any("code_" in name and name.endswith(".so") for name in files)
            if compiled and prewarmed.read_purpose(directory):
                time.sleep(0.5)
                return
        time.sleep(0.1)
    pytest.fail("there is no prewarmed kernel")


def replies() -> str | None:
    """Start a kernel, run a cell, and shut down. Returns the output; None without a reply."""
    manager = KernelManager(kernel_name="rust")
    manager.start_kernel(cwd=str(paths.NOTEBOOKS))
    client = manager.client()
    printed = []
    try:
        client.start_channels()
        client.wait_for_ready(timeout=REPLY_SECONDS)
        client.execute_interactive(
            'println!("{}", 6 * 7);',
            timeout=REPLY_SECONDS,
            output_hook=lambda m: printed.append(m["content"].get("text", "")),
        )
    except (RuntimeError, TimeoutError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return "".join(printed)


COUNTS = [2, pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(7200)])]


@pytest.mark.parametrize("count", COUNTS)
def test_every_new_kernel_replies(count, monkeypatch):
    monkeypatch.setenv(prewarmed.VARIABLE, "0")
    assert [replies() for _ in range(count)] == ["42\n"] * count


@pytest.mark.parametrize("count", COUNTS)
def test_every_prewarmed_kernel_replies(count, monkeypatch):
    if prewarmed_kernels():
        pytest.skip("JupyterLab runs in this clone, with a spare kernel: stop it first")
    monkeypatch.setenv(prewarmed.VARIABLE, str(os.getpid()))
    got = []
    try:
        for _ in range(count):
            prewarm()
            (directory,) = prewarmed_kernels()
            got.append(replies())
            assert directory not in prewarmed_kernels(), "it was not taken"
    finally:
        for directory in prewarmed_kernels():
            os.kill(directories.owner_pid(directory), signal.SIGTERM)
    assert got == ["42\n"] * count


def test_hundred_proxies_in_sequence_receive_messages_of_a_running_evcxr(tmp_path):
    """Each proxy has a new subscription, like the proxy of a prewarmed kernel."""
    folders = [tmp_path / name for name in ("evcxr", "config", "jupyter")]
    for folder in folders:
        folder.mkdir()
    directories.write_connection(tmp_path / "private")
    environment = toolchain.kernel_environment() | toolchain.with_standard_library()
    names = ("EVCXR_TMPDIR", "EVCXR_CONFIG_DIR", "JUPYTER_PATH")
    environment |= dict(zip(names, map(str, folders), strict=True))
    evcxr = subprocess.Popen(
        [caches.evcxr(), "--control_file", tmp_path / "private"],
        env=environment,
        process_group=0,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    private = json.loads((tmp_path / "private").read_text())
    try:
        for number in range(100):
            directory = tmp_path / str(number)
            directory.mkdir()
            directories.write_connection(directory / "public")
            public = json.loads((directory / "public").read_text())
            relay = proxy.Proxy(public, private, Events(directory), directory)
            # The first proxy waits until evcxr has started.
            deadline = time.monotonic() + (REPLY_SECONDS if number == 0 else 20)
            while not relay.execution.is_ready and time.monotonic() < deadline:
                relay.step(0.1)
            assert relay.execution.is_ready, f"number {number}"
            relay.context.destroy(linger=0)
            os.close(relay.events.pipe)
    finally:
        directories.end(evcxr.pid)
        evcxr.wait()
