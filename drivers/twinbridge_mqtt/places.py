"""Where in a parsed payload something is: JSON pointers, JSON paths, columns, bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import TypeAlias

from twinbridge.core.model import Reason
from twinbridge_mqtt.config import Encoding, Order, parse_path, parse_pointer
from twinbridge_mqtt.refusal import BadPayload, Missing, shown

Extract: TypeAlias = Callable[[object], object]
"""From what the payload was parsed to. Raises BadPayload."""

_CODES: dict[Encoding, str] = {
    "bool": "B",
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
}


def whole(document: object) -> object:
    return document


def at_pointer(pointer: str) -> Extract:
    """A name of an object, or the index of a list, as RFC 6901 has it."""
    return _walk(parse_pointer(pointer), pointer)


def at_path(path: str) -> Extract:
    return _walk(parse_path(path), path)


def _walk(steps: Sequence[str | int], place: str) -> Extract:
    if not steps:
        return whole
    if len(steps) == 1 and isinstance(steps[0], str):
        return _named(steps[0], place)

    def extract(document: object) -> object:
        found = document
        for step in steps:
            found = _step(found, step, place)
        return found

    return extract


def _named(name: str, place: str) -> Extract:
    """The common case: a field of an object."""

    def extract(document: object) -> object:
        try:
            return document[name]  # type: ignore[index]  # what is no object raises
        except (KeyError, TypeError):
            return _step(document, name, place)

    return extract


def _step(found: object, step: str | int, place: str) -> object:
    if isinstance(found, dict) and step in found:
        return found[step]
    if isinstance(found, list):
        index = _index(step)
        if index is not None and -len(found) <= index < len(found):
            return found[index]
    raise Missing(f"nothing at {place} in {shown(found)}")


def _index(step: str | int) -> int | None:
    """`-` and leading zeros are no index of RFC 6901; a path may count from the end."""
    if isinstance(step, int):
        return step
    if step.isascii() and step.isdigit() and len(step) < 10:  # noqa: PLR2004 - digits; no list is longer
        return int(step) if step == "0" or not step.startswith("0") else None
    return None


def at_column(column: int) -> Extract:
    def extract(document: object) -> object:
        cells = document if isinstance(document, list) else []
        if column >= len(cells):
            raise Missing(f"no column {column}: the line has {len(cells)}, from 0")
        return cells[column]

    return extract


def at_bytes(encoding: Encoding, order: Order, first: int, bit: int | None) -> Extract:
    """A number within the bytes; with `bit`, or as a bool, a truth."""
    form = struct.Struct(f">{_CODES[encoding]}")
    positions = _positions(form.size, order)

    def extract(document: object) -> object:
        raw = _bytes(document, first, form.size)
        (number,) = form.unpack(raw if positions is None else bytes(raw[p] for p in positions))
        if bit is not None:
            return bool(number >> bit & 1)
        return bool(number) if encoding == "bool" else number

    return extract


def _positions(size: int, order: Order) -> list[int] | None:
    """Which byte of the payload is which of the number; None where they are in order."""
    words = [list(range(size))[at : at + 2] for at in range(0, size, 2)]
    if order in ("CDAB", "DCBA"):
        words.reverse()
    if order in ("BADC", "DCBA"):
        words = [word[::-1] for word in words]
    positions = [position for word in words for position in word]
    return None if positions == list(range(size)) else positions


def at_text(first: int, length: int | None) -> Extract:
    """A text among bytes, up to its first NUL."""

    def extract(document: object) -> object:
        raw = _bytes(document, first, length or 0)
        text = raw if length is not None else _all_from(document, first)
        try:
            return text.split(b"\0", 1)[0].decode()
        except UnicodeDecodeError as error:
            raise BadPayload(f"no text in UTF-8: {shown(text)}", Reason.OUT_OF_RANGE) from error

    return extract


def _all_from(document: object, first: int) -> bytes:
    return document[first:] if isinstance(document, bytes) else b""


def _bytes(document: object, first: int, size: int) -> bytes:
    held = document if isinstance(document, bytes) else b""
    if first + size > len(held):
        raise Missing(f"needs bytes {first} to {first + size - 1}, the payload has {len(held)}")
    return held[first : first + size]
