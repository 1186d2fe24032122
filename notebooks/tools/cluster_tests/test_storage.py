"""The query on a dataset in an object store: an S3 server on loopback."""

import shutil
from pathlib import Path

import polars as pl
import pytest
from conftest import Client

from wearable_jupyter.bootstrap.platform import LOOPBACK
from wearable_jupyter.cluster import commands
from wearable_jupyter.cluster.processes import Processes, free_port, listens
from wearable_jupyter.setup import paths
from wearable_jupyter.setup.build import run_cargo

SERVER, VERSION = "s3s-fs", "0.14.1"
KEY, SECRET = "reader", "a-secret-of-this-test"


@pytest.fixture(scope="module")
def server() -> Path:
    """The S3 server's program, which stores objects as files. It compiles once, in a minute."""
    root = paths.TARGET / f"cluster-{SERVER}-{VERSION}"
    program = root / "bin" / SERVER
    if not program.is_file():
        run_cargo(
            *("install", "--locked", "--quiet", "--version", VERSION, SERVER, "--features=binary"),
            *("--profile=dev", "--root", str(root), "--target-dir", str(root / "target")),
            cwd=commands.CRATE,
            RUSTFLAGS="",
        )
    return program


@pytest.fixture(scope="module")
def store(server, data, tmp_path_factory):
    """A store with the small dataset in the bucket `wearable`: its address and keys."""
    folder = tmp_path_factory.mktemp("store")
    shutil.copytree(data, folder / "wearable")
    port = free_port(9000)
    with Processes(tmp_path_factory.mktemp("logs")) as processes:
        processes.start(
            *("s3", server, "--host", LOOPBACK, "--port", str(port)),
            *("--access-key", KEY, "--secret-key", SECRET, folder),
        )
        processes.wait_for("the store", lambda: listens(port), 20)
        yield {
            "AWS_ENDPOINT": f"http://{LOOPBACK}:{port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }


def test_sail_reads_a_bucket(store, program, expected, tmp_path):
    client = Client(program, "s3://wearable", tmp_path / "result")
    with commands.running("sail", 2, **store) as (cluster, _):
        client.run(cluster).assert_result(expected)
        run = client.run(cluster, "--data", "s3://nowhere")
        assert run.code == 1 and "find no Parquet files at s3://nowhere" in run.output
    with commands.running("sail", 2, **store | {"AWS_SECRET_ACCESS_KEY": "x"}) as (cluster, _):
        run = client.run(cluster)
        assert run.code == 1 and "s3://wearable denied access" in run.output
        assert "AWS_SECRET_ACCESS_KEY before you start the cluster" in run.output


def test_polars_reads_the_same_bucket(store, expected):
    """The store also works for another client, so it is a valid S3 server."""
    named = {name.lower(): value for name, value in store.items()}
    sensor = pl.scan_parquet("s3://wearable/sensor_hrv/*.parquet", storage_options=named)
    users = pl.scan_parquet("s3://wearable/user_profile.parquet", storage_options=named)
    assert sensor.select(pl.len()).collect().item() == 1_000_000
    occupations = users.select("occupation").unique().collect()["occupation"]
    assert set(occupations) == set(expected["occupation"])
