"""What can be wrong between a property and its MQTT address, in words."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from twinbridge.core.model import PropertySpec, Value, ValueType
from twinbridge_mqtt.commands import is_json, payload_of
from twinbridge_mqtt.config import RAW_COMMAND, MqttAddress, PayloadTime

_BYTES = ("hex", "binary")
_SAMPLES: dict[ValueType, Value] = {
    ValueType.BOOL: True,
    ValueType.INT: 1,
    ValueType.FLOAT: 1.5,
    ValueType.STRING: "a",
}
_KINDS: dict[ValueType, tuple[type, ...]] = {
    ValueType.BOOL: (bool,),
    ValueType.INT: (int,),
    ValueType.FLOAT: (int, float),
    ValueType.STRING: (str,),
}


def complaints(spec: PropertySpec, address: MqttAddress) -> Iterator[str]:
    yield from _ways(spec, address)
    yield from _place(address)
    yield from _encoding(spec, address)
    yield from _labels(spec, address)
    yield from _scaling(spec, address)
    if address.timestamp is not None:
        yield from _timestamp(address, address.timestamp)
    yield from _command(spec, address)


def _ways(spec: PropertySpec, address: MqttAddress) -> Iterator[str]:
    if spec.access.readable and address.topic is None:
        yield f"access {spec.access} needs a topic; without one a property is WriteOnly"
    if not spec.access.readable and address.topic is not None:
        yield "a WriteOnly property is not read: leave out topic, or make it ReadWrite"
    if spec.access.writable and address.command is None:
        yield f"access {spec.access} needs a command with the topic that it is written on"
    if not spec.access.writable and address.command is not None:
        yield "a ReadOnly property takes no command"


def _place(address: MqttAddress) -> Iterator[str]:
    form = address.format
    if form != "json" and (address.pointer is not None or address.path is not None):
        yield f"pointer and path are for format json, not {form}"
    if form == "csv" and address.column is None:
        yield "format csv needs a column, from 0"
    if form != "csv" and (address.column is not None or address.separator != ","):
        yield f"column and separator are for format csv, not {form}"
    if form in _BYTES and address.encoding is None:
        yield f"format {form} needs an encoding, e.g. uint16"
    given = (address.encoding, address.length, address.bit)
    if form not in _BYTES and (any(g is not None for g in given) or address.byte_offset):
        yield f"encoding, byteOffset, length and bit are for format hex and binary, not {form}"


def _encoding(spec: PropertySpec, address: MqttAddress) -> Iterator[str]:
    encoding = address.encoding
    if encoding is None or address.format not in _BYTES:
        return
    if address.length is not None and encoding != "string":
        yield f"length is for encoding string, not {encoding}"
    if address.bit is not None:
        if "int" not in encoding:
            yield f"bit is for integers, not {encoding}"
        elif address.bit >= int(encoding.removeprefix("u").removeprefix("int")):
            yield f"{encoding} has no bit {address.bit}"
    if address.labels:
        return
    truth = encoding == "bool" or address.bit is not None
    if truth != (spec.type is ValueType.BOOL) or (encoding == "string") != (
        spec.type is ValueType.STRING
    ):
        what = "a bit" if address.bit is not None else f"encoding {encoding}"
        yield f"{what} is no {spec.type}; map it with labels, or change the type"


def _labels(spec: PropertySpec, address: MqttAddress) -> Iterator[str]:
    for text, value in address.labels.items():
        if not _fits(spec, value):
            yield f"labels: {text}: {value!r} is no {spec.type}"
    if address.labels and (address.scale is not None or address.offset):
        yield "labels and scale or offset exclude each other"


def _fits(spec: PropertySpec, value: Value) -> bool:
    boolean = spec.type is ValueType.BOOL
    return isinstance(value, _KINDS[spec.type]) and isinstance(value, bool) == boolean


def _scaling(spec: PropertySpec, address: MqttAddress) -> Iterator[str]:
    if address.scale == 0.0:
        yield "scale must not be zero"
    scaled = address.scale is not None or address.offset
    if scaled and spec.type in (ValueType.BOOL, ValueType.STRING):
        yield f"scale and offset are for numbers, not for a {spec.type}"


def _timestamp(address: MqttAddress, place: PayloadTime) -> Iterator[str]:
    if address.topic is None:
        yield "a timestamp is of a topic, and there is none"
    if address.format not in ("json", "csv"):
        yield f"a timestamp is in json or csv, not in {address.format}"
    if (address.format == "csv") != (place.column is not None):
        yield "timestamp: column is for format csv, pointer and path are for json"


def _command(spec: PropertySpec, address: MqttAddress) -> Iterator[str]:
    command = address.command
    if command is None:
        return
    if command.topic == address.topic:
        yield "command.topic is the property's own topic: a command would read as its success"
    if command.payload != RAW_COMMAND and "{value}" not in command.payload and not spec.pulse:
        yield "command.payload has no {value} in it; only a pulse says the same each time"
    response = command.response
    if response is not None and "{id}" not in command.payload:
        yield "a response is told by its id: command.payload needs {id} in it"
    if is_json(command.payload) and address.scale != 0.0:
        yield from _renders(spec, address)


def _renders(spec: PropertySpec, address: MqttAddress) -> Iterator[str]:
    sample = next(iter(address.labels.values()), _SAMPLES[spec.type])
    if spec.type is ValueType.STRING and address.command is not None:
        sample = next(iter(address.command.values), sample)
    try:
        text = payload_of(spec, address, sample, command_id="a", expires=0)
    except ValueError as error:
        yield f"command: {error}"
        return
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        yield f"command.payload makes no JSON of {sample!r}: {text.decode()} ({error})"
