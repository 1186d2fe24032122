"""Tests that need no cluster; those that need one are in `cluster_tests`."""

import json
import os
import subprocess
import sys

import psutil
import pytest

from wearable_jupyter.bootstrap import platform
from wearable_jupyter.cluster import commands, engines, processes
from wearable_jupyter.setup.errors import UserError


@pytest.fixture
def logs(tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "logs_folder", lambda: tmp_path)
    return tmp_path


def write_state(logs, engine: str, process: int, since: float = 0.0) -> None:
    (logs / engine).mkdir(exist_ok=True)
    cluster = {"engine": engine, "workers": 2, "remote": "sc://127.0.0.1:1"}
    state = {"process": process, "since": since, **cluster}
    (logs / engine / "running.json").write_text(json.dumps(state))


def test_query_without_a_cluster_reports_how_to_start_one(logs):
    with pytest.raises(UserError, match=r"No cluster of this clone is running.*\./justw cluster"):
        commands.query([])
    dead = subprocess.Popen(["true"])
    dead.wait()
    write_state(logs, "sail", dead.pid)
    with pytest.raises(UserError, match="No cluster of this clone is running"):
        commands.query([])


@pytest.mark.parametrize(
    "process", [1, os.getpid(), -1, "1", None], ids=["init", "own", "negative", "text", "none"]
)
def test_stale_state_file_with_a_reused_process_number_is_ignored(logs, process):
    write_state(logs, "sail", process, since=1.5)
    assert commands.find_running("sail") is None


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '{"process": 1}'])
def test_damaged_state_file_is_ignored(logs, content):
    (logs / "sail").mkdir()
    (logs / "sail" / "running.json").write_text(content)
    assert commands.find_running("sail") is None


def test_ambiguous_engine_and_second_cluster_of_an_engine_are_reported(logs):
    for engine in engines.ENGINES:
        write_state(logs, engine, os.getpid(), commands.start_time(os.getpid()))
        assert commands.find_running(engine).remote == "sc://127.0.0.1:1"
    with pytest.raises(UserError, match=r"both engines are running.*--engine spark"):
        commands.query([])
    with (
        pytest.raises(UserError, match=r"sail is already running at sc://127\.0\.0\.1:1"),
        commands.running("sail", 1),
    ):
        pass


@pytest.mark.parametrize(
    "version, missing", [(None, "java is missing"), ("11.0.2", "but .*/java is openjdk")]
)
def test_missing_or_old_java_is_reported(tmp_path, monkeypatch, version, missing):
    if version is not None:
        java = tmp_path / "java"
        java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
        java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin" if version else str(tmp_path))
    with pytest.raises(UserError, match=rf"{missing}.*apt install openjdk-17-jre-headless"):
        engines.java()


def test_ended_process_is_reported_and_the_others_are_ended(tmp_path):
    with (
        pytest.raises(UserError, match="short ended with exit code 3: its last line"),
        processes.Processes(tmp_path) as started,
    ):
        long = started.start("long", "sleep", "600")
        started.start("short", "sh", "-c", "echo its last line; exit 3")
        started.wait_for("nothing", lambda: False, seconds=20)
    assert long.poll() is not None


def test_process_does_not_start_if_its_parent_ended_before_it_requested_the_signal(tmp_path):
    """The process then has another parent, and would never receive the signal."""
    ran = tmp_path / "ran"
    command = [*platform.end_with_parent(), "touch", str(ran)]
    subprocess.run(command, check=True)
    ran.unlink()
    # The shell in between is another parent than this process.
    subprocess.run(["sh", "-c", '"$@"; true', "sh", *command], check=True)
    assert not ran.exists()


def test_processes_end_if_their_parent_is_killed(tmp_path):
    code = (
        "import os, pathlib, signal\n"
        "from wearable_jupyter.cluster.processes import Processes\n"
        f"started = Processes(pathlib.Path({str(tmp_path)!r})).start('long', 'sleep', '600')\n"
        "print(started.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    parent = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    child = int(parent.stdout)
    _, alive = psutil.wait_procs([psutil.Process(child)] if psutil.pid_exists(child) else [], 10)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
