"""Jupyter messages in their wire format: addresses, signatures, and the parts of a message.

A message is a list of frames: identities, a delimiter, a signature; header, parent header, metadata
and content as JSON; and optional buffers.
"""

import hmac
import json
import secrets
from datetime import UTC, datetime
from typing import Any

DELIMITER = b"<IDS|MSG>"
Frames = list[bytes]
# The fields of a request that evcxr reads, and the largest number that it reads exactly.
READ_BY_EVCXR = ("code", "cursor_pos", "allow_stdin", "restart", "value", "target_name", "comm_id")
MAX_SAFE_INTEGER = 2**53 - 1


def address(connection: dict, channel: str) -> str:
    """The address of a channel, from a connection file's content."""
    separator = "-" if connection["transport"] == "ipc" else ":"
    return (
        f"{connection['transport']}://{connection['ip']}{separator}{connection[channel + '_port']}"
    )


def signature(connection: dict, parts: Frames) -> bytes:
    """The signature of a message's four parts, with a connection file's key."""
    if not connection["key"]:
        return b""
    digest = connection["signature_scheme"].removeprefix("hmac-")
    return hmac.digest(connection["key"].encode(), b"".join(parts), digest).hex().encode()


class Message:
    """A message; a changed part is encoded again."""

    def __init__(self, frames: Frames, delimiter: int) -> None:
        self.identities = frames[:delimiter]
        self.parts = frames[delimiter + 2 : delimiter + 6]
        self.buffers = frames[delimiter + 6 :]
        self.header, self.parent, self._metadata, self._content = map(json.loads, self.parts)

    @classmethod
    def received(cls, frames: Frames, sender: dict) -> "Message | None":
        """Decode a message; None if it is malformed or its signature is not the sender's."""
        delimiter = frames.index(DELIMITER) if DELIMITER in frames else len(frames)
        if len(frames) < delimiter + 6:
            return None
        signed = signature(sender, frames[delimiter + 2 : delimiter + 6])
        if not hmac.compare_digest(frames[delimiter + 1], signed):
            return None
        try:
            message = cls(frames, delimiter)
        except (ValueError, RecursionError):
            return None
        return message if message.is_complete() else None

    def is_complete(self) -> bool:
        """Whether each part is an object, and the header has a kind and an id."""
        parts = (self.header, self.parent, self._metadata, self._content)
        return all(isinstance(part, dict) for part in parts) and all(
            isinstance(self.header.get(name), str) for name in ("msg_type", "msg_id")
        )

    @property
    def kind(self) -> str:
        return self.header["msg_type"]

    @property
    def id(self) -> str:
        return self.header["msg_id"]

    @property
    def request(self) -> str | None:
        """The id of the request that this message belongs to."""
        return self.parent.get("msg_id")

    @property
    def content(self) -> dict[str, Any]:
        """A copy of the content; to change the content, set the property."""
        return dict(self._content)

    @content.setter
    def content(self, content: dict[str, Any]) -> None:
        self._content = content
        self.parts[3] = json.dumps(content).encode()

    @property
    def metadata(self) -> dict[str, Any]:
        return dict(self._metadata)

    @metadata.setter
    def metadata(self, metadata: dict[str, Any]) -> None:
        self._metadata = metadata
        self.parts[2] = json.dumps(metadata).encode()

    def text(self, name: str) -> str:
        """A string in the content; empty if the field is not a string."""
        value = self._content.get(name)
        return replace_surrogates(value) if isinstance(value, str) else ""

    def for_evcxr(self, **changed: Any) -> "Message":
        """The message with only the fields that evcxr reads, in a form that evcxr can parse.

        evcxr's loop ends at valid messages that it cannot parse: with binary buffers, NaN, a lone
        surrogate, or deep nesting.
        """
        content = {name: self._content[name] for name in READ_BY_EVCXR if name in self._content}
        data = self._content.get("data")
        if isinstance(data, dict):
            content["data"] = scalar_fields({"code": data.get("code")})
        parts = (
            scalar_fields(self.header),
            scalar_fields(self.parent),
            {},
            scalar_fields(content) | changed,
        )
        encoded = [json.dumps(part).encode() for part in parts]
        return Message([*self.identities, DELIMITER, b"", *encoded], len(self.identities))

    def frames(self, receiver: dict) -> Frames:
        """The message, signed for its receiver."""
        signed = signature(receiver, self.parts)
        return [*self.identities, DELIMITER, signed, *self.parts, *self.buffers]

    def child(self, kind: str, content: dict[str, Any]) -> "Message":
        """A new message in reply to this request, for its sender."""
        return new_message(kind, content, self.header, self.parts[0], self.identities)


def replace_surrogates(text: str) -> str:
    """Replace lone surrogates by U+FFFD, so that the text can be encoded as UTF-8."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def scalar_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """The strings, numbers and booleans in `fields`, and `data` if it contains only those."""
    kept: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, str):
            kept[replace_surrogates(name)] = replace_surrogates(value)
        elif isinstance(value, dict) and name == "data":
            kept[name] = value
        elif isinstance(value, int) and abs(value) <= MAX_SAFE_INTEGER:
            kept[replace_surrogates(name)] = value
    return kept


def new_message(
    kind: str, content: dict[str, Any], like: dict[str, Any], parent: bytes, to: Frames
) -> Message:
    """Create a message in the session of the header `like`."""
    header = like | {
        "msg_id": secrets.token_hex(16),
        "msg_type": kind,
        "date": datetime.now(UTC).isoformat(),
    }
    parts = [json.dumps(header).encode(), parent, b"{}", json.dumps(content).encode()]
    return Message([*to, DELIMITER, b"", *parts], len(to))


# The session of the kernel's own requests.
SESSION = {"username": "kernel", "session": secrets.token_hex(16), "version": "5.3"}
