"""A bound address: topic, codec and command of a property, with what its device's link says."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from pydantic import BaseModel
from typing_extensions import override

from twinbridge.core.model import Point, PropertySpec
from twinbridge.errors import InvalidDefinition
from twinbridge_mqtt.config import CommandOptions, MqttAddress, MqttConnection
from twinbridge_mqtt.payload import Codec, compile_codec
from twinbridge_mqtt.stamps import Stamp, compile_stamp

CACHED = 4096
"""How many properties of models are kept compiled, for all the devices that share them."""


@dataclass(frozen=True, slots=True)
class Reader:
    """How a value and its time come out of a payload."""

    codec: Codec
    stamp: Stamp | None


@dataclass(frozen=True, slots=True)
class BoundAddress:
    """`reader` is None for what is only written; `max_age` in ns, 0 for none."""

    model: MqttAddress
    connection: MqttConnection
    reader: Reader | None
    max_age: int

    @property
    def command(self) -> CommandOptions | None:
        return self.model.command


class _Same:
    """Stands for the very object in a cache's key: models hold tables and have no hash."""

    __slots__ = ("model",)

    def __init__(self, model: BaseModel) -> None:
        self.model = model

    @override
    def __hash__(self) -> int:
        return id(self.model)

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.model is other.model


@lru_cache(CACHED)
def _reader(spec: PropertySpec, same: _Same) -> Reader:
    address = cast("MqttAddress", same.model)
    stamp = compile_stamp(address.timestamp) if address.timestamp is not None else None
    return Reader(compile_codec(spec, address), stamp)


def bind_address(
    spec: PropertySpec, connection: MqttConnection, address: MqttAddress
) -> BoundAddress:
    """Raises InvalidDefinition where the death of the device would go unnoticed."""
    try:
        reader = _reader(spec, _Same(address)) if address.topic is not None else None
    except ValueError as error:
        raise InvalidDefinition(f"{spec.name}: {error}") from error
    max_age = address.max_age or connection.max_age or 0
    if reader is not None and not max_age and connection.availability is None:
        raise InvalidDefinition(
            "nothing would tell when the device has died: give the property or the connection a "
            "maxAge (e.g. 5m), or the connection an availability topic"
        )
    return BoundAddress(address, connection, reader, max_age)


def bound(point: Point) -> BoundAddress:
    if not isinstance(point.address, BoundAddress):
        raise TypeError(f"{point.ref} is no MQTT point")
    return point.address


def resolve(template: str, point: Point) -> str:
    """The topic itself, with the names of the device and the property in it."""
    device = bound(point).connection.device or point.ref.device
    return template.replace("{device}", device).replace("{property}", point.ref.property)
