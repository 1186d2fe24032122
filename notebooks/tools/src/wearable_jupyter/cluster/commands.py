"""The commands of `./justw cluster`: start a cluster, query it, and run its tests."""

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
# The query that the client sends, and the runs of this query that notebook 03 shows.
SQL = paths.LIBRARY / "src" / "summary.sql"
RECORDED_RUNS = CRATE / "recorded_runs"
# A separate target directory, because the client shares no dependencies with the workspace.
CLIENT_TARGET = paths.TARGET / "cluster-client"


def state_file(engine: str) -> Path:
    """The file in which a running cluster stores its addresses, token and process ID."""
    return logs_folder() / engine / "running.json"


@contextmanager
def running(engine: str, workers: int, **settings: str) -> Iterator[tuple[Running, Processes]]:
    """Start a cluster of this clone, and stop it at the end of the context.

    The logs stay until the next start. Raises `UserError` if a cluster of this engine already runs.
    """
    logs = logs_folder() / engine
    if (other := find_running(engine)) is not None:
        raise UserError(
            f"{engine} is already running at {other.remote}. Stop it with Ctrl-C in its terminal"
        )
    shutil.rmtree(logs, ignore_errors=True)
    # The folder has the token, and a client with the token can run any code as this user.
    logs.mkdir(parents=True, mode=0o700)
    with Processes(logs) as processes:
        started = ENGINES[engine](processes, workers, settings)
        process = os.getpid()
        state = {"process": process, "since": start_time(process), **asdict(started)}
        write(state_file(engine), json.dumps(state))
        try:
            yield started, processes
        finally:
            state_file(engine).unlink(missing_ok=True)


def find_running(engine: str) -> Running | None:
    """Return the running cluster of an engine, or `None`.

    A killed cluster leaves its file, and another process can have its process ID now, even
    after a reboot. So the file stores the start time of the process, too, and both are compared.
    """
    try:
        state = json.loads(state_file(engine).read_text())
        if start_time(state.pop("process")) == state.pop("since"):
            return Running(**state)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, psutil.Error):
        pass  # there is no file, it is damaged, or its process has ended
    return None


def start_time(process: int) -> float:
    """Return the start time of a process, in seconds. Raises `psutil.Error` if it has ended."""
    return psutil.Process(process).create_time()


def start(engine: str, workers: int) -> None:
    """Start a cluster, and stop it at Ctrl-C.

    Raises `UserError` if one of its processes ends, except for a worker.
    """
    print(f"Starting {engine} with {workers} workers on this machine", flush=True)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with running(engine, workers) as (cluster, processes):
        print(f"The cluster listens at {cluster.remote}")
        for content, page in cluster.pages:
            print(f"Web page with {content}: {page}")
        print(f"Logs: {paths.display_path(processes.logs)}")
        print("Run in another terminal: ./justw cluster query. Press Ctrl-C to stop", flush=True)
        while not stop.wait(1):
            for name, process in processes.running.items():
                # The engine handles the loss of a worker.
                if process.poll() is not None and not name.startswith("worker"):
                    raise UserError(
                        f"The cluster's process {name} ended: {processes.log_tail(name)}. "
                        "Start the cluster again: ./justw cluster"
                    )
    print("The cluster has stopped")


def cargo_of_client(*arguments: str) -> str:
    """Run cargo in the client's workspace and return its stdout."""
    result = run_cargo(
        *arguments,
        cwd=CRATE,
        CARGO_TARGET_DIR=str(CLIENT_TARGET),
        RUSTFLAGS="",
        PROTOC=str(ensure_venv("cluster-protoc", HERE / "protoc.txt") / "protoc"),
    )
    return result.stdout


def client() -> Path:
    """Compile the client if necessary, and return the path of its program."""
    prerequisites()
    program = CLIENT_TARGET / toolchain.host() / "debug" / "query_cluster"
    if not program.is_file():
        print(
            "Compiling the cluster client: once for this clone, several minutes on 2 cores",
            flush=True,
        )
    cargo_of_client("build", "--locked", "--quiet")
    return program


def query(options: Sequence[str]) -> int:
    """Run the query on the running cluster, and return the client's exit code.

    `--engine` selects one of two running clusters. The client receives all other options.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--engine", choices=sorted(ENGINES))
    parser.add_argument("--data", default=str(paths.data_directory()))
    given, others = parser.parse_known_args(options)
    if others == ["--help"]:
        return subprocess.run([client(), "--help"]).returncode
    clusters = [find_running(engine) for engine in ENGINES if given.engine in (None, engine)]
    clusters = [cluster for cluster in clusters if cluster is not None]
    if not clusters:
        raise UserError(
            "No cluster of this clone is running. Start one in another terminal: ./justw cluster"
        )
    if len(clusters) > 1:
        raise UserError(
            "Clusters of both engines are running. Choose one: ./justw cluster query --engine spark"
        )
    folder = Path(given.data, "sensor_hrv")
    if "://" not in given.data and not any(folder.rglob("*.parquet")):
        raise UserError(f"{given.data} has no dataset. Generate one: ./justw data small")
    cluster = clusters[0]
    output = paths.OUTPUTS / "cluster" / cluster.engine
    files = ("--sql", SQL, "--data", given.data, "--output", output)
    command = map(str, (client(), *address(cluster), *files, *others))
    return subprocess.run(command, env=os.environ | cluster.variables()).returncode


def address(cluster: Running) -> list[str]:
    """The client's arguments for a cluster: its address and its web page."""
    return [cluster.remote, *(("--status", cluster.page) if cluster.page else ())]


def test(options: Sequence[str]) -> int:
    """Run the tests of the client and of the clusters; pytest receives `options`."""
    client()
    cargo_of_client("fmt", "--check")
    lints = ("clippy", "--all-targets", "--locked", "--quiet")
    cargo_of_client(*lints, "--", "--deny", "warnings")
    print(cargo_of_client("test", "--locked", "--quiet"), flush=True)
    tests = paths.NOTEBOOKS / "tools" / "cluster_tests"
    command = [sys.executable, "-m", "pytest", str(tests), *options]
    return subprocess.run(command, cwd=tests.parent).returncode
