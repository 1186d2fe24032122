"""Workers, and the server, killed under a query: the right rows, or a clear error.

Each victim is killed when the cluster says that it has done what the test wants, and not after a
while.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace

import psutil
import pytest
from conftest import SETTINGS, Asker, by_polars, generated, needs_java
from kubernetes import Kubernetes
from test_engines import next_stage, wait_for_work

from wearable_jupyter.cluster import commands, engines
from wearable_jupyter.cluster.processes import LOOPBACK, Processes
from wearable_jupyter.setup.venvs import ensure_venv

# How often a worker is killed: one time each at three moments; `WEARABLE_KILLS=20` for more.
KILLS = int(os.environ.get("WEARABLE_KILLS", "3"))
A_MINUTE = 60
EXECUTOR = "CoarseGrainedExecutorBackend"
# Of the bytes that a worker of Sail's reads for the query of the large dataset; before it, 60 kB.
A_TENTH = 2_000_000
MOMENTS = ("after its first tasks", "before its first task", "in the shuffle")


@pytest.fixture
def spark():
    """A Spark of this test's own, for it loses workers."""
    needs_java()
    with commands.running("spark", 2, **SETTINGS) as started:
        yield started


def executor_of(worker: psutil.Process) -> psutil.Process:
    """The process that runs a worker's tasks."""
    (found,) = (p for p in worker.children(recursive=True) if EXECUTOR in words(p))
    return found


def words(process: psutil.Process) -> str:
    """Its command; nothing of one that has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def kill(worker: psutil.Process) -> None:
    """A worker and its executor, as a machine that loses power."""
    for process in (executor_of(worker), worker):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)


def id_of(executor: psutil.Process) -> str:
    """What Spark calls it."""
    line = executor.cmdline()
    return line[line.index("--executor-id") + 1]


def of(page: str, executor: str) -> dict:
    """What Spark says of an executor, also of one that is gone."""
    everyone = engines.rest(page, "allexecutors")
    return next(one for one in everyone if one["id"] == executor)


def tasks(page: str, before: int) -> list[dict]:
    """Every task of a new query's stages, and again those that were done again."""
    found = []
    for stage in engines.rest(page, "stages"):
        if stage["stageId"] >= before and stage["status"] != "SKIPPED":
            place = f"stages/{stage['stageId']}/{stage['attemptId']}/taskList?length=1000"
            found += [task | {"of": stage["numTasks"]} for task in engines.rest(page, place)]
    return found


def has_left_something(page: str, executor: str, before: int) -> bool:
    """Whether it is done with a task of the many that read the sensor's files."""
    done = (t for t in tasks(page, before) if t["of"] >= 10 and t["status"] == "SUCCESS")
    return any(task["executorId"] == executor for task in done)


def shuffles(page: str, before: int) -> bool:
    """Whether a stage of a new query has left all that the next one takes."""
    stages = [stage for stage in engines.rest(page, "stages") if stage["stageId"] >= before]
    return any(s["shuffleWriteBytes"] and s["status"] == "COMPLETE" for s in stages)


def wait_until(what: str, happened) -> None:
    deadline = time.monotonic() + A_MINUTE
    while not happened():
        assert time.monotonic() < deadline, f"{what} did not happen within a minute"
        time.sleep(0.02)


def test_a_worker_that_is_killed_costs_time_and_no_rows(spark, asker, expected):
    cluster, processes = spark
    page = cluster.page
    asker.ask(cluster).assert_is(expected)
    calm = len(tasks(page, 0))
    for kills in range(1, KILLS + 1):
        moment = MOMENTS[kills % 3]
        victim = psutil.Process(processes.running[f"worker-{kills}"].pid)
        name = id_of(executor_of(victim))
        before = next_stage(page)
        if moment == "before its first task":
            kill(victim)
        running = asker.start(cluster)
        if moment == "after its first tasks":
            wait_until("a task", lambda n=name, b=before: has_left_something(page, n, b))
            kill(victim)
        elif moment == "in the shuffle":
            wait_until("a shuffle", lambda b=before: shuffles(page, b))
            kill(victim)
        asker.finish(running).assert_is(expected)
        again = len(tasks(page, before)) - calm
        print(f"kill {kills}, {moment}: {again} of {calm} tasks were done again")
        # What it had left for others is lost with it.
        assert again >= (0 if moment == "before its first task" else 1)
        wait_until("the loss", lambda n=name: not of(page, n)["isActive"])
        assert of(page, name)["removeReason"]
        engines.add_worker(processes, cluster.master, kills + 2)
        wait_until("another worker", lambda: len(engines.executors(page)) == 2)


