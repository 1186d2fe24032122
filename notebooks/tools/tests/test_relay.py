"""What the relay does with evcxr's messages."""

import json
import threading
import time

import pytest
import zmq

from wearable_jupyter import kernel, relay


def message(kind: str, request: str, **content) -> list[bytes]:
    """A message as it stands on iopub, in answer to a request."""
    parts = ({"msg_type": kind}, {"msg_id": request}, {}, content)
    return [relay.DELIMITER, b"signature", *(json.dumps(part).encode() for part in parts)]


@pytest.fixture
def ends(tmp_path):
    """A relay, evcxr's publishing end behind it and a client's listening end before it."""
    connection = {"transport": "tcp", "ip": "127.0.0.1", "key": "secret"}
    names = ("shell_port", "control_port", "stdin_port", "hb_port", "iopub_port")
    files = []
    for name in ("front", "back"):
        kernel.write_private(connection | dict.fromkeys(names, 0), tmp_path / name)
        files.append(json.loads((tmp_path / name).read_text()))
    made = relay.Relay(*files)
    context = zmq.Context()
    evcxr, client = context.socket(zmq.PUB), context.socket(zmq.SUB)
    client.set(zmq.SUBSCRIBE, b"")
    evcxr.bind(relay.address(files[1], "iopub"))
    client.connect(relay.address(files[0], "iopub"))
    while not client.poll(50):
        evcxr.send_multipart(message("status", "0", execution_state="starting"))
        made.step(0.05)
    while client.poll(200) or made.step(0.2):
        if client.poll(0):
            client.recv_multipart()
    yield made, evcxr, client
    context.destroy(linger=0)
    made.context.destroy(linger=0)


def test_a_line_that_comes_after_idle_is_passed_on_before(ends):
    made, evcxr, client = ends
    late = message("stream", "1", name="stdout", text="late\n")
    idle = message("status", "1", execution_state="idle")
    busy = message("status", "2", execution_state="busy")
    for sent in (idle, late, busy):
        evcxr.send_multipart(sent)
    while made.step(0.2):
        pass
    assert [client.recv_multipart() for _ in range(3)] == [late, idle, busy]
    assert not client.poll(100)


def test_idle_does_not_wait_without_end(ends):
    """A thread that a cell has left behind prints on and on."""
    made, evcxr, client = ends
    line = message("stream", "1", name="stdout", text="again\n")
    idle = message("status", "1", execution_state="idle")

    def print_on():
        evcxr.send_multipart(idle)
        for _ in range(300):
            evcxr.send_multipart(line)
            time.sleep(relay.LATE_MS / 1000 / 4)

    thread = threading.Thread(target=print_on)
    thread.start()
    while made.step(0.2):
        pass
    thread.join()
    received = [client.recv_multipart() for _ in range(301)]
    assert 0 < received.index(idle) < 200


def test_idle_does_not_wait_for_other_requests_lines(ends):
    made, evcxr, client = ends
    idle = message("status", "1", execution_state="idle")
    other = message("stream", "2", name="stdout", text="other\n")
    for sent in (idle, other):
        evcxr.send_multipart(sent)
    while made.step(0.2):
        pass
    assert [client.recv_multipart() for _ in range(2)] == [idle, other]


def test_a_connection_file_of_evcxrs_own_is_private_and_has_other_ports(tmp_path):
    jupyters = {"transport": "ipc", "ip": "/somewhere", "key": "secret", "shell_port": 1}
    kernel.write_private(jupyters, tmp_path / "file")
    private = json.loads((tmp_path / "file").read_text())
    assert (private["transport"], private["ip"], private["key"]) == ("tcp", "127.0.0.1", "secret")
    assert private["shell_port"] > 1023
    assert (tmp_path / "file").stat().st_mode & 0o077 == 0
    assert relay.address(jupyters, "shell") == "ipc:///somewhere-1"
