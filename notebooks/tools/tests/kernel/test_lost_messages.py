"""A kernel continues after any lost message, and ends with a reason if evcxr stops."""

import json
import time

import pytest
from test_proxy import COMMAND, Ends, message, signed

from wearable_jupyter.kernel import execution, messages

# All messages that evcxr sends about a cell, and the end markers in the cell's output.
SENT = ("busy", "execute_input", "result", "stdout", "stderr", "reply", "idle")


class FakeEvcxr:
    """Handles requests one by one, like evcxr, but omits the messages in `lost`.

    `lost` has (kind of request, name of message) pairs; each loses one message.
    """

    def __init__(self, ends: Ends, *lost: tuple[str, str], runs_cells: bool = True) -> None:
        self.ends, self.lost, self.runs_cells = ends, list(lost), runs_cells
        self.number, self.executed = 0, []

    def loses(self, kind: str, name: str) -> bool:
        if (kind, name) in self.lost:
            self.lost.remove((kind, name))
            return True
        return False

    def serve(self) -> None:
        for incoming in self.ends.requests(own=True):
            kind, request = incoming["header"]["msg_type"], incoming["header"]["msg_id"]
            if self.loses(kind, "request"):
                continue
            sent = {"busy": message("status", request, execution_state="busy")}
            code = incoming["content"].get("code", "")
            if kind == "execute_request":
                sent["execute_input"] = message("execute_input", request, code=code)
                if not self.runs_cells:
                    # The thread for cells has ended; the first request still gets an idle status.
                    if not self.executed:
                        self.publish(kind, sent | {"idle": self.idle(request)})
                        self.executed.append(code)
                    else:
                        self.publish(kind, sent)
                    continue
                sent |= self.run(code, request)
            sent["idle"] = self.idle(request)
            reply = self.loses(kind, "reply")
            self.publish(kind, sent)
            if not reply:
                self.ends.reply(incoming)

    def idle(self, request: str) -> list[bytes]:
        return message("status", request, execution_state="idle")

    def run(self, code: str, request: str) -> dict[str, list[bytes]]:
        if not code or code.startswith(":"):
            return {}
        self.executed.append(code)
        self.number += 1
        self.ends.send_events(
            ("compile", 2**22), ("begin", self.number, 2**22), ("end", self.number, "ok")
        )
        line = f"of {code}{self.ends.events.marker}{self.number}\n"
        streams = ("stdout", "stderr")
        printed = {name: message("stream", request, name=name, text=line) for name in streams}
        return {"result": message("execute_result", request, data={"text/plain": "1"}), **printed}

    def publish(self, kind: str, sent: dict[str, list[bytes]]) -> None:
        self.ends.publish(*(each for name, each in sent.items() if not self.loses(kind, name)))

    def replies(self, *requests: str, seconds: float = 20) -> dict[str, dict]:
        """The client's replies, by request."""
        found, end = {}, time.monotonic() + seconds
        while set(requests) - set(found) and time.monotonic() < end:
            self.serve()
            self.ends.pass_on(0.02)
            found |= {reply["of"]: reply for reply in self.ends.received("shell")}
        return found


@pytest.fixture
def ends(tmp_path, monkeypatch):
    for name in ("FIRST_PROBE_SECONDS", "LAST_PROBE_SECONDS", "MARK_SILENCE_SECONDS"):
        monkeypatch.setattr(execution, name, 0.3)
    ends = Ends(tmp_path)
    yield ends
    ends.context.destroy(linger=0)
    ends.proxy.context.destroy(linger=0)


@pytest.mark.parametrize(
    "lost",
    [
        (),
        *[(("execute_request", name),) for name in ("request", *SENT)],
        (("execute_request", "reply"), ("execute_request", "idle")),
        *[
            (("execute_request", name), ("kernel_info_request", of_probe))
            for name in ("request", "reply", "idle")
            for of_probe in ("request", "reply", "idle")
        ],
    ],
    ids=lambda lost: "+".join(f"{kind.split('_')[0]}-{name}" for kind, name in lost) or "nothing",
)
def test_lost_message_does_not_stop_a_kernel_nor_run_a_cell_twice(ends, lost):
    evcxr = FakeEvcxr(ends, *lost)
    ends.send("1", code="one")
    ends.send("2", code="two")
    replies = evcxr.replies("1", "2")
    assert [replies[request]["status"] for request in "12"] == ["ok", "ok"]
    assert not evcxr.lost and evcxr.executed == ["one", "two"]
    assert replies["2"]["cell"] == {"code": True, "began": True, "ended": "ok"}
    shown = ends.shown()
    # The output that arrived belongs to its own cell.
    texts = [(request, text) for kind, request, text in shown if kind == "stream"]
    assert set(texts) <= {("1", "of one"), ("2", "of two")} and ("2", "of two") in texts
    ended = [request for kind, request, state in shown if (kind, state) == ("status", "idle")]
    assert ended == ["1", "2"]


