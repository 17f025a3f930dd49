"""The few bodies that `kubectl` sends as protobuf alone: a Namespace, and questions of access.

Source: k8s.io/apimachinery/pkg/runtime/serializer/protobuf (the envelope); generated.proto of
core/v1, meta/v1 and authorization/v1 (the numbers of fields).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from twinbridge.errors import InvalidInput

MEDIA_TYPE: Final = "application/vnd.kubernetes.protobuf"
_MAGIC: Final = b"k8s\x00"
_VARINT, _BYTES = 0, 2
Message: TypeAlias = Mapping[int, "tuple[str, Message | None]"]

_METADATA: Final[Message] = {1: ("name", None), 2: ("generateName", None)}
_REVIEW: Final[Message] = {
    1: (
        "resourceAttributes",
        {
            1: ("namespace", None),
            2: ("verb", None),
            3: ("group", None),
            4: ("version", None),
            5: ("resource", None),
            6: ("subresource", None),
            7: ("name", None),
        },
    ),
    2: ("nonResourceAttributes", {1: ("path", None), 2: ("verb", None)}),
}
_KINDS: Final[Mapping[str, Message]] = {
    "SelfSubjectReview": {},
    "Namespace": {1: ("metadata", _METADATA)},
    "SelfSubjectAccessReview": {2: ("spec", _REVIEW)},
    "SelfSubjectRulesReview": {2: ("spec", {1: ("namespace", None)})},
}
_UNKNOWN: Final = "the body is none of the protobuf messages that this hub takes; send JSON"


def document(raw: bytes) -> dict[str, Any]:
    """As the same object is in JSON. Raises InvalidInput."""
    try:
        if not raw.startswith(_MAGIC):
            raise InvalidInput(_UNKNOWN)
        envelope = dict(_fields(raw[len(_MAGIC) :]))
        named = {number: text.decode() for number, text in _fields(envelope[1])}
        kind = named.get(2, "")
        if kind not in _KINDS:
            raise InvalidInput(_UNKNOWN)
        body = _read(envelope.get(2, b""), _KINDS[kind])
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise InvalidInput(_UNKNOWN) from error
    return {"apiVersion": named.get(1, ""), "kind": kind, **body}


def _read(raw: bytes, message: Message) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for number, content in _fields(raw):
        if number in message:
            name, inner = message[number]
            made[name] = content.decode() if inner is None else _read(content, inner)
    return made


def _fields(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Those that have a length; numbers are left out."""
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        if tag & 7 == _VARINT:
            _, at = _varint(raw, at)
        elif tag & 7 == _BYTES:
            length, at = _varint(raw, at)
            if at + length > len(raw):
                raise InvalidInput(_UNKNOWN)
            yield tag >> 3, raw[at : at + length]
            at += length
        else:
            raise InvalidInput(_UNKNOWN)


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004 - the last one has no high bit
            return value, at
