"""Messages as they stand on the wire: where sockets are, signatures, and the parts of a message.

A message is a list of frames: identities, a delimiter, a signature, then header, parent's header,
metadata and content as JSON, and perhaps buffers.
"""

import hmac
import json
import secrets
from datetime import UTC, datetime
from typing import Any

DELIMITER = b"<IDS|MSG>"
Frames = list[bytes]


def address(connection: dict, channel: str) -> str:
    """Where a channel is, by a connection file's content."""
    separator = "-" if connection["transport"] == "ipc" else ":"
    return (
        f"{connection['transport']}://{connection['ip']}{separator}{connection[channel + '_port']}"
    )


def signature(connection: dict, parts: Frames) -> bytes:
    """What a message's four parts are signed with, by a connection file's key."""
    if not connection["key"]:
        return b""
    digest = connection["signature_scheme"].removeprefix("hmac-")
    return hmac.digest(connection["key"].encode(), b"".join(parts), digest).hex().encode()


class Message:
    """A message, with the parts that are looked at unpacked when they are."""

    def __init__(self, frames: Frames, delimiter: int) -> None:
        self.identities = frames[:delimiter]
        self.parts = frames[delimiter + 2 : delimiter + 6]
        self.buffers = frames[delimiter + 6 :]
        self.header: dict[str, Any] = json.loads(self.parts[0])
        self.parent: dict[str, Any] = json.loads(self.parts[1])

    @classmethod
    def received(cls, frames: Frames, sender: dict) -> "Message | None":
        """A message of a sender; None if that did not sign it, or it is none."""
        delimiter = frames.index(DELIMITER) if DELIMITER in frames else len(frames)
        if len(frames) < delimiter + 6:
            return None
        signed = signature(sender, frames[delimiter + 2 : delimiter + 6])
        if not hmac.compare_digest(frames[delimiter + 1], signed):
            return None
        return cls(frames, delimiter)

    @property
    def kind(self) -> str:
        return self.header["msg_type"]

    @property
    def id(self) -> str:
        return self.header["msg_id"]

    @property
    def request(self) -> str | None:
        """The id of the request that it belongs to."""
        return self.parent.get("msg_id")

    @property
    def content(self) -> dict[str, Any]:
        return json.loads(self.parts[3])

    @content.setter
    def content(self, content: dict[str, Any]) -> None:
        self.parts[3] = json.dumps(content).encode()

    @property
    def metadata(self) -> dict[str, Any]:
        return json.loads(self.parts[2])

    @metadata.setter
    def metadata(self, metadata: dict[str, Any]) -> None:
        self.parts[2] = json.dumps(metadata).encode()

    def frames(self, receiver: dict) -> Frames:
        """The message, signed for its receiver."""
        signed = signature(receiver, self.parts)
        return [*self.identities, DELIMITER, signed, *self.parts, *self.buffers]

    def answer(self, kind: str, content: dict[str, Any]) -> "Message":
        """A new message that belongs to this request, for whom has sent it."""
        return made(kind, content, self.header, self.parts[0], self.identities)


def made(
    kind: str, content: dict[str, Any], like: dict[str, Any], parent: bytes, to: Frames
) -> Message:
    """A new message, in a session `like` that of another header's."""
    header = like | {
        "msg_id": secrets.token_hex(16),
        "msg_type": kind,
        "date": datetime.now(UTC).isoformat(),
    }
    parts = [json.dumps(header).encode(), parent, b"{}", json.dumps(content).encode()]
    return Message([*to, DELIMITER, b"", *parts], len(to))


# For requests of nobody's.
SESSION = {"username": "kernel", "session": secrets.token_hex(16), "version": "5.3"}
