"""Relays messages between Jupyter and evcxr.

evcxr crashes when a client disconnects while evcxr replies. Jupyter's server does that: during the
start of a kernel, it sends a request every half second, from sockets that it closes at the first
reply. So Jupyter connects to this proxy, and evcxr has one permanent client. ZeroMQ drops replies
to closed sockets.

Jupyter signs messages with another key than evcxr's, because the kernel may be prewarmed. So the
proxy verifies each signature and signs messages again. `execution.py` decides the result of a
request to run a cell.
"""

import secrets
import time
from collections.abc import Callable
from pathlib import Path

import zmq

from ..setup.errors import UserError
from .events import Events
from .execution import Execution
from .messages import SESSION, Message, address, new_message

# Channels with requests and replies. The other channel is iopub, which all clients receive.
REQUESTS = ("shell", "control", "stdin", "hb")
CHANNELS = (*REQUESTS, "iopub")
# A restarted kernel gets the ports of the previous one, whose proxy may still be ending.
BIND_SECONDS = 15
CLOSE_MS = 1000
# The number of messages that are read from one socket before the next socket.
BATCH = 1000


class Proxy:
    """The sockets for Jupyter, in `front`, and the corresponding sockets to evcxr, in `back`.

    `connection` is the content of Jupyter's connection file, and `private` of evcxr's. `directory`
    is the kernel's.
    """

    def __init__(
        self,
        connection: dict,
        private: dict,
        events: Events,
        directory: Path,
        why_evcxr_stopped: Callable[[], str] = lambda: "evcxr stopped responding.",
    ) -> None:
        self.connection, self.private, self.events = connection, private, events
        # evcxr sends requests for input to the identity that sent the request to run the cell.
        self.identity = secrets.token_hex(8).encode()
        self.input_request: Message | None = None
        self.shutdown_requested = False
        self.context = zmq.Context()
        self.busy, self.since = True, time.monotonic()  # until its first reply
        self.poller = zmq.Poller()
        self.front: dict[str, zmq.Socket] = {}
        self.back: dict[str, zmq.Socket] = {}
        for channel in CHANNELS:
            requests = channel in REQUESTS
            front = self.front[channel] = self._socket(zmq.ROUTER if requests else zmq.PUB)
            back = self.back[channel] = self._socket(zmq.DEALER if requests else zmq.SUB)
            if requests:
                # Accept a client that reconnects with the same identity.
                front.set(zmq.ROUTER_HANDOVER, 1)
                self.poller.register(front, zmq.POLLIN)
            else:
                back.set(zmq.SUBSCRIBE, b"")
            if channel in ("shell", "stdin"):
                back.set(zmq.IDENTITY, self.identity)
            self.poller.register(back, zmq.POLLIN)
            back.connect(address(private, channel))
            self._bind(front, address(connection, channel))
        self.poller.register(events.pipe, zmq.POLLIN)
        self.execution = Execution(self, events, directory, why_evcxr_stopped)
        self.pause: float | None = None

    def _socket(self, kind: int) -> zmq.Socket:
        sock = self.context.socket(kind)
        sock.set_hwm(0)  # unlimited: a cell may print more than ZeroMQ's default of 1000 messages
        return sock

    def _bind(self, front: zmq.Socket, where: str) -> None:
        deadline = time.monotonic() + BIND_SECONDS
        while True:
            try:
                front.bind(where)
                return
            except zmq.ZMQError as error:
                if error.errno != zmq.EADDRINUSE:
                    raise
                if time.monotonic() > deadline:
                    self.context.destroy(linger=0)
                    raise UserError(
                        f"Another program uses {where}, which Jupyter chose for this kernel. "
                        "Start the kernel again"
                    ) from error
                time.sleep(0.05)

    # The methods of `execution.MessageSender`.

    def to_evcxr(self, message: Message, **changed: str) -> None:
        self._to_evcxr("shell", message, **changed)

    def _to_evcxr(self, channel: str, message: Message, **changed: str) -> None:
        self.back[channel].send_multipart(message.for_evcxr(**changed).frames(self.private))

    def reply(self, message: Message) -> None:
        self.front["shell"].send_multipart(message.frames(self.connection))

    def publish(self, message: Message) -> None:
        message.identities = []  # for all clients
        if message.kind == "status":
            self.busy = message.content.get("execution_state") != "idle"
            self.since = time.monotonic()
        self.front["iopub"].send_multipart(message.frames(self.connection))

    def step(self, seconds: float) -> bool:
        """Wait for messages and relay them. Returns whether there were any."""
        if self.pause is not None:
            seconds = min(seconds, self.pause)
        ready = dict(self.poller.poll(1000 * seconds))
        # evcxr's messages come first, because they belong to earlier requests.
        for message in self._received(self.back["iopub"], self.private, ready):
            self.execution.published(message)
        for message in self._received(self.back["shell"], self.private, ready):
            self.execution.replied(message)
        for message in self._received(self.front["control"], self.connection, ready):
            self._control(message)
        for message in self._received(self.front["shell"], self.connection, ready):
            self.execution.request(message)
        for message in self._received(self.back["control"], self.private, ready):
            self.front["control"].send_multipart(message.frames(self.connection))
        self._input(ready)
        # A heartbeat is no message: it comes back as it is.
        for source, target in ((self.front, self.back), (self.back, self.front)):
            if source["hb"] in ready:
                target["hb"].send_multipart(source["hb"].recv_multipart())
        self.pause = self.execution.settle()
        return any(sock in ready for sock in (*self.front.values(), *self.back.values()))

    def _received(self, source: zmq.Socket, sender: dict, ready: dict):
        """The received messages with a valid signature."""
        for _ in range(BATCH if source in ready else 0):
            try:
                frames = source.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            message = Message.received(frames, sender)
            if message is not None:
                yield message

    def _control(self, message: Message) -> None:
        """Reply to an interrupt, unless it must kill the process; relay other requests to evcxr."""
        if message.kind == "interrupt_request":
            self._end_input()
        if message.kind == "interrupt_request" and not self.execution.interrupt():
            answer = message.child("interrupt_reply", {"status": "ok"})
            self.front["control"].send_multipart(answer.frames(self.connection))
            return
        self.shutdown_requested |= message.kind == "shutdown_request"
        self._to_evcxr("control", message)

    def _input(self, ready: dict) -> None:
        """Relay evcxr's request for input, and one reply to it."""
        for message in self._received(self.back["stdin"], self.private, ready):
            self.input_request = message
            self.front["stdin"].send_multipart(message.frames(self.connection))
        for message in self._received(self.front["stdin"], self.connection, ready):
            # evcxr would use a second reply for its next request.
            if self.input_request is not None:
                self.input_request = None
                self._to_evcxr("stdin", message)

    def _end_input(self) -> None:
        """Reply to the request for input of an interrupted cell."""
        if self.input_request is not None:
            self.input_request = None
            empty = new_message("input_reply", {"value": ""}, SESSION, b"{}", [])
            self._to_evcxr("stdin", empty)

    def quiet_seconds(self) -> float:
        """The seconds since the last cell ended; 0 while a cell runs."""
        return 0.0 if self.busy else time.monotonic() - self.since

    def close(self, reason: str | None = None) -> None:
        """Relay evcxr's last messages and close the sockets.

        If evcxr stopped for a `reason`, the running cell fails with it.
        """
        deadline = time.monotonic() + CLOSE_MS / 1000
        while self.step(0.05) and time.monotonic() < deadline:
            pass
        if reason is not None:
            self.execution.stop(reason)
        for sock in (*self.front.values(), *self.back.values()):
            sock.close(linger=CLOSE_MS)
