"""What the relay does with evcxr's messages."""

import json
import threading
import time
from typing import NamedTuple

import pytest
import zmq
from jupyter_client.session import Session

from wearable_jupyter import directories, relay


def message(kind: str, request: str, **content) -> list[bytes]:
    """A message as it stands on iopub, in answer to a request, not signed yet."""
    parts = ({"msg_type": kind}, {"msg_id": request}, {}, content)
    return [relay.DELIMITER, b"", *(json.dumps(part).encode() for part in parts)]


def signed(connection: dict, unsigned: list[bytes]) -> list[bytes]:
    """A message with its signature, by Jupyter's own way of signing."""
    session = Session(key=connection["key"].encode())
    return [relay.DELIMITER, session.sign(unsigned[2:6]), *unsigned[2:]]


class Ends(NamedTuple):
    """A relay, with evcxr's publishing end behind it and a client's listening end before it."""

    relay: relay.Relay
    evcxr: zmq.Socket
    client: zmq.Socket
    connection: dict
    private: dict

    def publish(self, *messages: list[bytes]) -> None:
        for unsigned in messages:
            self.evcxr.send_multipart(signed(self.private, unsigned))

    def pass_on(self) -> None:
        while self.relay.step(0.2):
            pass

    def receive(self, number: int) -> list[list[bytes]]:
        """Messages as the client gets them, checked and without their signatures."""
        received = [self.client.recv_multipart() for _ in range(number)]
        for each in received:
            assert each == signed(self.connection, each)
        return [[each[0], b"", *each[2:]] for each in received]


@pytest.fixture
def ends(tmp_path):
    connections = []
    for name in ("front", "back"):
        directories.write_connection(tmp_path / name)
        connections.append(json.loads((tmp_path / name).read_text()))
    made = relay.Relay(*connections)
    context = zmq.Context()
    evcxr, client = context.socket(zmq.PUB), context.socket(zmq.SUB)
    client.set(zmq.SUBSCRIBE, b"")
    evcxr.bind(relay.address(connections[1], "iopub"))
    client.connect(relay.address(connections[0], "iopub"))
    ends = Ends(made, evcxr, client, *connections)
    while not client.poll(50):
        ends.publish(message("status", "0", execution_state="starting"))
        made.step(0.05)
    while client.poll(200) or made.step(0.2):
        if client.poll(0):
            client.recv_multipart()
    yield ends
    context.destroy(linger=0)
    made.context.destroy(linger=0)


def test_a_line_that_comes_after_idle_is_passed_on_before(ends):
    late = message("stream", "1", name="stdout", text="late\n")
    idle = message("status", "1", execution_state="idle")
    busy = message("status", "2", execution_state="busy")
    ends.publish(idle, late, busy)
    ends.pass_on()
    assert ends.receive(3) == [late, idle, busy]
    assert not ends.client.poll(100)


def test_idle_does_not_wait_without_end(ends):
    """A thread that a cell has left behind prints on and on."""
    line = message("stream", "1", name="stdout", text="again\n")
    idle = message("status", "1", execution_state="idle")

    def print_on():
        ends.publish(idle)
        for _ in range(300):
            ends.publish(line)
            time.sleep(relay.LATE_MS / 1000 / 4)

    thread = threading.Thread(target=print_on)
    thread.start()
    ends.pass_on()
    thread.join()
    assert 0 < ends.receive(301).index(idle) < 200


def test_idle_does_not_wait_for_other_requests_lines(ends):
    idle = message("status", "1", execution_state="idle")
    other = message("stream", "2", name="stdout", text="other\n")
    ends.publish(idle, other)
    ends.pass_on()
    assert ends.receive(2) == [idle, other]


def test_a_message_that_is_not_signed_by_evcxr_is_not_passed_on(ends):
    forged = message("stream", "1", name="stdout", text="forged\n")
    ends.evcxr.send_multipart(forged)
    ends.evcxr.send_multipart(signed(ends.connection, forged))
    ends.evcxr.send_multipart([b"no message"])
    ends.pass_on()
    assert not ends.client.poll(100)


def test_a_request_that_is_not_signed_by_jupyter_does_not_reach_evcxr(ends):
    context = zmq.Context()
    evcxr, client = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    evcxr.bind(relay.address(ends.private, "shell"))
    client.connect(relay.address(ends.connection, "shell"))
    request = message("execute_request", "1", code="1")
    client.send_multipart(request)
    client.send_multipart(signed(ends.private, request))
    client.send_multipart(signed(ends.connection, request))
    while not evcxr.poll(50):
        ends.relay.step(0.05)
    ends.pass_on()
    # Behind the client's name and the relay's.
    assert evcxr.recv_multipart()[2:] == signed(ends.private, request)
    assert not evcxr.poll(100)
    context.destroy(linger=0)


def test_how_long_nothing_has_run(ends):
    ends.publish(message("status", "1", execution_state="busy"))
    ends.pass_on()
    time.sleep(0.2)
    assert ends.relay.quiet_seconds() == 0
    ends.publish(message("status", "1", execution_state="idle"))
    ends.pass_on()
    time.sleep(0.2)
    assert ends.relay.quiet_seconds() > 0.2


def test_a_connection_file_of_evcxrs_own_is_private(tmp_path):
    directories.write_connection(tmp_path / "file")
    directories.write_connection(tmp_path / "other")
    private, other = (json.loads((tmp_path / name).read_text()) for name in ("file", "other"))
    assert private["ip"] == "127.0.0.1" and private["shell_port"] > 1023
    assert len(private["key"]) >= 32 and private["key"] != other["key"]
    assert (tmp_path / "file").stat().st_mode & 0o077 == 0
    jupyters = {"transport": "ipc", "ip": "/somewhere", "shell_port": 1}
    assert relay.address(jupyters, "shell") == "ipc:///somewhere-1"
