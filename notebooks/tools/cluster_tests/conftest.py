"""Clusters for the tests, each started once, on data of this run's own."""

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
    # Small parts, so that there are tasks to be lost: some sixty for a million rows.
    "spark.sql.files.maxPartitionBytes": "512k",
    "spark.sql.files.openCostInBytes": "1",
    # Answers in several streams, as after two minutes: the server ends each after so long.
    "spark.connect.execute.reattachable.senderMaxStreamDuration": "500ms",
}
# The same result, up to the order in which floats are added: |a - b| <= 1e-9 * max(1, |b|).
TOLERANCE = 1e-9


def needs_java() -> None:
    try:
        engines.java()
    except build.UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def client() -> Path:
    return commands.client()


def generated(folder: Path, size: str) -> Path:
    """A dataset of this run's own."""
    build.build_workspace()
    options = ("--size", size, "--quiet", "--output-dir", str(folder))
    build.run_binary("generate_demo_data", *options)
    return folder


def by_polars(data: Path) -> pl.DataFrame:
    """The query's rows by polars on one machine, from the same text."""
    context = pl.SQLContext(
        sensor_hrv=pl.scan_parquet(data / "sensor_hrv" / "*.parquet"),
        sleep_diary=pl.scan_parquet(data / "sleep_diary.parquet"),
        user_profile=pl.scan_parquet(data / "user_profile.parquet"),
    )
    text = commands.SQL.read_text()
    return context.execute(text, eager=True)


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """The small dataset."""
    return generated(tmp_path_factory.mktemp("data"), "small")


@pytest.fixture(scope="session")
def expected(data) -> pl.DataFrame:
    """The query's rows of that."""
    return by_polars(data)


@dataclass
class Answer:
    """What the client did: its exit code, what it said, and its result."""

    code: int
    said: str
    folder: Path

    def assert_is(self, expected: pl.DataFrame) -> None:
        """Its rows are those, in that order."""
        assert self.code == 0, self.said
        rows = pl.read_parquet(self.folder / "summary.parquet")
        assert rows.columns == expected.columns
        assert rows.height == expected.height > 0
        for name in expected.columns:
            ours, theirs = rows[name].to_list(), expected[name].to_list()
            if expected[name].dtype.is_float():
                pairs = zip(ours, theirs, strict=True)
                assert all(abs(a - b) <= TOLERANCE * max(1, abs(b)) for a, b in pairs), name
            else:
                assert ours == theirs, name


class Asker:
    """Runs the client on a cluster, or on whatever listens at an address."""

    def __init__(self, client: Path, data: str | Path, folder: Path) -> None:
        self.client, self.data, self.folder = client, data, folder

    def ask(self, whom: Running | str, *options: str, seconds: int = 120) -> Answer:
        return self.finish(self.start(whom, *options), seconds)

    def start(self, whom: Running | str, *options: str) -> subprocess.Popen:
        """Begin to ask."""
        shutil.rmtree(self.folder, ignore_errors=True)
        place = [whom] if isinstance(whom, str) else commands.address(whom)
        given = ("--sql", str(commands.SQL), "--data", str(self.data), "--output", str(self.folder), *options)
        return subprocess.Popen(
            [str(self.client), *place, *given],
            env=os.environ | ({} if isinstance(whom, str) else whom.variables()),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, running: subprocess.Popen, seconds: int = 120) -> Answer:
        said, _ = running.communicate(timeout=seconds)
        sys.stdout.write(said)
        return Answer(running.returncode, said, self.folder)


@pytest.fixture
def asker(client, data, tmp_path) -> Asker:
    return Asker(client, data, tmp_path / "answer")


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
