"""`./justw cluster`: start one, query it, test it, measure it."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import psutil

from ..setup import paths, toolchain
from ..setup.atomic_write import write
from ..setup.build import prerequisites, run_cargo
from ..setup.errors import UserError
from ..setup.venvs import ensure_venv
from .engines import ENGINES, HERE, Running, logs_folder
from .processes import Processes

CRATE = paths.ROOT / "crates" / "spark_connect_query"
# The query that the client sends, and Spark's plan of it.
SQL = paths.LIBRARY / "src" / "summary.sql"
PLAN = paths.LIBRARY / "src" / "summary.plan.txt"
# Beside the workspace's own compilation, which it shares nothing with.
CLIENT_TARGET = paths.TARGET / "cluster-client"


def state_file(engine: str) -> Path:
    """Where a running cluster says where it is."""
    return logs_folder() / engine / "running.json"


@contextmanager
def running(engine: str, workers: int, **settings: str) -> Iterator[tuple[Running, Processes]]:
    """A cluster of this clone, for as long as this context. Its logs stay until the next one."""
    logs = logs_folder() / engine
    if (known := find_running(engine)) is not None:
        raise UserError(f"{engine} runs already, at {known.remote}. End it first, by Ctrl-C there")
    shutil.rmtree(logs, ignore_errors=True)
    # With a token in it; who may talk to a cluster may run anything as its user.
    logs.mkdir(parents=True, mode=0o700)
    with Processes(logs) as processes:
        started = ENGINES[engine](processes, workers, settings)
        state = {"process": os.getpid(), "since": since(os.getpid()), **asdict(started)}
        write(state_file(engine), json.dumps(state))
        try:
            yield started, processes
        finally:
            state_file(engine).unlink(missing_ok=True)


def find_running(engine: str) -> Running | None:
    """The cluster of an engine, if one runs.

    The file of a cluster that was killed stays, and its process number may be another process's by
    now, also after the machine has started again. So the file also has when the process started.
    """
    try:
        known = json.loads(state_file(engine).read_text())
        if since(known.pop("process")) == known.pop("since"):
            return Running(**known)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, psutil.Error):
        pass  # it was killed, and its processes with it
    return None


def since(process: int) -> float:
    """When a process started. Raises `psutil.Error` if there is none."""
    return psutil.Process(process).create_time()


def start(engine: str, workers: int) -> None:
    """Start a cluster and wait for Ctrl-C."""
    print(f"Starting {engine} with {workers} workers, on this machine only", flush=True)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with running(engine, workers) as (cluster, processes):
        print(f"It listens at {cluster.remote}")
        for what, page in cluster.pages:
            print(f"Web page of its {what}: {page}")
        print(f"Logs: {paths.display_path(processes.logs)}")
        print("In another terminal: ./justw cluster query. Here, Ctrl-C ends it", flush=True)
        while not stop.wait(1):
            for name, process in processes.running.items():
                # A worker that is lost is the engine's to bear.
                if process.poll() is not None and not name.startswith("worker"):
                    raise UserError(f"{name} ended: {processes.log_tail(name)}")
    print("The cluster has ended")


def cargo_of_client(*arguments: str) -> str:
    """Run cargo in the client's own workspace; what it printed."""
    result = run_cargo(
        *arguments,
        cwd=CRATE,
        CARGO_TARGET_DIR=str(CLIENT_TARGET),
        RUSTFLAGS="",
        PROTOC=str(ensure_venv("cluster-protoc", HERE / "protoc.txt") / "protoc"),
    )
    return result.stdout


def client() -> Path:
    """The program that runs the query on a cluster, compiled if need be."""
    prerequisites()
    program = CLIENT_TARGET / toolchain.host() / "debug" / "query_cluster"
    if not program.is_file():
        print("Compiling the client: once, some minutes on 2 cores", flush=True)
    cargo_of_client("build", "--locked", "--quiet")
    return program


def query(options: Sequence[str]) -> int:
    """Run the query on the cluster that runs; `--engine` says which, the rest is the client's."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--engine", choices=sorted(ENGINES))
    parser.add_argument("--data", default=str(paths.data_directory()))
    given, others = parser.parse_known_args(options)
    if others == ["--help"]:
        return subprocess.run([client(), "--help"]).returncode
    clusters = [find_running(engine) for engine in ENGINES if given.engine in (None, engine)]
    clusters = [cluster for cluster in clusters if cluster is not None]
    if not clusters:
        raise UserError("no cluster of this clone runs. In another terminal: ./justw cluster")
    if len(clusters) > 1:
        raise UserError("both engines run. Say which: ./justw cluster query --engine spark")
    folder = Path(given.data, "sensor_hrv")
    if "://" not in given.data and not any(folder.rglob("*.parquet")):
        raise UserError(f"There are no data in {given.data} to query. Run: ./justw data small")
    cluster = clusters[0]
    output = paths.OUTPUTS / "cluster" / cluster.engine
    places = ("--data", given.data, "--output", output)
    command = map(str, (client(), *address(cluster), "--sql", SQL, *places, *others))
    return subprocess.run(command, env=os.environ | cluster.variables()).returncode


def address(cluster: Running) -> list[str]:
    """What the client is result of a cluster."""
    return [cluster.remote, *(("--status", cluster.page) if cluster.page else ())]


def test(options: Sequence[str]) -> int:
    """Run the cluster's tests, and those of the client; `options` go to pytest."""
    client()
    cargo_of_client("fmt", "--check")
    lints = ("clippy", "--all-targets", "--locked", "--quiet")
    cargo_of_client(*lints, "--", "--deny", "warnings")
    print(cargo_of_client("test", "--locked", "--quiet"), flush=True)
    tests = paths.NOTEBOOKS / "tools" / "cluster_tests"
    command = [sys.executable, "-m", "pytest", str(tests), *options]
    return subprocess.run(command, cwd=tests.parent).returncode
