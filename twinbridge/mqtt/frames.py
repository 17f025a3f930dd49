"""Where a packet ends, and what the commonest of them says (MQTT 3.1.1, 2.2 and 3.3). Pure.

Messages of QoS 0 are nearly all of what comes, and cost a fifth of what they cost the client
library; every other packet is left to it.
"""

from __future__ import annotations

from typing import NamedTuple

_LENGTH_BYTES = 4
_PUBLISH_QOS_0 = 0x30
_KIND_DUP_AND_QOS = 0xFE
_MORE = 0x80
_LONGEST_DIGIT = 0x7F
_QOS = 0x06


_RECEIVED = frozenset(
    [0x20, 0x40, 0x50, 0x62, 0x70, 0x90, 0xB0, 0xD0, 0xE0, 0xF0]  # all but messages
    + [first for first in range(0x30, 0x40) if first & _QOS != _QOS]  # there is no QoS 3
)
"""First bytes that a broker may send: packet types with their fixed flags (2.2.2)."""


class Malformed(ValueError):
    """The bytes are no MQTT."""


class Frame(NamedTuple):
    """A packet at `start` in a buffer; its body begins at `body`, the next packet at `end`."""

    first: int
    start: int
    body: int
    end: int

    @property
    def plain(self) -> bool:
        """A message of QoS 0."""
        return self.first & _KIND_DUP_AND_QOS == _PUBLISH_QOS_0

    @property
    def retained(self) -> bool:
        return bool(self.first & 1)


def frame_at(held: bytes, at: int) -> Frame | None:
    """None while its header is not complete. Raises Malformed."""
    if at < len(held) and held[at] not in _RECEIVED:
        raise Malformed(f"no packet begins with {held[at]:#04x}")
    size = shift = 0
    for position in range(at + 1, min(at + 1 + _LENGTH_BYTES, len(held))):
        byte = held[position]
        size |= (byte & ~_MORE) << shift
        if byte < _MORE:
            return Frame(held[at], at, position + 1, position + 1 + size)
        shift += 7
    if len(held) > at + _LENGTH_BYTES:
        raise Malformed("the length of a packet has more than 4 bytes")
    return None


def plain_message(held: bytes, frame: Frame, *, properties: bool) -> tuple[str, bytes] | None:
    """Topic and payload of a `plain` frame that is complete; None if it has properties.

    `properties`: the protocol is MQTT 5. Raises Malformed.
    """
    start = frame.body + 2
    end = start + int.from_bytes(held[frame.body : start], "big")
    if end + properties > frame.end:
        raise Malformed("a topic is longer than its packet")
    if properties:
        if held[end]:
            return None
        payload = held[end + 1 : frame.end]
    else:
        payload = held[end : frame.end]
    try:
        return held[start:end].decode(), payload
    except UnicodeDecodeError as error:
        raise Malformed("a topic is no UTF-8") from error


def plain_packet(topic: str, payload: bytes, *, retain: bool, properties: bool) -> bytes:
    """A message of QoS 0 as it is sent; `properties`: the protocol is MQTT 5, and it has none."""
    name = topic.encode()
    size = 2 + len(name) + properties + len(payload)
    head = bytearray([_PUBLISH_QOS_0 | retain])
    while size > _LONGEST_DIGIT:
        head.append(size & _LONGEST_DIGIT | _MORE)
        size >>= 7
    head.append(size)
    head += len(name).to_bytes(2, "big")
    none = b"\0" if properties else b""
    return b"".join((head, name, none, payload))
