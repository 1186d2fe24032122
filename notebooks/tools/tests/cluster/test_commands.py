"""What can be said without a cluster; what needs one is in `cluster_tests`."""

import json
import os
import subprocess
import sys

import psutil
import pytest

from wearable_jupyter.cluster import commands, engines, processes
from wearable_jupyter.setup.errors import UserError


@pytest.fixture
def logs(tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "logs_folder", lambda: tmp_path)
    return tmp_path


def says_it_runs(logs, engine: str, process: int, since: float = 0.0) -> None:
    (logs / engine).mkdir(exist_ok=True)
    cluster = {"engine": engine, "workers": 2, "remote": "sc://127.0.0.1:1"}
    state = {"process": process, "since": since, **cluster}
    (logs / engine / "running.json").write_text(json.dumps(state))


def test_without_a_cluster_a_query_says_how_to_start_one(logs):
    with pytest.raises(UserError, match=r"no cluster of this clone runs.*\./justw cluster"):
        commands.query([])
    dead = subprocess.Popen(["true"])
    dead.wait()
    says_it_runs(logs, "sail", dead.pid)
    with pytest.raises(UserError, match="no cluster of this clone runs"):
        commands.query([])


@pytest.mark.parametrize("process", [1, os.getpid(), -1, "1", None])
def test_a_stale_file_with_the_number_of_another_process_is_no_cluster(logs, process):
    says_it_runs(logs, "sail", process, since=1.5)
    assert commands.find_running("sail") is None


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '{"process": 1}'])
def test_a_damaged_file_is_no_cluster(logs, content):
    (logs / "sail").mkdir()
    (logs / "sail" / "running.json").write_text(content)
    assert commands.find_running("sail") is None


def test_which_of_two_is_asked_for_and_one_of_a_kind_is_enough(logs):
    for engine in engines.ENGINES:
        says_it_runs(logs, engine, os.getpid(), commands.since(os.getpid()))
        assert commands.find_running(engine).remote == "sc://127.0.0.1:1"
    with pytest.raises(UserError, match=r"both engines run.*--engine spark"):
        commands.query([])
    with (
        pytest.raises(UserError, match=r"sail runs already, at sc://127\.0\.0\.1:1"),
        commands.running("sail", 1),
    ):
        pass


@pytest.mark.parametrize("version, missing", [(None, "there is none"), ("11.0.2", "here is")])
def test_spark_says_which_java_it_needs(tmp_path, monkeypatch, version, missing):
    if version is not None:
        java = tmp_path / "java"
        java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
        java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin" if version else str(tmp_path))
    with pytest.raises(UserError, match=rf"{missing}.*apt install openjdk-17-jre-headless"):
        engines.java()


def test_a_process_that_ends_is_said_and_all_others_are_ended(tmp_path):
    with (
        pytest.raises(UserError, match="short ended with 3: its last word"),
        processes.Processes(tmp_path) as started,
    ):
        long = started.start("long", "sleep", "600")
        started.start("short", "sh", "-c", "echo its last word; exit 3")
        started.wait_for("nothing", lambda: False, seconds=20)
    assert long.poll() is not None


def test_a_process_whose_parent_is_gone_before_it_asks_for_the_signal_does_not_start(tmp_path):
    """Its parent is then another one, and no signal would come."""
    ran = tmp_path / "ran"
    words = [*processes.end_with_the_parent(), "touch", str(ran)]
    subprocess.run(words, check=True)
    ran.unlink()
    # A shell in between is a parent that this process is not.
    subprocess.run(["sh", "-c", '"$@"; true', "sh", *words], check=True)
    assert not ran.exists()


def test_processes_end_with_a_parent_that_is_killed(tmp_path):
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
