"""Carry messages between Jupyter and evcxr.

evcxr ends when a client goes away while it answers, and Jupyter's server does that: as long as a
kernel starts, it asks again every half second, from sockets that it closes at the first answer. So
Jupyter connects to this relay, and evcxr has one client that stays. ZeroMQ drops an answer that
nobody waits for any more.

evcxr also says that it is idle when a cell has ended, which may be a moment before the cell's last
lines have left it; and JupyterLab drops what comes after. Such a line is let go first.
"""

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


def says_idle(message: list[bytes]) -> bool:
    """Whether a message on iopub says that a request is done."""
    if described(message)[0] != "status":
        return False  # its content, which may be a chart's, need not be read
    content = message[message.index(DELIMITER) + 5]
    return json.loads(content).get("execution_state") == "idle"


class Relay:
    """Sockets for Jupyter, in `front`, and each one's to evcxr, in `back`.

    `connection` is Jupyter's connection file, `private` evcxr's, as their content.
    """

    def __init__(self, connection: dict, private: dict) -> None:
        self.context = zmq.Context()
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
            if front in ready:
                back.send_multipart(front.recv_multipart())
            if back in ready:
                front.send_multipart(back.recv_multipart())
        if self.back["iopub"] in ready:
            self._publish(self.back["iopub"].recv_multipart())
        return any(sock in ready for sock in (*self.front.values(), *self.back.values()))

    def _publish(self, message: list[bytes]) -> None:
        """Pass on a message of evcxr's, and before one that says idle, what comes just late."""
        publish, iopub = self.front["iopub"].send_multipart, self.back["iopub"]
        if not says_idle(message):
            publish(message)
            return
        (_, request), following = described(message), None
        # A thread that a cell has left behind may print without end.
        deadline = time.monotonic() + 10 * LATE_MS / 1000
        while following is None and time.monotonic() < deadline and iopub.poll(LATE_MS):
            following = iopub.recv_multipart()
            kind, of = described(following)
            if kind != "status" and of == request:
                publish(following)
                following = None
        publish(message)
        if following is not None:
            self._publish(following)

    def close(self) -> None:
        """Pass on evcxr's last words and free the ports, without waiting for who should hear."""
        while self.step(0.05):
            pass
        for sock in (*self.front.values(), *self.back.values()):
            sock.close(linger=CLOSE_MS)
