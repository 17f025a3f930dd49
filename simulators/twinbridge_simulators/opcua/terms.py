"""Node ids, status codes and data values, made in one place: asyncua types them narrowly."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from asyncua import ua

from twinbridge.core.model import ValueType
from twinbridge_opcua.nodes import NodeName

TYPES = {
    ValueType.BOOL: ua.VariantType.Boolean,
    ValueType.INT: ua.VariantType.Int64,
    ValueType.FLOAT: ua.VariantType.Double,
    ValueType.STRING: ua.VariantType.String,
}
_KINDS = {
    "i": ua.NodeIdType.Numeric,
    "s": ua.NodeIdType.String,
    "g": ua.NodeIdType.Guid,
    "b": ua.NodeIdType.ByteString,
}


def standard(number: int) -> ua.NodeId:
    """A node of the OPC UA namespace, by its number in `ObjectIds`."""
    return ua.NodeId(ua.Int32(number))


def named(name: str, index: int) -> ua.NodeId:
    return ua.NodeId(ua.String(name), ua.Int16(index))


def numbered(name: NodeName, index: int) -> ua.NodeId:
    """A node id of any kind, with the number that its namespace has in this server."""
    return ua.NodeId(cast("ua.String", name.name), ua.Int16(index), _KINDS[name.kind])


def status(code: int) -> ua.StatusCode:
    return ua.StatusCode(ua.UInt32(code))


def data_value(value: ua.Variant, now: datetime, code: int = 0) -> ua.DataValue:
    """A value of this moment."""
    at = cast("ua.DateTime", now)
    return ua.DataValue(value, StatusCode=status(code), SourceTimestamp=at, ServerTimestamp=at)


def stamped(value: ua.DataValue, now: datetime) -> ua.DataValue:
    """With a source time, if the client that wrote it gave none."""
    if value.SourceTimestamp is None:
        value = ua.DataValue(
            value.Value,
            StatusCode=value.StatusCode,
            SourceTimestamp=cast("ua.DateTime", now),
            ServerTimestamp=value.ServerTimestamp,
        )
    return value
