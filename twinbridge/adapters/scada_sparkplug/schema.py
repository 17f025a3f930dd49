"""The Sparkplug B payload as messages of the protobuf runtime.

The field numbers are those that the Sparkplug specification publishes (3.0.0, 6.4.1), as far as
an edge node without templates and data sets needs them. Others are unknown fields: passed over.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

_PACKAGE: Final = "org.eclipse.tahu.protobuf"
_UINT32: Final = FieldDescriptorProto.TYPE_UINT32
_UINT64: Final = FieldDescriptorProto.TYPE_UINT64
_FLOAT: Final = FieldDescriptorProto.TYPE_FLOAT
_DOUBLE: Final = FieldDescriptorProto.TYPE_DOUBLE
_BOOL: Final = FieldDescriptorProto.TYPE_BOOL
_STRING: Final = FieldDescriptorProto.TYPE_STRING
_BYTES: Final = FieldDescriptorProto.TYPE_BYTES
_MESSAGE: Final = FieldDescriptorProto.TYPE_MESSAGE
_ONE: Final = FieldDescriptorProto.LABEL_OPTIONAL
_MANY: Final = FieldDescriptorProto.LABEL_REPEATED


def _field(
    of: DescriptorProto,
    name: str,
    number: int,
    kind: FieldDescriptorProto.Type.ValueType,
    label: FieldDescriptorProto.Label.ValueType = _ONE,
    message: str = "",
) -> FieldDescriptorProto:
    made = of.field.add(name=name, number=number, type=kind, label=label)
    if message:
        made.type_name = f".{_PACKAGE}.{message}"
    return made


def _values(of: DescriptorProto, first: int) -> None:
    """The scalar members of `oneof value`, which have consecutive numbers."""
    of.oneof_decl.add(name="value")
    for offset, (name, kind) in enumerate(
        (
            ("int_value", _UINT32),
            ("long_value", _UINT64),
            ("float_value", _FLOAT),
            ("double_value", _DOUBLE),
            ("boolean_value", _BOOL),
            ("string_value", _STRING),
        )
    ):
        _field(of, name, first + offset, kind).oneof_index = 0


def _property_value(of: DescriptorProto) -> None:
    value = of.nested_type.add(name="PropertyValue")
    _field(value, "type", 1, _UINT32)
    _field(value, "is_null", 2, _BOOL)
    _values(value, 3)


def _property_set(of: DescriptorProto) -> None:
    properties = of.nested_type.add(name="PropertySet")
    _field(properties, "keys", 1, _STRING, _MANY)
    _field(properties, "values", 2, _MESSAGE, _MANY, "Payload.PropertyValue")


def _metric(of: DescriptorProto) -> None:
    metric = of.nested_type.add(name="Metric")
    _field(metric, "name", 1, _STRING)
    _field(metric, "alias", 2, _UINT64)
    _field(metric, "timestamp", 3, _UINT64)
    _field(metric, "datatype", 4, _UINT32)
    _field(metric, "is_historical", 5, _BOOL)
    _field(metric, "is_transient", 6, _BOOL)
    _field(metric, "is_null", 7, _BOOL)
    _field(metric, "properties", 9, _MESSAGE, _ONE, "Payload.PropertySet")
    _values(metric, 10)
    _field(metric, "bytes_value", 16, _BYTES).oneof_index = 0


def _file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="sparkplug_b.proto", package=_PACKAGE, syntax="proto2")
    payload = file.message_type.add(name="Payload")
    _property_value(payload)
    _property_set(payload)
    _metric(payload)
    _field(payload, "timestamp", 1, _UINT64)
    _field(payload, "metrics", 2, _MESSAGE, _MANY, "Payload.Metric")
    _field(payload, "seq", 3, _UINT64)
    _field(payload, "uuid", 4, _STRING)
    _field(payload, "body", 5, _BYTES)
    return file


def _message_class() -> Any:  # noqa: ANN401 - its attributes are those of the descriptor
    pool = descriptor_pool.DescriptorPool()  # our own: another's schema of this name is no clash
    pool.Add(_file())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Payload"))


PayloadMessage: Final = _message_class()
