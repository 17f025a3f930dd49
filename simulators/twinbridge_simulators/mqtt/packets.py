"""MQTT packets as bytes, versions 3.1.1 and 5. Properties of version 5 stay bytes."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

V5 = 5
LONGEST = 16 * 1024 * 1024
_MORE = 0x80


class Kind(IntEnum):
    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14


class Malformed(Exception):
    """The bytes are no MQTT packet."""


class Packet(NamedTuple):
    kind: int
    flags: int
    body: bytes


class Message(NamedTuple):
    """`properties` are those of a version 5 PUBLISH, as on the wire without their length."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: bytes = b""


def cut(buffer: bytes) -> tuple[Packet | None, bytes]:
    """The first packet and the rest; (None, buffer) while it is incomplete. Raises Malformed."""
    length, shift, at = 0, 0, 1
    while True:
        if at >= len(buffer):
            return None, buffer
        length |= (buffer[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not buffer[at - 1] & _MORE:
            break
        if shift > 21:  # noqa: PLR2004 - at most four bytes of length
            raise Malformed("length")
    if length > LONGEST:
        raise Malformed("too long")
    end = at + length
    if len(buffer) < end:
        return None, buffer
    return Packet(buffer[0] >> 4, buffer[0] & 0x0F, buffer[at:end]), buffer[end:]


def packet(kind: Kind, body: bytes = b"", flags: int = 0) -> bytes:
    return bytes((kind << 4 | flags,)) + varint(len(body)) + body


def varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | _MORE if value else low)
        if not value:
            return bytes(out)


def text(value: str) -> bytes:
    raw = value.encode()
    return len(raw).to_bytes(2, "big") + raw


class Fields:
    """Takes the fields of a body one after the other. Raises Malformed at its end."""

    def __init__(self, body: bytes, at: int = 0) -> None:
        self._body = body
        self._at = at

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._body):
            raise Malformed("short")
        part = self._body[self._at : end]
        self._at = end
        return part

    def number(self, size: int = 1) -> int:
        return int.from_bytes(self.take(size), "big")

    def binary(self) -> bytes:
        return self.take(self.number(2))

    def text(self) -> str:
        try:
            return self.binary().decode()
        except UnicodeDecodeError as error:
            raise Malformed("not UTF-8") from error

    def properties(self, version: int) -> bytes:
        """Of a version 5 packet; nothing in others."""
        if version != V5:
            return b""
        length, shift = 0, 0
        while True:
            byte = self.number()
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & _MORE:
                return self.take(length)

    @property
    def more(self) -> bool:
        return self._at < len(self._body)

    def rest(self) -> bytes:
        return self.take(len(self._body) - self._at)


def publish(message: Message, version: int, number: int = 0, *, again: bool = False) -> bytes:
    """A PUBLISH; `number` is its packet identifier if its QoS is not 0."""
    body = text(message.topic)
    if message.qos:
        body += number.to_bytes(2, "big")
    if version == V5:
        body += varint(len(message.properties)) + message.properties
    flags = again << 3 | message.qos << 1 | message.retain
    return packet(Kind.PUBLISH, body + message.payload, flags)


def parse_publish(got: Packet, version: int) -> tuple[Message, int]:
    """The message and its packet identifier, 0 with QoS 0. Raises Malformed."""
    qos = got.flags >> 1 & 3
    fields = Fields(got.body)
    topic = fields.text()
    if not topic or "+" in topic or "#" in topic or qos > 2:  # noqa: PLR2004 - QoS 0, 1, 2
        raise Malformed(f"PUBLISH to {topic!r}")
    number = fields.number(2) if qos else 0
    properties = fields.properties(version)
    return Message(topic, fields.rest(), qos, bool(got.flags & 1), properties), number


def matches(pattern: str, topic: str) -> bool:
    """Whether a topic filter takes in a topic (MQTT 3.1.1, 4.7)."""
    if topic.startswith("$") and pattern[:1] in {"+", "#"}:
        return False
    wanted, given = pattern.split("/"), topic.split("/")
    for place, level in enumerate(wanted):
        if level == "#":
            return True
        if place >= len(given) or level not in {"+", given[place]}:
            return False
    return len(wanted) == len(given)
