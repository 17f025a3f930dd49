"""A followed link to a broker, what it has said, and a device that speaks to the same broker."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from twinbridge.core.model import (
    SECOND,
    Access,
    Point,
    PropertyRef,
    PropertySpec,
    Quality,
    Value,
    ValueType,
)
from twinbridge.errors import DeviceError, InvalidDefinition
from twinbridge.ports import Reading, ReadRequest
from twinbridge_mqtt import driver
from twinbridge_mqtt.config import MqttAddress, MqttConnection
from twinbridge_mqtt.link import MqttLink

PATIENCE = 15.0
"""Seconds after which what a test waits for will not come any more."""


class Peer:
    """A device or a listener on the broker: an ordinary threaded client."""

    def __init__(self, port: int, *, will: tuple[str, str] | None = None, v5: bool = False) -> None:
        version = MQTTProtocolVersion.MQTTv5 if v5 else MQTTProtocolVersion.MQTTv311
        self.client = Client(CallbackAPIVersion.VERSION2, protocol=version)
        self._port = port
        self._subscribed = threading.Event()
        self.heard: list[Any] = []
        self.client.on_message = lambda _c, _u, message: self.hear(message)
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        if will is not None:
            self.client.will_set(will[0], will[1], qos=1, retain=True)

    def hear(self, message: Any) -> None:
        self.heard.append(message)

    def __enter__(self) -> Self:
        self.client.connect("127.0.0.1", self._port)
        self.client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def die(self) -> None:
        """End the connection without a good-bye, so that the will is published."""
        sock = self.client.socket()
        assert sock is not None
        self.client.loop_stop()
        sock.close()

    def say(self, topic: str, content: object, *, retain: bool = False, qos: int = 1) -> None:
        """Returns once the broker has it."""
        raw = content if isinstance(content, bytes | str) else json.dumps(content)
        sent = self.client.publish(topic, raw, qos=qos, retain=retain)
        sent.wait_for_publish(PATIENCE)

    def listen(self, topic: str) -> None:
        self._subscribed.clear()
        self.client.subscribe(topic, qos=1)
        assert self._subscribed.wait(PATIENCE)


class Followed:
    """A link with its device's requests; the latest of each property, or why it is lost."""

    def __init__(self, link: MqttLink, points: dict[str, Point]) -> None:
        self.link = link
        self.points = points
        self.now: dict[str, Reading] = {}
        self.every: dict[str, list[Reading]] = {}
        self.lost: dict[str, str] = {}
        self.ended: DeviceError | None = None
        self.answers = 0
        self.messages = asyncio.Event()

    def follow(self) -> None:
        """Plan and follow all that can be read."""
        devices: dict[str, list[Point]] = {}
        for point in self.points.values():
            if point.spec.access.readable:
                devices.setdefault(point.ref.device, []).append(point)
        self.requests: list[ReadRequest] = [
            r for points in devices.values() for r in self.link.plan(points)
        ]
        self.link.follow(self.requests)

    async def listen(self) -> None:
        try:
            async for batch in self.link.samples():
                for request, result in batch:
                    device = request.points[0].ref.device
                    self.answers += 1
                    if isinstance(result, DeviceError):
                        self.lost[device] = str(result)
                        continue
                    self.lost.pop(device, None)
                    for reading in result.readings:
                        self.now[str(reading.point.ref)] = reading
                        self.every.setdefault(str(reading.point.ref), []).append(reading)
        except DeviceError as error:
            self.ended = error

    async def until(self, true: Callable[[], object], what: str = "it") -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not true():  # noqa: ASYNC110 - whatever a test looks at, it polls
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(
                f"{what} did not come; {self.now} {self.lost} {self.ended}"
            ) from None

    async def shows(self, name: str, value: Value) -> Reading:
        """Until the property is good with that value."""

        def right() -> bool:
            found = self.now.get(name)
            device = name.partition("/")[0]
            return (
                found is not None
                and device not in self.lost
                and found.quality is Quality.GOOD
                and found.value == value
            )

        await self.until(right, f"{name} = {value!r}")
        return self.now[name]

    async def says(self, name: str, words: str, quality: Quality = Quality.BAD) -> Reading:
        """Until the property is of that quality, with these words among its message."""

        def right() -> bool:
            found = self.now.get(name)
            return found is not None and found.quality is quality and words in found.message

        await self.until(right, f"{name}: {words}")
        return self.now[name]

    async def loses(self, device: str, words: str) -> None:
        await self.until(lambda: words in self.lost.get(device, ""), f"{device}: {words}")


def connection(port: int, **more: Any) -> MqttConnection:
    return MqttConnection.model_validate(
        {"url": f"mqtt://127.0.0.1:{port}", "maxAge": "5m", **more}
    )


def a_point(
    at: MqttConnection,
    name: str = "temp",
    kind: ValueType = ValueType.FLOAT,
    *,
    device: str = "d",
    access: Access = Access.READ_ONLY,
    pulse: bool = False,
    **address: Any,
) -> Point:
    """Checked as `validate` does."""
    spec = PropertySpec(name, kind, access, pulse=pulse)
    model = MqttAddress.model_validate(address)
    if wrong := list(driver.check(spec, model)):
        raise InvalidDefinition("; ".join(wrong))
    return Point(PropertyRef(device, name), spec, driver.bind(spec, at, model), SECOND)


@asynccontextmanager
async def followed(at: MqttConnection, *points: Point) -> AsyncIterator[Followed]:
    async with driver.open(at) as link, asyncio.TaskGroup() as tasks:
        assert isinstance(link, MqttLink)
        found = Followed(link, {str(p.ref): p for p in points})
        found.follow()
        listening = tasks.create_task(found.listen(), name="listen")
        try:
            yield found
        finally:
            listening.cancel()
