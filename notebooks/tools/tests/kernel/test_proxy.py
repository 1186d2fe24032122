"""The proxy's handling of messages, with an evcxr that the test simulates."""

import ipaddress
import json
import os
import signal
import socket
import subprocess
import time
from typing import Any

import pytest
import zmq
from jupyter_client.session import Session

from wearable_jupyter.bootstrap import platform
from wearable_jupyter.kernel import directories, execution, messages, proxy
from wearable_jupyter.kernel.events import Events
from wearable_jupyter.setup.errors import UserError

NUMBER = "7"


def message(kind: str, request: str, **content) -> list[bytes]:
    """A message of evcxr or Jupyter before it is signed. `request` is the id of its parent."""
    header = {"msg_type": kind, "msg_id": f"{kind} of {request}"}
    parts = (header, {"msg_id": request}, {}, content)
    return [messages.DELIMITER, b"", *(json.dumps(part).encode() for part in parts)]


def signed(connection: dict, unsigned: list[bytes]) -> list[bytes]:
    """A message with the signature that Jupyter computes."""
    session = Session(key=connection["key"].encode())
    return [messages.DELIMITER, session.sign(unsigned[2:6]), *unsigned[2:]]


class Ends:
    """A proxy with the sockets of evcxr and of a client."""

    def __init__(self, directory) -> None:
        self.directory = directory
        connections = []
        for name in ("front", "back"):
            directories.write_connection(directory / name)
            connections.append(json.loads((directory / name).read_text()))
        self.connection, self.private = connections
        self.context = zmq.Context()
        self.evcxr = {c: self.context.socket(k) for c, k in (("iopub", zmq.PUB),)}
        self.client = {"iopub": self.context.socket(zmq.SUB)}
        self.client["iopub"].set(zmq.SUBSCRIBE, b"")
        for channel in ("shell", "control", "stdin"):
            self.evcxr[channel] = self.context.socket(zmq.ROUTER)
            self.client[channel] = self.context.socket(zmq.DEALER)
            self.client[channel].set(zmq.IDENTITY, b"client")
        for channel, sock in self.evcxr.items():
            sock.bind(messages.address(self.private, channel))
        self.events = Events(directory)
        self.proxy = proxy.Proxy(self.connection, self.private, self.events, directory)
        for channel, sock in self.client.items():
            sock.connect(messages.address(self.connection, channel))
        while not self.client["iopub"].poll(20):
            self.publish(message("status", "0", execution_state="starting"))
            self.pass_on()
        self.pass_on()
        self.shown()
        # The proxy requests evcxr's first message.
        incoming = self.requests("shell", own=True)
        assert {each["header"]["msg_type"] for each in incoming} == {"kernel_info_request"}

    def publish(self, *messages: list[bytes]) -> None:
        for unsigned in messages:
            self.evcxr["iopub"].send_multipart(signed(self.private, unsigned))

    def pass_on(self, seconds: float = 0.1) -> None:
        until = time.monotonic() + seconds
        while self.proxy.step(0.05) or time.monotonic() < until:
            pass

    def send(self, request: str, kind: str = "execute_request", channel="shell", **content) -> None:
        frames = message(kind, "none", **{"code": "1"} | content)
        header = {"msg_type": kind, "msg_id": request, "session": "s"}
        frames[2] = json.dumps(header).encode()
        self.client[channel].send_multipart(signed(self.connection, frames))
        self.pass_on()

    def requests(self, channel: str = "shell", own: bool = False) -> list[dict[str, Any]]:
        """The requests that evcxr received, with `own` also those of the proxy itself."""
        found = []
        while self.evcxr[channel].poll(50):
            frames = self.evcxr[channel].recv_multipart()
            at = frames.index(messages.DELIMITER)
            assert frames[at:] == signed(self.private, frames[at:])
            header, _, _, content = (json.loads(f) for f in frames[at + 2 : at + 6])
            if own or header["session"] != messages.SESSION["session"]:
                found.append({"header": header, "content": content, "to": frames[:at]})
        return found

    def reply(self, incoming: dict[str, Any], status: str = "ok", channel: str = "shell") -> None:
        kind = incoming["header"]["msg_type"].replace("request", "reply")
        reply = signed(self.private, message(kind, incoming["header"]["msg_id"], status=status))
        self.evcxr[channel].send_multipart([*incoming["to"], *reply])

    def send_events(self, *events: tuple) -> None:
        for event in events:
            text = "\x1f".join(map(str, event)) + "\x1e"
            os.write(self.events.pipe, text.encode())

    def received(self, channel: str) -> list[dict[str, Any]]:
        found = []
        while self.client[channel].poll(50):
            frames = self.client[channel].recv_multipart()
            assert frames == signed(self.connection, frames)
            header, parent, metadata, content = (json.loads(frame) for frame in frames[2:6])
            of_request = {"kind": header["msg_type"], "of": parent.get("msg_id")}
            found.append({**of_request, "cell": metadata.get("cell"), **content})
        return found

    def shown(self) -> list[tuple]:
        """The messages that the client received: kind, request and content."""
        fields = ("execution_state", "text", "evalue", "execution_count")
        return [
            (m["kind"], m["of"], next((m[key] for key in fields if key in m), None))
            for m in self.received("iopub")
        ]