@pytest.mark.parametrize("name", ["request", "reply", "idle", "busy"])
def test_lost_reply_to_a_command_is_replaced(ends, name):
    evcxr = FakeEvcxr(ends, ("execute_request", name))
    ends.send("1", code=COMMAND)
    assert evcxr.replies("1")["1"]["status"] == "ok"


def test_evcxr_without_a_cell_thread_is_reported_and_the_kernel_ends(ends):
    ends.proxy.execution.why_evcxr_stopped = lambda: "evcxr panicked: oh no"
    evcxr = FakeEvcxr(ends, runs_cells=False)
    ends.send("1", code="one")
    ends.send("2", code="two")
    replies = evcxr.replies("1", "2")
    assert replies["1"]["ename"] == "KernelEnded" and "oh no" in replies["1"]["evalue"]
    assert replies["2"]["status"] == "aborted"
    assert ends.proxy.execution.stopped == "evcxr panicked: oh no"
    assert ("error", "1", replies["1"]["evalue"]) in ends.shown()


def test_end_of_evcxr_during_a_cell_is_reported(ends):
    ends.send("1")
    ends.requests()
    ends.proxy.close("evcxr has ended with signal 9.")
    (reply,) = ends.received("shell")
    assert reply["ename"] == "KernelEnded" and "signal 9" in reply["evalue"]
    assert ends.shown()[-1] == ("status", "1", "idle")


def test_end_of_evcxr_between_cells_is_reported_under_the_last_cell(ends):
    evcxr = FakeEvcxr(ends)
    ends.send("1", code="one")
    evcxr.replies("1")
    ends.shown()
    ends.proxy.close("evcxr has ended with signal 9.")
    ((kind, request, text),) = ends.shown()
    assert (kind, request) == ("stream", "1") and "signal 9" in text


def test_second_interrupt_ends_a_kernel_whose_cell_does_not_begin(ends, monkeypatch):
    monkeypatch.setattr(execution, "INTERRUPT_SECONDS", 0.1)
    ends.send("1")
    ends.send("i1", "interrupt_request", "control")
    ends.pass_on(0.3)
    assert ("stream", "1", execution.STILL_COMPILING) in ends.shown()
    assert ends.proxy.execution.stopped is None
    ends.send("i2", "interrupt_request", "control")
    assert ends.proxy.execution.stopped is not None
    assert [reply["ename"] for reply in ends.received("shell")] == ["KernelEnded"]


def test_first_request_is_repeated_until_evcxr_replies(tmp_path, monkeypatch):
    """evcxr publishes its first status before the proxy subscribes. The client's cell waits."""
    monkeypatch.setattr(execution, "LAST_KERNEL_INFO_SECONDS", 0.1)
    ends = Ends(tmp_path)
    try:
        running = ends.proxy.execution
        running.is_ready = False
        ends.send("1", code=COMMAND)
        assert not ends.requests()
        for _ in range(5):
            ends.pass_on(0.2)
            assert ends.requests(own=True), "the request is repeated"
        evcxr = FakeEvcxr(ends)
        assert evcxr.replies("1")["1"]["status"] == "ok"
    finally:
        ends.context.destroy(linger=0)
        ends.proxy.context.destroy(linger=0)


def test_text_that_would_crash_evcxr_is_rejected(ends):
    ends.send("1", "complete_request", code="(" * 1000, cursor_pos=1000)
    assert not ends.requests()
    (reply,) = ends.received("shell")
    assert (reply["kind"], reply["status"]) == ("complete_reply", "error")
    assert [state for _, _, state in ends.shown()] == ["busy", "idle"]


def test_output_between_cells_belongs_to_the_last_one(ends):
    evcxr = FakeEvcxr(ends)
    ends.send("1", code="one")
    evcxr.replies("1")
    ends.shown()
    probe = next(iter(ends.proxy.execution.own))
    ends.publish(message("stream", probe, name="stdout", text="running\n"))
    ends.pass_on()
    assert ends.shown() == [("stream", "1", "running\n")]


def test_input_reaches_the_cell_that_requested_it(ends):
    ends.send("1", allow_stdin=True)
    (incoming,) = ends.requests()
    assert incoming["content"]["allow_stdin"] is True
    # evcxr sends it to the identity of the request, on another socket.
    wants = signed(ends.private, message("input_request", "1", prompt="Name?", password=False))
    ends.evcxr["stdin"].send_multipart([*incoming["to"], *wants])
    ends.pass_on()
    (got,) = ends.received("stdin")
    assert (got["kind"], got["of"], got["prompt"]) == ("input_request", "1", "Name?")
    ends.send("r", "input_reply", "stdin", value="Ada")
    ends.send("r2", "input_reply", "stdin", value="too much")
    (reply,) = ends.requests("stdin")
    assert reply["content"]["value"] == "Ada"


def test_interrupt_ends_a_request_for_input(ends):
    ends.send("1", allow_stdin=True)
    (incoming,) = ends.requests()
    wants = signed(ends.private, message("input_request", "1", prompt="Name?", password=False))
    ends.evcxr["stdin"].send_multipart([*incoming["to"], *wants])
    ends.pass_on()
    ends.send("i", "interrupt_request", "control")
    (reply,) = ends.requests("stdin", own=True)
    assert reply["content"] == {"value": ""}


