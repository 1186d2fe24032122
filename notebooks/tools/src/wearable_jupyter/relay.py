"""Carry messages between Jupyter and evcxr.

evcxr ends when a client goes away while it answers, and Jupyter's server does that: as long as a
kernel starts, it asks again every half second, from sockets that it closes at the first answer. So
Jupyter connects to this relay, and evcxr has one client that stays. ZeroMQ drops an answer that
nobody waits for any more.

evcxr also says that it is idle when a cell has ended, which may be a moment before the cell's last
lines have left it; and JupyterLab drops what comes after. Such a line is let go first.

Messages are signed, by Jupyter with a key that evcxr was not started with: the kernel may have been
a spare one. So the relay checks each signature and signs anew.
"""

import hmac
import json
import time

import zmq

# Requests, each of which has its answer. The other channel is iopub, which everybody hears.
REQUESTS = ("shell", "control", "stdin", "hb")
CHANNELS = (*REQUESTS, "iopub")
DELIMITER = b"<IDS|MSG>"
# A line that evcxr has read but not sent is under way in other threads: microseconds, unless the
# machine is very busy.
LATE_MS = 10
# A kernel that restarts gets the ports of the one before, whose relay is just ending.
BIND_SECONDS = 15
CLOSE_MS = 1000


def address(connection: dict, channel: str) -> str:
    """Where a channel is, by a connection file's content."""
    separator = "-" if connection["transport"] == "ipc" else ":"
    return (
        f"{connection['transport']}://{connection['ip']}{separator}{connection[channel + '_port']}"
    )


def described(message: list[bytes]) -> tuple[str, str | None]:
    """A message's type, and the id of the request that it belongs to."""
    header, parent = message[message.index(DELIMITER) + 2 :][:2]
    return json.loads(header)["msg_type"], json.loads(parent).get("msg_id")


def state(message: list[bytes]) -> str | None:
    """What a message on iopub says that the kernel is, busy or idle, if it says that."""
    if described(message)[0] != "status":
        return None  # its content, which may be a chart's, need not be read
    content = message[message.index(DELIMITER) + 5]
    return json.loads(content).get("execution_state")


def signature(connection: dict, message: list[bytes], delimiter: int) -> bytes:
    """What a message is signed with, by a connection file's key; nothing without one."""
    if not connection["key"]:
        return b""
    digest = connection["signature_scheme"].removeprefix("hmac-")
    signed = b"".join(message[delimiter + 2 : delimiter + 6])
    return hmac.new(connection["key"].encode(), signed, digest).hexdigest().encode()


def resigned(message: list[bytes], sender: dict, receiver: dict) -> list[bytes] | None:
    """A message signed for its receiver; None if its sender did not sign it rightly."""
    delimiter = message.index(DELIMITER) if DELIMITER in message else len(message)
    if len(message) < delimiter + 6:
        return None
    if not hmac.compare_digest(message[delimiter + 1], signature(sender, message, delimiter)):
        return None
    signed = signature(receiver, message, delimiter)
    return [*message[: delimiter + 1], signed, *message[delimiter + 2 :]]


class Relay:
    """Sockets for Jupyter, in `front`, and each one's to evcxr, in `back`.

    `connection` is Jupyter's connection file, `private` evcxr's, as their content.
    """

    def __init__(self, connection: dict, private: dict) -> None:
        self.connection, self.private = connection, private
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
            self.poller.register(back, zmq.POLLIN)
            back.connect(address(private, channel))
            self._bind(front, address(connection, channel))

    def _socket(self, kind: int) -> zmq.Socket:
        made = self.context.socket(kind)
        made.set_hwm(0)  # keep everything: a cell may print more than ZeroMQ's 1000 messages
        return made

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

    def step(self, seconds: float) -> bool:
        """Wait for messages, and pass on those that have come; whether there were any."""
        ready = dict(self.poller.poll(1000 * seconds))
        for channel in REQUESTS:
            front, back = self.front[channel], self.back[channel]
            for source, target, *ends in (
                (front, back, self.connection, self.private),
                (back, front, self.private, self.connection),
            ):
                if source in ready:
                    message = source.recv_multipart()
                    # A heartbeat is no message: it comes back as it is.
                    passed = message if channel == "hb" else resigned(message, *ends)
                    if passed is not None:
                        target.send_multipart(passed)
        if self.back["iopub"] in ready:
            self._publish(self._heard())
        return any(sock in ready for sock in (*self.front.values(), *self.back.values()))

    def quiet_seconds(self) -> float:
        """How long nothing has run."""
        return 0.0 if self.busy else time.monotonic() - self.since

    def _heard(self) -> list[bytes] | None:
        """The next message on iopub, signed for Jupyter; None if evcxr did not sign it."""
        return resigned(self.back["iopub"].recv_multipart(), self.private, self.connection)

    def _publish(self, message: list[bytes] | None) -> None:
        """Pass on a message of evcxr's, and before one that says idle, what comes just late."""
        if message is None:
            return
        publish, says = self.front["iopub"].send_multipart, state(message)
        if says is not None:
            self.busy, self.since = says != "idle", time.monotonic()
        if says != "idle":
            publish(message)
            return
        (_, request), following = described(message), None
        # A thread that a cell has left behind may print without end.
        deadline = time.monotonic() + 10 * LATE_MS / 1000
        while following is None and time.monotonic() < deadline:
            if not self.back["iopub"].poll(LATE_MS):
                break
            following = self._heard()
            if following is not None:
                kind, of = described(following)
                if kind != "status" and of == request:
                    publish(following)
                    following = None
        publish(message)
        self._publish(following)

    def close(self) -> None:
        """Pass on evcxr's last words and free the ports, without waiting for who should hear."""
        deadline = time.monotonic() + CLOSE_MS / 1000
        while self.step(0.05) and time.monotonic() < deadline:
            pass
        for sock in (*self.front.values(), *self.back.values()):
            sock.close(linger=CLOSE_MS)