@pytest.fixture
def ends(tmp_path):
    ends = Ends(tmp_path)
    yield ends
    ends.context.destroy(linger=0)
    ends.proxy.context.destroy(linger=0)


def markers(ends: Ends, request: str, *streams: str) -> list[list[bytes]]:
    line = f"{ends.events.marker}{NUMBER}\n"
    return [message("stream", request, name=name, text=line) for name in streams]


# A cell without Rust code reports nothing.
COMMAND = ":vars"
BEGIN = ("begin", NUMBER, 2**22)
END = ("end", NUMBER, "ok")


def idle(request: str) -> list[bytes]:
    return message("status", request, execution_state="idle")


def test_cell_ends_when_both_streams_have_ended(ends):
    ends.send("1")
    (incoming,) = ends.requests()
    ends.publish(message("stream", "1", name="stdout", text="early\n"))
    ends.send_events(BEGIN, END)
    ends.publish(idle("1"))
    ends.reply(incoming)
    ends.pass_on()
    # evcxr has replied, but output is missing, so the next cell waits.
    ends.send("2")
    assert ends.shown() == [("stream", "1", "early\n")] and not ends.requests()
    late = message(
        "stream", "1", name="stderr", text="late, no newline" + ends.events.marker + "7\n"
    )
    ends.publish(*markers(ends, "1", "stdout"), late)
    ends.pass_on()
    assert ends.shown() == [("stream", "1", "late, no newline"), ("status", "1", "idle")]
    (reply,) = ends.received("shell")
    assert (reply["of"], reply["status"], reply["execution_count"]) == ("1", "ok", 1)
    assert [m["header"]["msg_id"] for m in ends.requests()] == ["2"]


def test_only_cells_queued_after_a_failed_cell_are_aborted(ends):
    for request, kind in (("1", "execute"), ("2", "execute"), ("3", "complete"), ("4", "execute")):
        ends.send(request, f"{kind}_request")
    (incoming,) = ends.requests()
    ends.send_events(BEGIN, ("failed", "std::io::error::Error", "no", "src/lib.rs", 1, 1), END)
    ends.publish(*markers(ends, "1", "stdout", "stderr"), idle("1"))
    ends.reply(incoming)
    ends.pass_on()
    replies = {m["of"]: m for m in ends.received("shell")}
    assert [replies[n]["status"] for n in "124"] == ["error", "aborted", "aborted"]
    assert replies["1"]["ename"] == "io::Error" and replies["1"]["evalue"] == "no"
    assert ("error", "1", "no") in ends.shown()
    assert [m["header"]["msg_id"] for m in ends.requests()] == ["3"]
    # Later cells run, and the counter continues.
    ends.send("5", stop_on_error=False)
    assert [m["header"]["msg_id"] for m in ends.requests()] == ["5"]


def test_request_without_stop_on_error_keeps_the_queue(ends):
    ends.send("1", stop_on_error=False)
    ends.send("2")
    (incoming,) = ends.requests()
    assert incoming["content"] == {"code": "1"}, "no more than evcxr reads"
    ends.publish(message("error", "1", ename="Error", evalue="x", traceback=["y"]), idle("1"))
    ends.reply(incoming, "error")
    ends.pass_on()
    assert [m["status"] for m in ends.received("shell")] == ["error"]
    assert [m["header"]["msg_id"] for m in ends.requests()] == ["2"]


