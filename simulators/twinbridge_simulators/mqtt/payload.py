"""Payloads as a device publishes them: all properties of one topic, at the places they name."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from twinbridge.core.model import Point, Value, ValueType
from twinbridge_mqtt.address import bound
from twinbridge_mqtt.config import (
    Encoding,
    MqttAddress,
    Order,
    PayloadTime,
    TimeUnit,
    parse_path,
    parse_pointer,
)

DECIMALS = 6
_LARGEST_FLOAT32 = 3.4028234663852886e38
_UNITS: Mapping[TimeUnit, int] = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_CODES: Mapping[Encoding, str] = {
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


def payload_of(points: Sequence[Point], values: Mapping[str, Value], now: int) -> bytes:
    """What goes out on the topic of these points; `now` is UTC ns. All have one format."""
    model = bound(points[0]).model
    told = [(bound(p).model, raw_value(p, values[p.spec.name])) for p in points]
    match model.format:
        case "json":
            return _json(told, now)
        case "csv":
            return _csv(told, now)
        case "raw":
            return _text(told[0][1]).encode()
        case "hex":
            return _binary(told).hex().encode()
        case _:
            return _binary(told)


def raw_value(point: Point, value: Value) -> Value:
    """As the device has it: the label that means it, or unscaled."""
    model = bound(point).model
    for label, meaning in model.labels.items():
        if meaning == value and isinstance(meaning, bool) == isinstance(value, bool):
            return label
    if isinstance(value, bool | str):
        return value
    raw = (value - model.offset) / (model.scale or 1.0)
    whole = point.spec.type is ValueType.INT and abs(raw - round(raw)) < 10**-DECIMALS
    return round(raw) if whole else round(raw, DECIMALS)


def stamp(place: PayloadTime, now: int) -> int | str:
    """The time as the device writes it."""
    if place.unit == "iso":
        return datetime.fromtimestamp(now / 1e9, UTC).isoformat(timespec="milliseconds")
    return now // _UNITS[place.unit]


def placed(document: Any, steps: Sequence[str | int], value: object) -> Any:  # noqa: ANN401 - JSON
    """The document with a value at these names and indices; what is not there yet is made."""
    if not steps:
        return value
    step, *rest = steps
    if isinstance(step, int):
        items = document if isinstance(document, list) else []
        items.extend([None] * (step + 1 - len(items)))
        items[step] = placed(items[step], rest, value)
        return items
    fields = document if isinstance(document, dict) else {}
    fields[step] = placed(fields.get(step), rest, value)
    return fields


def steps_of(place: MqttAddress | PayloadTime) -> tuple[str | int, ...]:
    if place.path is not None:
        return parse_path(place.path)
    return parse_pointer(place.pointer or "")


def _json(told: Sequence[tuple[MqttAddress, Value]], now: int) -> bytes:
    document: object = None
    for model, raw in told:
        document = placed(document, steps_of(model), raw)
        if model.timestamp is not None:
            document = placed(document, steps_of(model.timestamp), stamp(model.timestamp, now))
    return json.dumps(document, separators=(",", ":")).encode()


def _csv(told: Sequence[tuple[MqttAddress, Value]], now: int) -> bytes:
    cells: dict[int, str] = {}
    for model, raw in told:
        cells[model.column or 0] = _text(raw)
        if model.timestamp is not None:
            cells[model.timestamp.column or 0] = str(stamp(model.timestamp, now))
    line = [cells.get(column, "") for column in range(max(cells) + 1)]
    return told[0][0].separator.join(line).encode()


def _text(raw: Value) -> str:
    return raw if isinstance(raw, str) else json.dumps(raw)


def _binary(told: Sequence[tuple[MqttAddress, Value]]) -> bytes:
    payload = bytearray()
    for model, raw in told:
        part = _encoded(model, raw)
        end = model.byte_offset + len(part)
        payload.extend(bytes(max(0, end - len(payload))))
        if model.bit is not None:
            old = payload[model.byte_offset : end]
            part = bytes(a | b for a, b in zip(part, old, strict=True))
        payload[model.byte_offset : end] = part
    return bytes(payload)


def _encoded(model: MqttAddress, raw: Value) -> bytes:
    encoding = model.encoding or "uint8"
    if encoding == "string":
        text = str(raw).encode()
        return text if model.length is None else text[: model.length].ljust(model.length, b"\0")
    if model.bit is not None:
        raw = bool(raw) << model.bit
    ordered = struct.pack(f">{_CODES[encoding]}", _held(encoding, raw))
    return bytes(ordered[place] for place in _places(len(ordered), model.order))


def _held(encoding: Encoding, raw: Value) -> float | int:
    """The number, or the nearest that the encoding holds."""
    if encoding == "float64":
        return float(raw)
    if encoding == "float32":
        return min(max(float(raw), -_LARGEST_FLOAT32), _LARGEST_FLOAT32)
    code = _CODES[encoding]
    bits = 8 * struct.calcsize(f">{code}")
    low, high = (0, (1 << bits) - 1) if code.isupper() else (-1 << bits - 1, (1 << bits - 1) - 1)
    return min(max(raw if isinstance(raw, int) else round(float(raw)), low), high)


def _places(size: int, order: Order) -> list[int]:
    """Which byte of the number goes where on the wire; each order is its own inverse."""
    words = [list(range(size))[at : at + 2] for at in range(0, size, 2)]
    if order in {"CDAB", "DCBA"}:
        words.reverse()
    if order in {"BADC", "DCBA"}:
        words = [word[::-1] for word in words]
    return [place for word in words for place in word]