class Cable:
    """A way to a port of loopback that can break, and be whole again for who connects anew."""

    def __init__(self, port: int) -> None:
        self.port, self.ends, self.connections = port, [], 0
        self.listening = socket.create_server((LOOPBACK, 0))
        self.remote = f"sc://{LOOPBACK}:{self.listening.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self.listening.accept()
                there = socket.create_connection((LOOPBACK, self.port))
                self.ends += [here, there]
                for one, other in ((here, there), (there, here)):
                    threading.Thread(target=self.carry, args=(one, other), daemon=True).start()

    def carry(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            first = True
            while data := one.recv(1 << 16):
                # The client also looks whether somebody listens, and says nothing then.
                self.connections += first and data.startswith(b"PRI ")
                first = False
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        for end in self.ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_a_connection_that_breaks_costs_no_rows(spark, asker, expected):
    cluster, _ = spark
    cable = Cable(int(cluster.remote.rsplit(":", 1)[1]))
    for _ in range(KILLS):
        before = next_stage(cluster.page)
        running = asker.start(replace(cluster, remote=cable.remote))
        wait_for_work(cluster.page, before)
        connections = cable.connections
        cable.cut()
        asker.finish(running).assert_is(expected)
        assert cable.connections > connections  # it has come again
    cable.listening.close()


def test_without_any_worker_there_is_an_error_within_a_minute(spark, asker):
    cluster, processes = spark
    before = next_stage(cluster.page)
    running = asker.start(cluster, "--without-workers", "15")
    wait_for_work(cluster.page, before)
    for name in ("worker-1", "worker-2"):
        kill(psutil.Process(processes.running[name].pid))
    started = time.monotonic()
    answer = asker.finish(running)
    assert answer.code == 1 and time.monotonic() - started < A_MINUTE
    assert "No worker is left" in answer.said or "A worker was lost" in answer.said
    assert not answer.folder.exists()


def test_a_server_that_is_killed_is_said(spark, asker):
    cluster, processes = spark
    before = next_stage(cluster.page)
    running = asker.start(cluster)
    wait_for_work(cluster.page, before)
    processes.running["connect"].kill()
    answer = asker.finish(running, seconds=A_MINUTE)
    assert answer.code == 1 and "went away during the query" in answer.said
    assert not answer.folder.exists()


def bytes_read(process: subprocess.Popen) -> int:
    """How much it has asked the system for; nothing of one that has just ended."""
    try:
        return psutil.Process(process.pid).io_counters().read_chars
    except psutil.Error:
        return 0


def test_sail_fails_a_query_whose_worker_is_lost_and_does_the_next(client, tmp_path):
    """Its workers are processes only as pods; each session has its own."""
    # So that a worker is seen to read, and has more to read then.
    data = generated(tmp_path / "data", "large")
    asker, expected = Asker(client, data, tmp_path / "answer"), by_polars(data)
    program = ensure_venv("cluster-sail", engines.HERE / "sail.txt") / "sail"
    with Processes(tmp_path) as pods:
        settings = Kubernetes(program, pods).settings()
        with commands.running("sail", 2, **settings) as (cluster, _):
            for kills in range(1, KILLS + 1):
                before = set(pods.running)
                running, lost = asker.start(cluster, "--quiet"), None
                while running.poll() is None and lost is None:
                    new = [pods.running[name] for name in set(pods.running) - before]
                    lost = next((worker for worker in new if bytes_read(worker) > A_TENTH), None)
                assert lost is not None, "the query was over before a worker was seen to read"
                lost.kill()
                print(f"kill {kills}")
                answer = asker.finish(running)
                assert answer.code == 1 and not answer.folder.exists()
                assert "A worker was lost, and the query with it" in answer.said
                assert "Run it again" in answer.said
                asker.ask(cluster, "--quiet").assert_is(expected)


@pytest.mark.parametrize("engine", ["sail", pytest.param("spark", marks=pytest.mark.long)])
def test_nothing_is_left_of_a_cluster(engine, tmp_path):
    """Ended by Ctrl-C, and its recipe killed."""
    if engine == "spark":
        needs_java()
    for number in (signal.SIGINT, signal.SIGKILL):
        log = tmp_path / "said"
        with log.open("w") as said:
            recipe = subprocess.Popen(
                [sys.executable, "-m", "wearable_jupyter", "cluster", "--engine", engine],
                stdout=said,
                stderr=said,
            )
        wait_until("a start", lambda log=log: "./justw cluster query" in log.read_text())
        assert commands.find_running(engine) is not None
        children = psutil.Process(recipe.pid).children(recursive=True)
        assert children
        recipe.send_signal(number)
        recipe.wait(40)
        _, left = psutil.wait_procs(children, timeout=30)
        assert not left, left
        assert commands.find_running(engine) is None