REPORTED = pytest.mark.parametrize(
    ("code", "events", "status", "evidence"),
    [
        ("1", (BEGIN, END), "ok", (True, True, "ok")),
        ("1", (), "error", (True, False, None)),
        ("1", (("compile", 2**22),), "error", (True, False, None)),
        ("1", (END,), "error", (True, False, None)),
        ("1", (BEGIN, ("end", "8", "ok")), "error", (True, True, None)),
        ("fn f() {}", (), "error", (True, False, None)),
        ("use std::fmt;", (("compile", 2**22),), "error", (True, False, None)),
        (":cache 500\n1", (("compile", 2**22),), "error", (True, False, None)),
        ("1", (("begin",), ("begin", NUMBER, "x"), ("nonsense", "1"), ("end",)), "error", None),
        (COMMAND, (), "ok", (False, False, None)),
        (":dep itoa", (("compile", 2**22),), "ok", (False, False, None)),
        (":dep itoa", (BEGIN, END), "ok", (False, True, "ok")),
        ("// only a comment", (), "ok", (False, False, None)),
    ],
)


@REPORTED
def test_cell_passes_only_if_it_reported_that_it_ran(
    ends, monkeypatch, code, events, status, evidence
):
    monkeypatch.setattr(execution, "FLUSH_SECONDS", 0.2)
    ends.send("1", code=code)
    (incoming,) = ends.requests()
    ends.send_events(*events)
    ends.publish(*markers(ends, "1", "stdout", "stderr"), idle("1"))
    ends.reply(incoming)
    ends.pass_on(0.5)
    (reply,) = ends.received("shell")
    assert reply["status"] == status
    if evidence is not None:
        assert tuple(reply["cell"][key] for key in ("code", "began", "ended")) == evidence
    if status == "error" and evidence == (True, False, None):
        assert reply["ename"] == "NoReport" and "did not report that it ran" in reply["evalue"]


def test_code_that_evcxr_would_drop_is_rejected(ends):
    for code, expected in (
        ("let = 1;", "pattern"),
        ("} x", "delimiter"),
        (":env =x", "NAME=VALUE"),
    ):
        ends.send(code, code=code)
        assert not ends.requests()
        (reply,) = ends.received("shell")
        assert reply["status"] == "error" and expected in reply["evalue"]
        assert [kind for kind, _, _ in ends.shown()] == [
            *("status", "execute_input", "error", "status")
        ]


def test_silent_request_shows_and_counts_nothing(ends):
    ends.send("1", code=COMMAND, silent=True)
    (incoming,) = ends.requests()
    ends.publish(
        message("execute_input", "1", code="1", execution_count=2),
        message("stream", "1", name="stdout", text="x\n"),
        message("execute_result", "1", data={"text/plain": "1"}, execution_count=2),
        idle("1"),
    )
    ends.reply(incoming)
    ends.pass_on()
    assert ends.shown() == [("status", "1", "idle")]
    assert ends.received("shell")[0]["execution_count"] == 0


def test_closed_stream_does_not_block_a_cell(ends, monkeypatch):
    monkeypatch.setattr(execution, "MARK_SILENCE_SECONDS", 0.5)
    for request in "12":
        ends.send(request)
        (incoming,) = ends.requests()
        ends.send_events(BEGIN, END)
        ends.publish(*markers(ends, request, "stdout"), idle(request))
        ends.reply(incoming)
        # The proxy does not wait for that stream again.
        ends.pass_on(0.7 if request == "1" else 0.2)
        assert [m["status"] for m in ends.received("shell")] == ["ok"]


def test_consecutive_lines_become_one_message(ends):
    ends.send("1")
    lines = [message("stream", "1", name="stdout", text=f"{n}\n") for n in range(300)]
    ends.publish(*lines, message("stream", "1", name="stderr", text="other\n"))
    ends.pass_on()
    shown = ends.shown()
    assert (
        "".join(text for _, _, text in shown) == "".join(f"{n}\n" for n in range(300)) + "other\n"
    )
    assert len(shown) < 30 and shown[-1][2].endswith("other\n")


def test_line_after_a_carriage_return_replaces_the_previous_line(ends):
    ends.send("1")
    lines = ("before\n", "\r 10 %\n", "\r100 %\n", "\n", "behind\n")
    ends.publish(*(message("stream", "1", name="stdout", text=line) for line in lines))
    ends.pass_on()
    shown = "".join(text for _, _, text in ends.shown())
    assert shown == "before\n\r 10 %\r100 %\nbehind\n"


