"""Tests that kill workers or the server during a query, and expect the right rows or a clear error.

A test kills a process when the cluster reports the awaited progress, and not after a fixed time.
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
from conftest import SETTINGS, Client, by_polars, generated, needs_java
from kubernetes import Kubernetes
from test_engines import next_stage, wait_for_work

from wearable_jupyter.bootstrap.platform import LOOPBACK
from wearable_jupyter.cluster import commands, engines
from wearable_jupyter.cluster.processes import Processes
from wearable_jupyter.setup.venvs import ensure_venv

# How often a test kills a worker; by default once at each of three moments.
KILLS = int(os.environ.get("WEARABLE_KILLS", "3"))
A_MINUTE = 60
EXECUTOR = "CoarseGrainedExecutorBackend"
# About a tenth of the bytes that a Sail worker reads for the large dataset; its start reads 60 kB.
A_TENTH = 2_000_000
MOMENTS = ("after its first tasks", "before its first task", "in the shuffle")


@pytest.fixture
def spark():
    """A separate Spark for each test, because the tests kill workers."""
    needs_java()
    with commands.running("spark", 2, **SETTINGS) as started:
        yield started


def executor_of(worker: psutil.Process) -> psutil.Process:
    """The process that runs a worker's tasks."""
    (executor,) = (p for p in worker.children(recursive=True) if EXECUTOR in command_line(p))
    return executor


def command_line(process: psutil.Process) -> str:
    """The command line of a process; empty if the process has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def kill(worker: psutil.Process) -> None:
    """Kill a worker and its executor, like a power failure of its machine."""
    for process in (executor_of(worker), worker):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)


def id_of(executor: psutil.Process) -> str:
    """The number of an executor in Spark."""
    line = executor.cmdline()
    return line[line.index("--executor-id") + 1]


def executor_state(page: str, number: str) -> dict:
    """Spark's report of an executor, which may have been removed."""
    executors = engines.rest(page, "allexecutors")
    return next(executor for executor in executors if executor["id"] == number)


def tasks(page: str, before: int) -> list[dict]:
    """The tasks of all stages from number `before` on, including repeated tasks."""
    all_tasks = []
    for stage in engines.rest(page, "stages"):
        if stage["stageId"] >= before and stage["status"] != "SKIPPED":
            path = f"stages/{stage['stageId']}/{stage['attemptId']}/taskList?length=1000"
            count = {"stage_tasks": stage["numTasks"]}
            all_tasks += [task | count for task in engines.rest(page, path)]
    return all_tasks


def has_completed_scan_task(page: str, executor: str, before: int) -> bool:
    """Whether the executor has completed a task that reads sensor files.

    Only the stage that reads these files has 10 tasks or more.
    """
    done = (t for t in tasks(page, before) if t["stage_tasks"] >= 10 and t["status"] == "SUCCESS")
    return any(task["executorId"] == executor for task in done)


def has_completed_shuffle(page: str, before: int) -> bool:
    """Whether a stage from number `before` on has written all its rows for the next one."""
    stages = [stage for stage in engines.rest(page, "stages") if stage["stageId"] >= before]
    return any(s["shuffleWriteBytes"] and s["status"] == "COMPLETE" for s in stages)


def wait_until(what: str, happened) -> None:
    deadline = time.monotonic() + A_MINUTE
    while not happened():
        assert time.monotonic() < deadline, f"{what} did not happen within a minute"
        time.sleep(0.02)


def test_spark_repeats_the_work_of_a_killed_worker(spark, client, expected):
    cluster, processes = spark
    page = cluster.page
    client.run(cluster).assert_result(expected)
    undisturbed = len(tasks(page, 0))
    for kills in range(1, KILLS + 1):
        moment = MOMENTS[kills % 3]
        victim = psutil.Process(processes.running[f"worker-{kills}"].pid)
        name = id_of(executor_of(victim))
        before = next_stage(page)
        if moment == "before its first task":
            kill(victim)
        running = client.start(cluster)
        if moment == "after its first tasks":
            wait_until("a task", lambda n=name, b=before: has_completed_scan_task(page, n, b))
            kill(victim)
        elif moment == "in the shuffle":
            wait_until("a shuffle", lambda b=before: has_completed_shuffle(page, b))
            kill(victim)
        client.wait(running).assert_result(expected)
        repeated = len(tasks(page, before)) - undisturbed
        print(f"kill {kills}, {moment}: {repeated} of {undisturbed} tasks were repeated")
        # The worker's shuffle files are lost with it.
        assert repeated >= (0 if moment == "before its first task" else 1)
        wait_until("the loss", lambda n=name: not executor_state(page, n)["isActive"])
        assert executor_state(page, name)["removeReason"]
        engines.add_worker(processes, cluster.master, kills + 2)
        wait_until("another worker", lambda: len(engines.executors(page)) == 2)


