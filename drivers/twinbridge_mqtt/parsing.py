"""Payload bytes → what the places look into, one parse per message and format."""

from __future__ import annotations

import csv
from collections.abc import Callable
from typing import TypeAlias

import orjson

from twinbridge_mqtt.config import Format
from twinbridge_mqtt.refusal import BadPayload, shown

Parse: TypeAlias = Callable[[bytes], object]
"""Raises BadPayload."""


def parser(form: Format, separator: str) -> Parse:
    if form == "csv":
        return lambda payload: _columns(payload, separator)
    return _PARSERS[form]


def _json(payload: bytes) -> object:
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise BadPayload(f"no JSON: {shown(payload)} ({error})") from error


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise BadPayload(f"no text in UTF-8: {shown(payload)}") from error


def _columns(payload: bytes, separator: str) -> list[str]:
    """Of the last line with content: a header above it does no harm."""
    lines = [line for line in _text(payload).splitlines() if line.strip()]
    if not lines:
        raise BadPayload("the payload is empty")
    try:
        return next(csv.reader(lines[-1:], delimiter=separator, skipinitialspace=True))
    except csv.Error as error:
        raise BadPayload(f"no csv: {shown(lines[-1])} ({error})") from error


def _hex(payload: bytes) -> bytes:
    """Pairs of hex digits, with or without 0x in front and blanks, `:` or `-` between."""
    text = _text(payload).strip().lower().removeprefix("0x")
    try:
        return bytes.fromhex(text.replace(":", " ").replace("-", " "))
    except ValueError as error:
        raise BadPayload(f"no hex digits: {shown(payload)}") from error


def _binary(payload: bytes) -> bytes:
    return bytes(payload)


_PARSERS: dict[Format, Parse] = {"json": _json, "raw": _text, "hex": _hex, "binary": _binary}
