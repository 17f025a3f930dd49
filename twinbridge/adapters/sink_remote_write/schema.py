"""The remote write 1.0 request as messages of the protobuf runtime.

The field numbers are those that the remote write specification publishes.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

_PACKAGE: Final = "prometheus"
_ONE: Final = FieldDescriptorProto.LABEL_OPTIONAL
_MANY: Final = FieldDescriptorProto.LABEL_REPEATED


def _many(of: DescriptorProto, name: str, number: int, message: str) -> None:
    of.field.add(
        name=name,
        number=number,
        type=FieldDescriptorProto.TYPE_MESSAGE,
        label=_MANY,
        type_name=f".{_PACKAGE}.{message}",
    )


def _file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="remote.proto", package=_PACKAGE, syntax="proto3")
    label = file.message_type.add(name="Label")
    for number, name in enumerate(("name", "value"), 1):
        label.field.add(name=name, number=number, type=FieldDescriptorProto.TYPE_STRING, label=_ONE)
    sample = file.message_type.add(name="Sample")
    sample.field.add(name="value", number=1, type=FieldDescriptorProto.TYPE_DOUBLE, label=_ONE)
    sample.field.add(name="timestamp", number=2, type=FieldDescriptorProto.TYPE_INT64, label=_ONE)
    series = file.message_type.add(name="TimeSeries")
    _many(series, "labels", 1, "Label")
    _many(series, "samples", 2, "Sample")
    _many(file.message_type.add(name="WriteRequest"), "timeseries", 1, "TimeSeries")
    return file


def _message_class() -> Any:  # noqa: ANN401 - its attributes are those of the descriptor
    pool = descriptor_pool.DescriptorPool()  # our own: another's schema of this name is no clash
    pool.Add(_file())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.WriteRequest"))


WriteRequest: Final = _message_class()
