"""Fixtures: clusters, each started once per module, the client, and a generated dataset."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from wearable_jupyter.cluster import commands, engines
from wearable_jupyter.cluster.engines import Running
from wearable_jupyter.setup import build

SETTINGS = {
    # Small partitions, so that tests can lose tasks: about sixty for a million rows.
    "spark.sql.files.maxPartitionBytes": "512k",
    "spark.sql.files.openCostInBytes": "1",
    # The server ends each stream of responses after this time, instead of after two minutes.
    "spark.connect.execute.reattachable.senderMaxStreamDuration": "500ms",
}
# Results may differ in the order in which floats are added: |a - b| <= 1e-9 * max(1, |b|).
TOLERANCE = 1e-9


def needs_java() -> None:
    try:
        engines.java()
    except build.UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def program() -> Path:
    """The client's compiled program."""
    return commands.client()


def generated(folder: Path, size: str) -> Path:
    """Generate a dataset of this size in `folder`."""
    build.build_workspace()
    options = ("--size", size, "--quiet", "--output-dir", str(folder))
    build.run_binary("generate_demo_data", *options)
    return folder


def by_polars(data: Path) -> pl.DataFrame:
    """The result of the same SQL text with polars."""
    context = pl.SQLContext(
        sensor_hrv=pl.scan_parquet(data / "sensor_hrv" / "*.parquet"),
        sleep_diary=pl.scan_parquet(data / "sleep_diary.parquet"),
        user_profile=pl.scan_parquet(data / "user_profile.parquet"),
    )
    return context.execute(commands.SQL.read_text(), eager=True)


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """The small dataset."""
    return generated(tmp_path_factory.mktemp("data"), "small")


@pytest.fixture(scope="session")
def expected(data) -> pl.DataFrame:
    """The query's result for the small dataset."""
    return by_polars(data)


@dataclass
class ClientRun:
    """An ended client: its exit code, its output, and the folder of its result."""

    code: int
    output: str
    folder: Path

    def assert_result(self, expected: pl.DataFrame) -> None:
        """Assert that the result has these rows in this order."""
        assert self.code == 0, self.output
        rows = pl.read_parquet(self.folder / "summary.parquet")
        assert rows.columns == expected.columns
        assert rows.height == expected.height > 0
        for name in expected.columns:
            actual, wanted = rows[name].to_list(), expected[name].to_list()
            if expected[name].dtype.is_float():
                pairs = zip(actual, wanted, strict=True)
                assert all(abs(a - b) <= TOLERANCE * max(1, abs(b)) for a, b in pairs), name
            else:
                assert actual == wanted, name


class Client:
    """Runs the client's program on a cluster, or on the server at an address."""

    def __init__(self, program: Path, data: str | Path, folder: Path) -> None:
        self.program, self.data, self.folder = program, data, folder

    def run(self, server: Running | str, *options: str, seconds: int = 120) -> ClientRun:
        return self.wait(self.start(server, *options), seconds)

    def start(self, server: Running | str, *options: str) -> subprocess.Popen:
        """Start the client without waiting for its end."""
        shutil.rmtree(self.folder, ignore_errors=True)
        address = [server] if isinstance(server, str) else commands.address(server)
        files = ("--sql", commands.SQL, "--data", self.data, "--output", self.folder)
        return subprocess.Popen(
            list(map(str, (self.program, *address, *files, *options))),
            env=os.environ | ({} if isinstance(server, str) else server.variables()),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait(self, running: subprocess.Popen, seconds: int = 120) -> ClientRun:
        output, _ = running.communicate(timeout=seconds)
        sys.stdout.write(output)
        return ClientRun(running.returncode, output, self.folder)


@pytest.fixture
def client(program, data, tmp_path) -> Client:
    return Client(program, data, tmp_path / "result")


@pytest.fixture(scope="module")
def sail():
    """Sail's local cluster with two workers, and its processes."""
    with commands.running("sail", 2) as started:
        yield started


@pytest.fixture(scope="module")
def spark():
    """Spark with two workers, and its processes."""
    needs_java()
    with commands.running("spark", 2, **SETTINGS) as started:
        yield started