def test_message_that_evcxr_cannot_parse_is_simplified(ends):
    """Binary buffers, NaN, half of a surrogate pair, deep nesting, numbers of any size."""
    deep = json.loads("[" * 200 + "]" * 200)
    header = {"msg_type": "execute_request", "msg_id": "1", "session": "s", "extra": deep}
    content = {"code": "1\ud800", "cursor_pos": 10**400, "user_expressions": {"a": float("nan")}}
    parts = (header, {}, {"x": deep, "y": float("inf")}, content)
    frames = [messages.DELIMITER, b"", *(json.dumps(part).encode() for part in parts)]
    ends.client["shell"].send_multipart([*signed(ends.connection, frames), b"a buffer", b"another"])
    ends.pass_on()
    router = ends.evcxr["shell"]
    frames = router.recv_multipart()
    at = frames.index(messages.DELIMITER)
    assert len(frames) == at + 6
    header, parent, metadata, content = map(json.loads, frames[at + 2 :])
    assert header == {"msg_type": "execute_request", "msg_id": "1", "session": "s"}
    assert (parent, metadata, content) == ({}, {}, {"code": "1\ufffd"})


@pytest.mark.parametrize(
    "parts",
    [
        (b"{", b"{}", b"{}", b"{}"),
        (b"[]", b"{}", b"{}", b"{}"),
        (b'{"msg_type": 1, "msg_id": "1"}', b"{}", b"{}", b"{}"),
        (b'{"msg_type": "execute_request", "msg_id": "1"}', b"1", b"{}", b"{}"),
        (b'{"msg_type": "execute_request", "msg_id": "1"}', b"{}", b"{}", b"\xff"),
        (b'{"msg_type": "execute_request", "msg_id": "1"}', b"{}", b"{}", b"[" * 100_000),
        (b'{"msg_type": "execute_request"}', b"{}", b"{}", b"{}"),
    ],
    ids=range(7),
)
def test_malformed_message_is_ignored(ends, parts):
    frames = signed(ends.connection, [messages.DELIMITER, b"", *parts])
    for channel in ("shell", "control", "stdin"):
        ends.client[channel].send_multipart(frames)
    ends.send("2")
    assert [incoming["header"]["msg_id"] for incoming in ends.requests()] == ["2"]
    assert not ends.requests("control") and not ends.requests("stdin")


def test_missing_dependency_is_fetched_with_a_notice(ends, monkeypatch):
    monkeypatch.delenv(execution.OFFLINE, raising=False)
    ends.send("1", code=':dep new = "1"')
    (incoming,) = ends.requests()
    offline = (
        "error: no matching package named `new` found\nAs a reminder, you're using offline mode"
    )
    busy = message("status", "1", execution_state="busy")
    entered = message("execute_input", "1", code="x", execution_count=2)
    failed = message("error", "1", ename="Error", evalue=offline, traceback=[offline])
    idle = message("status", "1", execution_state="idle")
    ends.publish(busy, entered, failed, idle)
    ends.reply(incoming, "error")
    ends.pass_on()
    first, again = ends.requests(own=True)[-2:]
    assert first["content"]["code"] == ":offline 0" and again["content"] == incoming["content"]
    assert not ends.received("shell")
    ends.publish(busy, entered, idle)
    ends.reply(again)
    ends.pass_on()
    assert [reply["status"] for reply in ends.received("shell")] == ["ok"]
    shown = ends.shown()
    assert [kind for kind, _, _ in shown].count("execute_input") == 1
    assert any(
        kind == "stream" and "`new` is not in the lock file" in text for kind, _, text in shown
    )
    assert ends.requests(own=True)[-1]["content"]["code"] == ":offline 1"


@pytest.mark.parametrize("setting", ["variable", "command", "shell"])
def test_kernel_with_the_offline_variable_stays_offline(ends, monkeypatch, setting):
    monkeypatch.delenv(execution.OFFLINE, raising=False)
    code = {"command": ":offline 1\n:dep new", "shell": "!touch x\n:dep new"}.get(
        setting, ":dep new"
    )
    if setting == "variable":
        monkeypatch.setenv(execution.OFFLINE, "1")
    ends.send("1", code=code)
    (incoming,) = ends.requests()
    offline = (
        "error: no matching package named `new` found\nAs a reminder, you're using offline mode"
    )
    failed = message("error", "1", ename="Error", evalue=offline, traceback=[offline])
    ends.publish(failed, message("status", "1", execution_state="idle"))
    ends.reply(incoming, "error")
    ends.pass_on()
    (reply,) = ends.received("shell")
    assert "`:offline 0`" in reply["evalue"] and "retry without" not in reply["evalue"]
    assert not [a for a in ends.requests(own=True) if a["header"]["msg_type"] == "execute_request"]
