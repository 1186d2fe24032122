"""Carry messages between Jupyter and evcxr.

evcxr ends when a client goes away while it answers, and Jupyter's server does that: as long as a
kernel starts, it asks again every half second, from sockets that it closes at the first answer. So
Jupyter connects to this relay, and evcxr has one client that stays. ZeroMQ drops an answer that
nobody waits for any more.

Messages are signed, by Jupyter with a key that evcxr was not started with: the kernel may have been
a spare one. So the relay checks each signature and signs anew. What a request to run a cell comes
to, `execution.py` decides.
"""

import secrets
import time
from collections.abc import Callable
from pathlib import Path

import zmq

from .events import Events
from .execution import Execution
from .messages import SESSION, Message, address, new_message

# Requests, each of which has its answer. The other channel is iopub, which everybody hears.
REQUESTS = ("shell", "control", "stdin", "hb")
CHANNELS = (*REQUESTS, "iopub")
# A kernel that restarts gets the ports of the one before, whose relay is just ending.
BIND_SECONDS = 15
CLOSE_MS = 1000
# Messages that are taken from one socket before the others have their turn.
AT_ONCE = 1000


class Proxy:
    """Sockets for Jupyter, in `front`, and each one's to evcxr, in `back`.

    `connection` is Jupyter's connection file, `private` evcxr's, as their content; `directory` is
    the kernel's.
    """

    def __init__(
        self,
        connection: dict,
        private: dict,
        events: Events,
        directory: Path,
        why_evcxr_stopped: Callable[[], str] = lambda: "evcxr does not answer.",
    ) -> None:
        self.connection, self.private, self.events = connection, private, events
        # evcxr sends its requests for input to the identity that asked it to run the cell.
        self.identity = secrets.token_hex(8).encode()
        self.input_request: Message | None = None
        self.shutdown_requested = False
        self.context = zmq.Context()
        self.busy, self.since = True, time.monotonic()  # until it answers
        self.poller = zmq.Poller()
        self.front: dict[str, zmq.Socket] = {}
        self.back: dict[str, zmq.Socket] = {}
        for channel in CHANNELS:
            requests = channel in REQUESTS
            front = self.front[channel] = self._socket(zmq.ROUTER if requests else zmq.PUB)
            back = self.back[channel] = self._socket(zmq.DEALER if requests else zmq.SUB)
            if requests:
                # A client that connects anew, by the same name, is not turned away.
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
        sock.set_hwm(0)  # keep everything: a cell may print more than ZeroMQ's 1000 messages
        return sock

    def _bind(self, front: zmq.Socket, where: str) -> None:
        deadline = time.monotonic() + BIND_SECONDS
        while True:
            try:
                front.bind(where)
                return
            except zmq.ZMQError as error:
                if error.errno != zmq.EADDRINUSE or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    # What `execution.Outlet` wants.

    def to_evcxr(self, message: Message, **changed: str) -> None:
        self._to_evcxr("shell", message, **changed)

    def _to_evcxr(self, channel: str, message: Message, **changed: str) -> None:
        self.back[channel].send_multipart(message.for_evcxr(**changed).frames(self.private))

    def reply(self, message: Message) -> None:
        self.front["shell"].send_multipart(message.frames(self.connection))

    def publish(self, message: Message) -> None:
        message.identities = []  # everybody hears it
        if message.kind == "status":
            self.busy = message.content.get("execution_state") != "idle"
            self.since = time.monotonic()
        self.front["iopub"].send_multipart(message.frames(self.connection))

    def step(self, seconds: float) -> bool:
        """Wait for messages, and pass on those that have come; whether there were any."""
        if self.pause is not None:
            seconds = min(seconds, self.pause)
        ready = dict(self.poller.poll(1000 * seconds))
        # What evcxr says comes first: it belongs to what was asked before.
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
        """Messages that have come, as far as their sender has signed them."""
        for _ in range(AT_ONCE if source in ready else 0):
            try:
                frames = source.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            message = Message.received(frames, sender)
            if message is not None:
                yield message

    def _control(self, message: Message) -> None:
        """An interrupt is answered here, unless it is to end the process; the rest by evcxr."""
        if message.kind == "interrupt_request":
            self._end_input()
        if message.kind == "interrupt_request" and not self.execution.interrupt():
            answer = message.answer("interrupt_reply", {"status": "ok"})
            self.front["control"].send_multipart(answer.frames(self.connection))
            return
        self.shutdown_requested |= message.kind == "shutdown_request"
        self._to_evcxr("control", message)

    def _input(self, ready: dict) -> None:
        """Pass on evcxr's request for input, and one reply to it."""
        for message in self._received(self.back["stdin"], self.private, ready):
            self.input_request = message
            self.front["stdin"].send_multipart(message.frames(self.connection))
        for message in self._received(self.front["stdin"], self.connection, ready):
            # evcxr would take a second reply for that to its next request.
            if self.input_request is not None:
                self.input_request = None
                self._to_evcxr("stdin", message)

    def _end_input(self) -> None:
        """End a request for input that an interrupted cell waits for."""
        if self.input_request is not None:
            self.input_request = None
            empty = new_message("input_reply", {"value": ""}, SESSION, b"{}", [])
            self._to_evcxr("stdin", empty)

    def quiet_seconds(self) -> float:
        """How long nothing has run."""
        return 0.0 if self.busy else time.monotonic() - self.since

    def close(self, reason: str | None = None) -> None:
        """Pass on evcxr's last messages and free the ports.

        With a reason why evcxr has stopped, the cell that runs fails with it.
        """
        deadline = time.monotonic() + CLOSE_MS / 1000
        while self.step(0.05) and time.monotonic() < deadline:
            pass
        if reason is not None:
            self.execution.stop(reason)
        for sock in (*self.front.values(), *self.back.values()):
            sock.close(linger=CLOSE_MS)
