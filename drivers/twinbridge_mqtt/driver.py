"""The driver as the command finds it. Importing it loads no client library."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from pydantic import BaseModel

from twinbridge.core.model import Point, PropertySpec
from twinbridge.ports import Link, PlannedRead
from twinbridge_mqtt.address import BoundAddress, bind_address, bound, resolve
from twinbridge_mqtt.checks import complaints
from twinbridge_mqtt.config import MqttAddress, MqttConnection

_PUBLISH_HEADER = 4
"""Fixed header and length of the topic's name, bytes."""


class MqttDriver:
    """Fills `twinbridge.ports.Driver`."""

    name = "mqtt"
    connection_model: type[BaseModel] = MqttConnection
    address_model: type[BaseModel] = MqttAddress

    def check(self, spec: PropertySpec, address: BaseModel) -> Iterable[str]:
        return complaints(spec, _address(address))

    def overlap(self, first: object, second: object) -> str | None:
        """Any number of properties may be read from one topic, each in its own way."""
        if not isinstance(first, BoundAddress) or not isinstance(second, BoundAddress):
            raise TypeError("overlap compares bound MQTT addresses")
        return None

    def bind(self, spec: PropertySpec, connection: BaseModel, address: BaseModel) -> object:
        return bind_address(spec, _connection(connection), _address(address))

    def endpoint(self, connection: BaseModel) -> str:
        """`mqtt://10.0.0.5:1883#user`; options that differ from the usual follow."""
        return _connection(connection).endpoint

    def unit(self, connection: BaseModel) -> str:
        """Each device fails on its own, as messages of the others still come."""
        del connection
        return ""

    def outline(self, points: Sequence[Point]) -> Sequence[PlannedRead]:
        """The subscriptions: one per topic. What a message carries is the device's affair."""
        topics: dict[str, list[Point]] = {}
        for point in points:
            template = bound(point).model.topic
            if template is not None:
                topics.setdefault(resolve(template, point), []).append(point)
        return [
            PlannedRead(f"topic {topic}", found, 0, _PUBLISH_HEADER + len(topic.encode()))
            for topic, found in topics.items()
        ]

    def request_timeout(self, connection: BaseModel) -> int:
        """A command waits for its acknowledgement, and within the same time for its answer."""
        return _connection(connection).timeout

    def capacity(self, connection: BaseModel) -> float | None:
        del connection
        return None

    @asynccontextmanager
    async def open(self, connection: BaseModel) -> AsyncIterator[Link]:
        """Raises LinkLost when the broker is not reached, or refuses, within the timeout."""
        from twinbridge_mqtt.link import open_link  # noqa: PLC0415 - loads the client library

        async with open_link(_connection(connection)) as link:
            yield link


def _connection(model: BaseModel) -> MqttConnection:
    if not isinstance(model, MqttConnection):
        raise TypeError(f"{type(model).__name__} is no MQTT connection")
    return model


def _address(model: BaseModel) -> MqttAddress:
    if not isinstance(model, MqttAddress):
        raise TypeError(f"{type(model).__name__} is no MQTT address")
    return model


driver = MqttDriver()