class TcpProxy:
    """Forwards connections to a port of loopback; `cut` breaks all of them, but not later ones."""

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
                    threading.Thread(target=self.forward, args=(one, other), daemon=True).start()

    def forward(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            first = True
            while data := one.recv(1 << 16):
                # Do not count the client's checks of the port, which send nothing.
                self.connections += first and data.startswith(b"PRI ")
                first = False
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        for end in self.ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_client_reconnects_after_a_broken_connection(spark, client, expected):
    cluster, _ = spark
    proxy = TcpProxy(int(cluster.remote.rsplit(":", 1)[1]))
    for _ in range(KILLS):
        before = next_stage(cluster.page)
        running = client.start(replace(cluster, remote=proxy.remote))
        wait_for_work(cluster.page, before)
        connections = proxy.connections
        proxy.cut()
        client.wait(running).assert_result(expected)
        assert proxy.connections > connections
    proxy.listening.close()


def test_loss_of_all_workers_is_reported_within_a_minute(spark, client):
    cluster, processes = spark
    before = next_stage(cluster.page)
    running = client.start(cluster, "--without-workers", "15")
    wait_for_work(cluster.page, before)
    for name in ("worker-1", "worker-2"):
        kill(psutil.Process(processes.running[name].pid))
    started = time.monotonic()
    run = client.wait(running)
    assert run.code == 1 and time.monotonic() - started < A_MINUTE
    assert "has had no worker for" in run.output or "because a worker was lost" in run.output
    assert not run.folder.exists()


def test_killed_server_is_reported(spark, client):
    cluster, processes = spark
    before = next_stage(cluster.page)
    running = client.start(cluster)
    wait_for_work(cluster.page, before)
    processes.running["connect"].kill()
    run = client.wait(running, seconds=A_MINUTE)
    assert run.code == 1 and "stopped during the query" in run.output
    assert not run.folder.exists()


def bytes_read(process: subprocess.Popen) -> int:
    """The bytes that a process has read by system calls; 0 if the process has ended."""
    try:
        return psutil.Process(process.pid).io_counters().read_chars
    except psutil.Error:
        return 0


def test_sail_reports_a_lost_worker_and_runs_the_next_query(program, tmp_path):
    """Only as pods are Sail's workers processes; each session has separate workers."""
    # A large dataset, so that a worker is still reading when the test kills it.
    data = generated(tmp_path / "data", "large")
    client, expected = Client(program, data, tmp_path / "result"), by_polars(data)
    sail = ensure_venv("cluster-sail", engines.HERE / "sail.txt") / "sail"
    with Processes(tmp_path) as pods:
        settings = Kubernetes(sail, pods).settings()
        with commands.running("sail", 2, **settings) as (cluster, _):
            for kills in range(1, KILLS + 1):
                before = set(pods.running)
                running, lost = client.start(cluster, "--quiet"), None
                while running.poll() is None and lost is None:
                    new = [pods.running[name] for name in set(pods.running) - before]
                    lost = next((worker for worker in new if bytes_read(worker) > A_TENTH), None)
                assert lost is not None, "the query ended before a worker had read a tenth"
                lost.kill()
                print(f"kill {kills}")
                run = client.wait(running)
                assert run.code == 1 and not run.folder.exists()
                assert "The query failed because a worker was lost" in run.output
                assert "Run the query again" in run.output
                client.run(cluster, "--quiet").assert_result(expected)


@pytest.mark.parametrize("engine", ["sail", pytest.param("spark", marks=pytest.mark.long)])
def test_stopped_or_killed_cluster_leaves_no_process(engine, tmp_path):
    """Stopped by Ctrl-C, and its `./justw cluster` killed."""
    if engine == "spark":
        needs_java()
    for number in (signal.SIGINT, signal.SIGKILL):
        log = tmp_path / "output"
        with log.open("w") as output:
            recipe = subprocess.Popen(
                [sys.executable, "-m", "wearable_jupyter", "cluster", "--engine", engine],
                stdout=output,
                stderr=output,
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
