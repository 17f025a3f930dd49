"""What a property's place in a payload means: strict types, scale, labels. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from twinbridge.core.model import PropertySpec, Reason, Value, ValueType
from twinbridge.core.scaling import scaled
from twinbridge_mqtt.config import MqttAddress
from twinbridge_mqtt.parsing import Parse, parser
from twinbridge_mqtt.places import (
    Extract,
    at_bytes,
    at_column,
    at_path,
    at_pointer,
    at_text,
    whole,
)
from twinbridge_mqtt.refusal import BadPayload, shown

Convert: TypeAlias = Callable[[object], Value]
"""From what was found to the property's value. Raises BadPayload."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?")
_TRUTHS = {"true": True, "false": False, "1": True, "0": False}
_NEARLY = 1e-9
_DIGITS = 400
"""More than any number has that a device means."""


@dataclass(frozen=True, slots=True)
class Codec:
    """`value = convert(extract(parse(payload)))`. Codecs with equal `form` share the parse."""

    form: tuple[str, str]
    parse: Parse
    extract: Extract
    convert: Convert

    def decode(self, payload: bytes) -> Value:
        """Raises BadPayload, whatever the bytes are."""
        return self.convert(self.extract(self.parse(payload)))


def compile_codec(spec: PropertySpec, address: MqttAddress) -> Codec:
    """Raises ValueError for an address that does not fit; see `checks`."""
    return Codec(
        (address.format, address.separator),
        parser(address.format, address.separator),
        _place(address),
        _conversion(spec, address),
    )


def _place(address: MqttAddress) -> Extract:
    if address.format == "json":
        if address.path is not None:
            return at_path(address.path)
        return at_pointer(address.pointer or "")
    if address.format == "csv":
        return at_column(address.column or 0)
    if address.format == "raw":
        return whole
    if address.encoding is None:
        raise ValueError(f"format {address.format} needs an encoding, e.g. uint16")
    if address.encoding == "string":
        return at_text(address.byte_offset, address.length)
    return at_bytes(address.encoding, address.order, address.byte_offset, address.bit)


def _conversion(spec: PropertySpec, address: MqttAddress) -> Convert:
    textual = address.format in ("raw", "csv")
    if address.labels:
        return _labelled(spec, address.labels)
    if spec.type is ValueType.STRING:
        return _string
    if spec.type is ValueType.BOOL:
        return _truth_of_text if textual else _truth
    if spec.type is ValueType.FLOAT:
        return _float(address, textual=textual)
    return _integer(address, textual=textual)


def _labelled(spec: PropertySpec, labels: Mapping[str, Value]) -> Convert:
    known = {
        text: float(value) if spec.type is ValueType.FLOAT else value
        for text, value in labels.items()
    }
    allowed = ", ".join(known)

    def convert(raw: object) -> Value:
        text = _label(raw)
        if text in known:
            return known[text]
        raise BadPayload(f"{shown(raw)} is none of {allowed}", Reason.OUT_OF_RANGE)

    return convert


def _label(raw: object) -> str:
    """How a raw value is written as a key of labels: true, 1, 2.5, ON, null."""
    if isinstance(raw, str):
        return raw.strip()
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, float) and raw.is_integer():
        return str(int(raw))
    return "null" if raw is None else str(raw) if isinstance(raw, int | float) else ""


def _string(raw: object) -> Value:
    if isinstance(raw, str):
        return raw
    raise BadPayload(f"{shown(raw)} is no text")


def _truth(raw: object) -> Value:
    if isinstance(raw, bool):
        return raw
    raise BadPayload(f"{shown(raw)} is neither true nor false")


def _truth_of_text(raw: object) -> Value:
    text = raw.strip().lower() if isinstance(raw, str) else ""
    if text in _TRUTHS:
        return _TRUTHS[text]
    raise BadPayload(f"{shown(raw)} is neither true nor false, 1 nor 0")


def _float(address: MqttAddress, *, textual: bool) -> Convert:
    number = _number_of_text if textual else _number
    scale, offset = address.scale, address.offset
    if textual or scale is not None or offset:
        scaling = scaled(scale, offset)
        return lambda raw: _finite(scaling(number(raw)))

    def convert(raw: object) -> Value:
        if type(raw) is float and raw - raw == 0.0:  # neither NaN nor an infinity
            return raw
        return _finite(float(_number(raw)))

    return convert


def _integer(address: MqttAddress, *, textual: bool) -> Convert:
    number = _number_of_text if textual else _number
    scale, offset = address.scale, address.offset
    if scale is None and not offset:
        return lambda raw: _whole(number(raw))
    scaling = scaled(scale, offset)
    return lambda raw: _whole(_finite(scaling(number(raw))))


def _number(raw: object) -> int | float:
    if type(raw) is float:
        return _finite(raw)
    if type(raw) is int:
        if abs(raw) >= 1 << 1000:
            raise BadPayload(f"{shown(raw)} is too large", Reason.OUT_OF_RANGE)
        return raw
    raise BadPayload(f"{shown(raw)} is no number")


def _number_of_text(raw: object) -> int | float:
    text = raw.strip() if isinstance(raw, str) else ""
    if len(text) > _DIGITS or not text.isascii() or not _NUMBER.fullmatch(text):
        raise BadPayload(f"{shown(raw)} is no number")
    try:
        return _number(int(text))
    except ValueError:
        return _finite(float(text))


def _finite(number: float) -> float:
    if math.isfinite(number):
        return number
    raise BadPayload(f"{number} is no number that a device can mean", Reason.OUT_OF_RANGE)


def _whole(number: float) -> int:
    """A whole number, but for what scaling in binary fractions leaves over."""
    if type(number) is int:
        return number
    nearest = round(number)
    if abs(number - nearest) > _NEARLY * max(1.0, abs(number)):
        raise BadPayload(f"{number} is no whole number", Reason.OUT_OF_RANGE)
    return nearest
