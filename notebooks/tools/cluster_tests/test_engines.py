"""The query returns the same rows on each engine as in polars; errors are reported in one line."""

import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from wearable_jupyter.cluster import commands, engines


def wait_for_work(page: str, before: int) -> None:
    """Wait until a task of a stage from number `before` on has completed."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        stages = [s for s in engines.rest(page, "stages") if s["stageId"] >= before]
        if any(stage["numCompleteTasks"] for stage in stages):
            return
        time.sleep(0.05)
    raise AssertionError("no task completed within a minute")


def next_stage(page: str) -> int:
    return max((stage["stageId"] + 1 for stage in engines.rest(page, "stages")), default=0)


def test_sail_returns_the_rows_of_polars(sail, client, expected):
    cluster, _ = sail
    run = client.run(cluster)
    run.assert_result(expected)
    assert "Exec" in run.output and (run.folder / "plan.txt").read_text().strip()


def test_spark_returns_the_rows_of_polars_and_reports_stages(spark, client, expected):
    cluster, _ = spark
    run = client.run(cluster)
    run.assert_result(expected)
    assert "Exchange" in run.output  # from the plan
    stages = (run.folder / "stages.csv").read_text().splitlines()
    names = stages[0].split(",")
    rows = [dict(zip(names, line.split(","), strict=True)) for line in stages[1:]]
    assert sum(int(row["shuffle_write_bytes"]) for row in rows) > 0
    assert max(int(row["num_tasks"]) for row in rows) >= 10


def without_numbers(plan: str) -> str:
    """A plan without the numbers of columns and exchanges, and without the dataset's path."""
    for pattern, text in ((r"#\d+L?", ""), (r"plan_id=\d+", "plan_id"), (r"file:[^\]]*/", "file:")):
        plan = re.sub(pattern, text, plan)
    return plan.strip()


def test_recorded_plan_is_sparks_plan(spark, client):
    """Notebook 03 renders the recorded plan."""
    cluster, _ = spark
    run = client.run(cluster, "--quiet")
    recorded = (commands.RECORDED_RUNS / "spark" / "plan.txt").read_text()
    assert without_numbers((run.folder / "plan.txt").read_text()) == without_numbers(recorded)


@pytest.mark.parametrize("engine", ["sail", "spark"])
def test_missing_files_are_reported(engine, request, client, tmp_path):
    cluster, _ = request.getfixturevalue(engine)
    run = client.run(cluster, "--data", str(tmp_path / "nowhere"))
    assert run.code == 1 and "The workers find no Parquet files at" in run.output
    assert "./justw data small" in run.output and not run.folder.exists()


def test_ctrl_c_cancels_the_query_on_the_cluster_too(spark, client, expected):
    cluster, _ = spark
    before = next_stage(cluster.page)
    running = client.start(cluster)
    wait_for_work(cluster.page, before)
    running.send_signal(signal.SIGINT)
    run = client.wait(running, seconds=20)
    assert run.code == 130 and "cancelled, here and on the cluster" in run.output
    assert not run.folder.exists()
    deadline = time.monotonic() + 20
    while any(s["status"] == "ACTIVE" for s in engines.rest(cluster.page, "stages")):
        assert time.monotonic() < deadline, "the cluster still runs the query"
        time.sleep(0.2)
    client.run(cluster).assert_result(expected)


def test_missing_server_is_reported_within_seconds(client):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        started = time.monotonic()
        run = client.run(f"sc://127.0.0.1:{unused.getsockname()[1]}", seconds=20)
    assert run.code == 1 and "No server listens at" in run.output
    assert "./justw cluster" in run.output and time.monotonic() - started < 10


def test_server_with_another_protocol_is_reported(client):
    """A web server, and a server that accepts a connection and never replies."""
    for reply in (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", b""):
        with socket.create_server(("127.0.0.1", 0)) as server:

            def serve(server=server, reply=reply) -> None:
                stream, _ = server.accept()
                with stream:
                    stream.recv(1000)
                    stream.sendall(reply)
                    time.sleep(4)

            threading.Thread(target=serve, daemon=True).start()
            run = client.run(f"sc://127.0.0.1:{server.getsockname()[1]}", seconds=30)
        assert run.code == 1 and "is not a Spark Connect server" in run.output


@pytest.mark.parametrize("address", ["127.0.0.1:15002", "sc://127.0.0.1", "http://127.0.0.1:1"])
def test_invalid_address_is_reported(client, address):
    run = client.run(address)
    assert run.code == 1 and "Use sc://HOST:PORT" in run.output


def test_client_without_the_token_is_rejected(spark, client):
    """Other users of this machine can connect to loopback, too."""
    cluster, processes = spark
    for remote in (cluster.remote, f"{cluster.remote}/;token=another"):
        run = client.run(remote)
        assert run.code == 1 and "denied access" in run.output
        assert "SPARK_CONNECT_AUTHENTICATE_TOKEN" in run.output
    command_lines = [" ".join(p.args) for p in processes.running.values()]
    assert not any(cluster.token in line for line in command_lines)
    assert processes.logs.stat().st_mode & 0o077 == 0


def test_all_processes_listen_only_on_loopback(spark, sail):
    listening = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    processes = {str(p.pid) for _, ps in (spark, sail) for p in ps.running.values()}
    ours = [line for line in listening.splitlines() if any(f"pid={p}," in line for p in processes)]
    assert len(ours) >= 5
    for line in ours:
        assert line.split()[3].startswith(("127.0.0.1:", "[::ffff:127.0.0.1]:", "[::1]:")), line
