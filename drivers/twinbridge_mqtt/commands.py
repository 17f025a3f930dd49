"""What is published for a written value, and what a device's answer to it says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from twinbridge.core.model import PropertySpec, Value, ValueType, same_value
from twinbridge.core.scaling import unscaled
from twinbridge_mqtt.config import RAW_COMMAND, MqttAddress, Response
from twinbridge_mqtt.places import at_pointer
from twinbridge_mqtt.refusal import BadPayload, shown


@dataclass(frozen=True, slots=True)
class Answer:
    """`id` as text, since a device may give a number back."""

    id: str
    done: bool
    said: str


def payload_of(
    spec: PropertySpec, address: MqttAddress, value: Value, *, command_id: str, expires: int
) -> bytes:
    """`expires` in ms since 1970. Raises ValueError for a value that has no payload."""
    command = address.command
    if command is None:
        raise ValueError("it has no command")
    raw = raw_of(spec, address, value)
    if command.payload == RAW_COMMAND:
        return _as_text(raw).encode()
    put = _as_json if is_json(command.payload) else _as_text
    parts = {"{value}": put(raw), "{id}": put(command_id), "{expires}": put(expires)}
    return _filled(command.payload, parts).encode()


def is_json(template: str) -> bool:
    return template.lstrip()[:1] in ("{", "[") and not template.startswith(
        ("{value}", "{id}", "{expires}")
    )


def _filled(template: str, parts: dict[str, str]) -> str:
    """Each field replaced once: what a value contains is never taken for a field."""
    if not parts:
        return template
    field, *rest = parts
    inner = {name: parts[name] for name in rest}
    return parts[field].join(_filled(piece, inner) for piece in template.split(field))


def raw_of(spec: PropertySpec, address: MqttAddress, value: Value) -> Value:
    """The value as the device has it: by `values`, by labels the other way round, unscaled."""
    values = address.command.values if address.command is not None else {}
    for text in _texts(value):
        if text in values:
            return values[text]
    if values and spec.type in (ValueType.BOOL, ValueType.STRING):
        raise ValueError(f"command.values has nothing for {_as_text(value)}")
    for label, meaning in address.labels.items():
        if meaning == value and isinstance(meaning, bool) == isinstance(value, bool):
            return label
    if address.labels:
        raise ValueError(f"labels have nothing for {_as_text(value)}")
    return _unscaled(spec, address, value)


def _texts(value: Value) -> Sequence[str]:
    """How a value may be written as a key of `values`: 1.0 also as 1."""
    text = _as_text(value)
    if isinstance(value, float) and value.is_integer():
        return text, str(int(value)), str(value)
    return (text,)


def _unscaled(spec: PropertySpec, address: MqttAddress, value: Value) -> Value:
    scaled = address.scale is not None or address.offset
    if isinstance(value, bool | str) or not scaled:
        return value
    raw = unscaled(value, address.scale, address.offset)
    if spec.type is ValueType.INT and raw.denominator == 1:
        return raw.numerator
    return float(raw)


def _as_json(raw: Value) -> str:
    try:
        return orjson.dumps(raw).decode()
    except TypeError:  # an integer beyond 64 bits
        return json.dumps(raw)


def _as_text(raw: Value) -> str:
    return raw if isinstance(raw, str) else _as_json(raw)


def parse_answer(response: Response, payload: bytes, correlation: str = "") -> Answer:
    """`correlation`: the id, where MQTT 5 carried it. Raises BadPayload."""
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise BadPayload(f"no JSON: {shown(payload)} ({error})") from error
    status = at_pointer(response.status)(document)
    done = isinstance(status, bool | int | float | str) and any(
        same_value(status, ok) for ok in response.ok
    )
    said = "" if done else _words(response, document, status)
    return Answer(correlation or str(at_pointer(response.id)(document)), done, said)


def _words(response: Response, document: object, status: object) -> str:
    try:
        words = at_pointer(response.message)(document)
    except BadPayload:
        return shown(status)
    return f"{shown(status)}: {words}" if isinstance(words, str) else shown(status)
