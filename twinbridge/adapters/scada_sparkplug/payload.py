"""Sparkplug B payloads ↔ bytes (Sparkplug 3.0.0, 6.4)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, Final, TypeAlias

from google.protobuf.message import DecodeError

from twinbridge.adapters.scada_sparkplug.schema import PayloadMessage

Raw: TypeAlias = bool | int | float | str | bytes
"""A value as it is on the wire: integers unsigned, negative ones in two's complement."""


class DataType(IntEnum):
    UNKNOWN = 0
    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT32 = 7
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATETIME = 13
    TEXT = 14
    UUID = 15
    DATASET = 16
    BYTES = 17
    FILE = 18
    TEMPLATE = 19


class Field(StrEnum):
    """Which member of `oneof value` holds a value."""

    INT = "int_value"
    LONG = "long_value"
    FLOAT = "float_value"
    DOUBLE = "double_value"
    BOOLEAN = "boolean_value"
    STRING = "string_value"
    BYTES = "bytes_value"


FIELDS: Final[dict[int, Field]] = {
    DataType.INT8: Field.INT,
    DataType.INT16: Field.INT,
    DataType.INT32: Field.INT,
    DataType.INT64: Field.LONG,
    DataType.UINT8: Field.INT,
    DataType.UINT16: Field.INT,
    DataType.UINT32: Field.INT,
    DataType.UINT64: Field.LONG,
    DataType.FLOAT: Field.FLOAT,
    DataType.DOUBLE: Field.DOUBLE,
    DataType.BOOLEAN: Field.BOOLEAN,
    DataType.STRING: Field.STRING,
    DataType.DATETIME: Field.LONG,
    DataType.TEXT: Field.STRING,
    DataType.UUID: Field.STRING,
    DataType.BYTES: Field.BYTES,
    DataType.FILE: Field.BYTES,
}
"""Where a value of each type is written."""


@dataclass(frozen=True, slots=True)
class Property:
    """A named value beside a metric, of a type in FIELDS; None is null, or none of ours."""

    name: str
    type: int
    value: Raw | None


@dataclass(frozen=True, slots=True)
class Metric:
    """Absent fields are None. `timestamp`: UTC ms. `value` stands in `field`, as on the wire.

    `field` is None where there is no value, and where its type (a data set, a template) is none
    of ours.
    """

    name: str | None = None
    alias: int | None = None
    timestamp: int | None = None
    datatype: int | None = None
    value: Raw | None = None
    field: Field | None = None
    is_null: bool = False
    is_historical: bool = False
    properties: tuple[Property, ...] = ()


@dataclass(frozen=True, slots=True)
class Payload:
    """`timestamp`: UTC ms."""

    timestamp: int | None = None
    metrics: tuple[Metric, ...] = ()
    seq: int | None = None


def encode(payload: Payload) -> bytes:
    """Raises ValueError when a number does not fit its field."""
    message = PayloadMessage()
    if payload.timestamp is not None:
        message.timestamp = payload.timestamp
    add = message.metrics.add
    for metric in payload.metrics:
        _fill(add(), metric)
    if payload.seq is not None:
        message.seq = payload.seq
    encoded: bytes = message.SerializeToString()
    return encoded


def _fill(message: Any, metric: Metric) -> None:  # noqa: ANN401 - the runtime's message
    if metric.name is not None:
        message.name = metric.name
    if metric.alias is not None:
        message.alias = metric.alias
    if metric.timestamp is not None:
        message.timestamp = metric.timestamp
    if metric.datatype is not None:
        message.datatype = metric.datatype
    if metric.is_historical:
        message.is_historical = True
    if metric.is_null:
        message.is_null = True
    if metric.properties:
        _fill_properties(message.properties, metric.properties)
    if metric.field is not None:
        setattr(message, metric.field, metric.value)


def _fill_properties(message: Any, properties: tuple[Property, ...]) -> None:  # noqa: ANN401 - as above
    for of in properties:
        message.keys.append(of.name)
        value = message.values.add()
        value.type = of.type
        if of.value is None:
            value.is_null = True
        else:
            setattr(value, FIELDS[of.type], of.value)


def decode(content: bytes) -> Payload:
    """Raises ValueError for anything but a payload; fields that are not ours are passed over."""
    try:
        message = PayloadMessage.FromString(content)
        return Payload(
            message.timestamp if message.HasField("timestamp") else None,
            tuple(_metric(metric) for metric in message.metrics),
            message.seq if message.HasField("seq") else None,
        )
    except DecodeError as error:
        raise ValueError(f"no Sparkplug payload: {error}") from None


def _metric(message: Any) -> Metric:  # noqa: ANN401 - as above
    field = message.WhichOneof("value")
    has = message.HasField
    return Metric(
        _text(message.name) if has("name") else None,
        message.alias if has("alias") else None,
        message.timestamp if has("timestamp") else None,
        message.datatype if has("datatype") else None,
        _value(message, field),
        Field(field) if field else None,
        message.is_null,
        message.is_historical,
        _properties(message.properties) if has("properties") else (),
    )


def _value(message: Any, field: str | None) -> Raw | None:  # noqa: ANN401 - as above
    if field is None:
        return None
    value: Raw = getattr(message, field)
    return _text(value) if field == Field.STRING else value


def _properties(message: Any) -> tuple[Property, ...]:  # noqa: ANN401 - as above
    if len(message.keys) != len(message.values):
        raise ValueError("no Sparkplug payload: a property set has not as many keys as values")
    return tuple(
        Property(_text(key), value.type, _value(value, value.WhichOneof("value")))
        for key, value in zip(message.keys, message.values, strict=True)
    )


def _text(value: object) -> str:
    """The runtime gives bytes where a string is no UTF-8."""
    if not isinstance(value, str):
        raise ValueError("no Sparkplug payload: a string is no UTF-8")  # noqa: TRY004 - of a payload
    return value
