"""The same query on each engine gives the same rows as here; what cannot be is said in a line."""

import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from wearable_jupyter.cluster import commands, engines


def wait_for_work(page: str, before: int) -> None:
    """Until a task of a new query is done."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        stages = [s for s in engines.rest(page, "stages") if s["stageId"] >= before]
        if any(stage["numCompleteTasks"] for stage in stages):
            return
        time.sleep(0.05)
    raise AssertionError("no task was done within a minute")


def next_stage(page: str) -> int:
    return max((stage["stageId"] + 1 for stage in engines.rest(page, "stages")), default=0)


def test_sail_gives_the_same_rows(sail, asker, expected):
    cluster, _ = sail
    answer = asker.ask(cluster)
    answer.assert_is(expected)
    assert "Exec" in answer.said and (answer.folder / "plan.txt").read_text().strip()


def test_spark_gives_the_same_rows_and_tells_its_stages(spark, asker, expected):
    cluster, _ = spark
    answer = asker.ask(cluster)
    answer.assert_is(expected)
    assert "Exchange" in answer.said  # of the plan
    stages = (answer.folder / "stages.csv").read_text().splitlines()
    names = stages[0].split(",")
    rows = [dict(zip(names, line.split(","), strict=True)) for line in stages[1:]]
    assert sum(int(row["shuffle_write_bytes"]) for row in rows) > 0
    assert max(int(row["num_tasks"]) for row in rows) >= 10


def test_the_plan_that_the_notebook_draws_is_sparks(spark, asker):
    cluster, _ = spark
    answer = asker.ask(cluster, "--quiet")
    plan = (answer.folder / "plan.txt").read_text()
    # But for the numbers of columns and exchanges, and where the dataset lies.
    for what, with_ in ((r"#\d+L?", ""), (r"plan_id=\d+", "plan_id"), (r"file:[^\]]*/", "file:")):
        plan = re.sub(what, with_, plan)
    assert plan.strip() == commands.PLAN.read_text().strip()


@pytest.mark.parametrize("engine", ["sail", "spark"])
def test_no_files_is_said(engine, request, asker, tmp_path):
    cluster, _ = request.getfixturevalue(engine)
    answer = asker.ask(cluster, "--data", str(tmp_path / "nowhere"))
    assert answer.code == 1 and "The workers find no Parquet files at" in answer.said
    assert "./justw data small" in answer.said and not answer.folder.exists()


def test_ctrl_c_cancels_the_query_there_too(spark, asker, expected):
    cluster, _ = spark
    before = next_stage(cluster.page)
    running = asker.start(cluster)
    wait_for_work(cluster.page, before)
    running.send_signal(signal.SIGINT)
    answer = asker.finish(running, seconds=20)
    assert answer.code == 130 and "cancelled, here and on the cluster" in answer.said
    assert not answer.folder.exists()
    deadline = time.monotonic() + 20
    while any(s["status"] == "ACTIVE" for s in engines.rest(cluster.page, "stages")):
        assert time.monotonic() < deadline, "the cluster still works at it"
        time.sleep(0.2)
    asker.ask(cluster).assert_is(expected)


def test_no_server_is_said_at_once(asker):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        started = time.monotonic()
        answer = asker.ask(f"sc://127.0.0.1:{held.getsockname()[1]}", seconds=20)
    assert answer.code == 1 and "No server listens at" in answer.said
    assert "./justw cluster" in answer.said and time.monotonic() - started < 10


def test_another_protocol_is_said(asker):
    """A web server, and one that takes a connection and says nothing."""
    for answered in (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", b""):
        with socket.create_server(("127.0.0.1", 0)) as server:

            def serve(server=server, answered=answered) -> None:
                stream, _ = server.accept()
                with stream:
                    stream.recv(1000)
                    stream.sendall(answered)
                    time.sleep(4)

            threading.Thread(target=serve, daemon=True).start()
            answer = asker.ask(f"sc://127.0.0.1:{server.getsockname()[1]}", seconds=30)
        assert answer.code == 1 and "does not speak Spark Connect" in answer.said


@pytest.mark.parametrize("address", ["127.0.0.1:15002", "sc://127.0.0.1", "http://127.0.0.1:1"])
def test_a_wrong_address_is_said(asker, address):
    answer = asker.ask(address)
    assert answer.code == 1 and "It is sc://HOST:PORT" in answer.said


def test_who_does_not_know_the_token_is_not_let_in(spark, asker):
    """Another user of this machine, whom loopback does not keep out."""
    cluster, processes = spark
    for remote in (cluster.remote, f"{cluster.remote}/;token=another"):
        answer = asker.ask(remote)
        assert answer.code == 1 and "does not let in who asks" in answer.said
        assert "SPARK_CONNECT_AUTHENTICATE_TOKEN" in answer.said
    commands_ = [" ".join(p.args) for p in processes.running.values()]
    assert not any(cluster.token in command for command in commands_)
    assert processes.logs.stat().st_mode & 0o077 == 0


def test_everything_listens_on_loopback_alone(spark, sail):
    listening = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    processes = {str(p.pid) for _, ps in (spark, sail) for p in ps.running.values()}
    ours = [line for line in listening.splitlines() if any(f"pid={p}," in line for p in processes)]
    assert len(ours) >= 5
    for line in ours:
        assert line.split()[3].startswith(("127.0.0.1:", "[::ffff:127.0.0.1]:", "[::1]:")), line
