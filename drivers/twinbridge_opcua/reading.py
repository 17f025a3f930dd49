"""From a DataValue of the server to a Reading."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import structlog
from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds

from twinbridge.core.model import Point, Quality, Reason, Value, ValueType
from twinbridge.core.scaling import scaled
from twinbridge.ports import Reading
from twinbridge_opcua.address import bound
from twinbridge_opcua.status import quality_of

log = structlog.get_logger()

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAY_NS = 86_400_000_000_000
_SECOND_NS = 1_000_000_000
_RECOGNISED = 40
"""Characters that are enough to recognise a value by."""

Decode: TypeAlias = Callable[[ua.DataValue], Reading]
Convert: TypeAlias = Callable[[object], Value]


class WrongType(Exception):
    """The node gives what the property cannot hold; the text says what that can."""


def nanoseconds(at: datetime | None) -> int | None:
    """UTC ns of a timestamp; None for none, or for one that was never set."""
    if at is None:
        return None
    since = (at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH
    if since.days < 0:
        return None
    return since.days * _DAY_NS + since.seconds * _SECOND_NS + since.microseconds * 1000


def value_of(point: Point, node: ua.NodeId) -> ua.ReadValueId:
    """What to ask for, or to have watched: of an array the one element alone."""
    index = bound(point).model.index
    return ua.ReadValueId(node, AttributeIds.Value, None if index is None else ua.String(index))


def decoder(point: Point) -> Decode:
    """Made once per point and link.

    A bad reading has no time: it must never count as older than the value that it takes back.
    """
    convert = _converter(point)
    server_time_noted = False

    def time_of(given: ua.DataValue) -> int | None:
        nonlocal server_time_noted
        if (at := nanoseconds(given.SourceTimestamp)) is not None:
            return at
        if not server_time_noted:
            server_time_noted = True
            log.debug("no source time; the server's time is used", property=str(point.ref))
        return nanoseconds(given.ServerTimestamp)

    def decode(given: ua.DataValue) -> Reading:
        code = given.StatusCode.value if given.StatusCode else 0
        quality, reason, words = quality_of(code) if code else _GOOD
        raw = given.Value.Value if given.Value is not None else None
        if quality is Quality.BAD:
            return Reading(point, None, quality, reason, words)
        if raw is None:
            return Reading(point, None, Quality.BAD, Reason.NOT_READ, "the server gives no value")
        try:
            return Reading(point, convert(raw), quality, reason, words, time_of(given))
        except WrongType as wrong:
            words = f"the node gives {_shown(given.Value)}, {wrong}"
            return Reading(point, None, Quality.BAD, Reason.DEVICE_FAULT, words)

    return decode


_GOOD = (Quality.GOOD, Reason.NONE, "")


def _converter(point: Point) -> Convert:
    model = bound(point).model
    convert = _CONVERTERS[point.spec.type]
    if model.labels is not None:
        convert = _labelled(model.labels)
    elif model.scale is not None or model.offset:
        convert = _scaled(point, model.scale, model.offset)
    return convert if model.index is None else _element(model.index, convert)


def _element(index: int, convert: Convert) -> Convert:
    """An index range of one is answered by an array of one; some servers give all of it."""

    def element(raw: object) -> Value:
        if not isinstance(raw, list):
            raise WrongType(f"which has no element {index}")
        if len(raw) == 1:
            return convert(raw[0])
        if index >= len(raw):
            raise WrongType(f"which has no element {index}")
        return convert(raw[index])

    return element


def _scaled(point: Point, scale: float | None, offset: float) -> Convert:
    whole, scaling = point.spec.type is ValueType.INT, scaled(scale, offset)

    def convert(raw: object) -> Value:
        value = scaling(raw if type(raw) is int else _number(raw))
        return round(value) if whole and math.isfinite(value) else value

    return convert


def _labelled(labels: dict[int, str]) -> Convert:
    def label(raw: object) -> Value:
        number = _whole(raw)
        if number not in labels:
            raise WrongType("which has no label")
        return labels[number]

    return label


def _truth(raw: object) -> Value:
    if isinstance(raw, bool):
        return raw
    raise WrongType("the property is a bool")


def _whole(raw: object) -> int:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return int(raw)
    raise WrongType("the property is an int")


def _number(raw: object) -> float:
    if type(raw) is float:
        return raw
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        return float(raw)
    raise WrongType("the property is a number")


def _text(raw: object) -> Value:
    if isinstance(raw, str):
        return raw
    shown = _TEXTS.get(type(raw))
    if shown is None:
        raise WrongType("the property is a string")
    return shown(raw)


_TEXTS: dict[type, Callable[[Any], str]] = {
    ua.LocalizedText: lambda text: text.Text or "",
    ua.QualifiedName: lambda name: name.Name or "",
    ua.DateTime: datetime.isoformat,
    datetime: datetime.isoformat,
    ua.Guid: str,
    UUID: str,
    bytes: bytes.hex,
    ua.ByteString: bytes.hex,
}


def _shown(given: ua.Variant | None) -> str:
    """`the String 'hot'`, `an array of 3 Int32`."""
    if given is None:
        return "nothing"
    kind = getattr(given.VariantType, "name", "unknown type")
    if isinstance(given.Value, list):
        return f"an array of {len(given.Value)} {kind}"
    text = repr(given.Value)
    return f"a {kind}" if len(text) > _RECOGNISED else f"the {kind} {text}"


_CONVERTERS: dict[ValueType, Convert] = {
    ValueType.BOOL: _truth,
    ValueType.INT: _whole,
    ValueType.FLOAT: _number,
    ValueType.STRING: _text,
}