def test_interrupt_before_the_cell_runs_ends_its_compiler_only(ends):
    compiler = subprocess.Popen(["sleep", "60"])
    ends.send("1")
    (incoming,) = ends.requests()
    ends.send_events(("compile", compiler.pid))
    ends.send("2", "interrupt_request", "control")
    assert compiler.wait(5) == -signal.SIGKILL
    assert (ends.directory / "interrupted").exists() and not ends.requests("control")
    assert [m["status"] for m in ends.received("control")] == ["ok"]
    ends.publish(message("error", "1", ename="Error", evalue="failed", traceback=["x"]), idle("1"))
    ends.reply(incoming, "error")
    ends.pass_on()
    assert [m["ename"] for m in ends.received("shell")] == ["Interrupted"]
    ends.send("3")
    assert not (ends.directory / "interrupted").exists()


def test_second_interrupt_is_relayed_to_evcxr(ends, monkeypatch):
    monkeypatch.setattr(execution, "INTERRUPT_SECONDS", 0.2)
    cell = subprocess.Popen(["python3", "-c", "import signal, time\n"
                             "signal.signal(2, lambda *_: print('received', flush=True))\n"
                             "print('ready', flush=True)\n"
                             "while True: time.sleep(1)"], stdout=subprocess.PIPE)  # fmt: skip
    cell.stdout.readline()
    ends.send("0", "interrupt_request", "control")
    assert not ends.requests("control"), "nothing runs"
    ends.send("1")
    ends.send_events(("begin", NUMBER, cell.pid))
    ends.send("2", "interrupt_request", "control")
    assert cell.stdout.readline() == b"received\n" and not ends.requests("control")
    ends.pass_on(0.4)
    assert [text for kind, _, text in ends.shown() if kind == "stream"] == [execution.STILL_RUNNING]
    ends.send("3", "interrupt_request", "control")
    assert len(ends.requests("control")) == 1
    cell.kill()
    cell.wait()
    cell.stdout.close()


def test_message_without_evcxrs_signature_is_not_relayed(ends):
    forged = message("stream", "1", name="stdout", text="forged\n")
    ends.evcxr["iopub"].send_multipart(forged)
    ends.evcxr["iopub"].send_multipart(signed(ends.connection, forged))
    ends.evcxr["iopub"].send_multipart([b"no message"])
    ends.pass_on()
    assert not ends.shown()


def test_request_that_is_not_signed_by_jupyter_does_not_reach_evcxr(ends):
    request = message("execute_request", "1", code="1")
    ends.client["shell"].send_multipart(request)
    ends.client["shell"].send_multipart(signed(ends.private, request))
    ends.pass_on()
    assert not ends.requests()


def test_quiet_seconds_count_from_the_last_cell(ends):
    ends.publish(message("status", "1", execution_state="busy"))
    ends.pass_on()
    assert ends.proxy.quiet_seconds() == 0
    ends.publish(message("status", "1", execution_state="idle"))
    ends.pass_on(0.3)
    assert ends.proxy.quiet_seconds() > 0.2


def test_used_port_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(proxy, "BIND_SECONDS", 0.1)
    public, private = ({}, {})
    for connection, name in ((public, "public"), (private, "private")):
        directories.write_connection(tmp_path / name)
        connection.update(json.loads((tmp_path / name).read_text()))
    with socket.socket() as other:
        other.bind((public["ip"], public["stdin_port"]))
        other.listen()
        with pytest.raises(UserError, match=r"Another program uses .* Start the kernel again"):
            proxy.Proxy(public, private, Events(tmp_path), tmp_path)


def test_connection_file_of_evcxr_is_private(tmp_path):
    directories.write_connection(tmp_path / "file")
    directories.write_connection(tmp_path / "other")
    private, other = (json.loads((tmp_path / name).read_text()) for name in ("file", "other"))
    assert ipaddress.ip_address(private["ip"]).is_loopback and private["shell_port"] > 1023
    # Ports of 127.0.0.1 belong to Jupyter, and another kernel has another address.
    assert platform.SYSTEM != "linux" or len({private["ip"], other["ip"], "127.0.0.1"}) == 3
    assert len(private["key"]) >= 32 and private["key"] != other["key"]
    assert (tmp_path / "file").stat().st_mode & 0o077 == 0
    jupyters = {"transport": "ipc", "ip": "/somewhere", "shell_port": 1}
    assert messages.address(jupyters, "shell") == "ipc:///somewhere-1"
