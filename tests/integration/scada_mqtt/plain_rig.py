"""An agent with the plain MQTT face on a real broker, and SCADA clients of either version."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from agent_rig import Edge, device, good, running_agent
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from twinbridge.adapters.scada_mqtt import PlainFace
from twinbridge.api.scada import PlainMqtt
from twinbridge.app.faces import AgentTwins
from twinbridge.core.model import DeviceSpec
from twinbridge.core.rule import RuleInstance
from twinbridge.testing.fakes import FakeDisk

PREFIX = "twinbridge/v1/edge-1"
PATIENCE = 15.0
"""Seconds after which what a test waits for will not come any more."""


@dataclass
class Heard:
    topic: str
    payload: bytes
    retained: bool
    correlation: bytes = b""

    @property
    def content(self) -> Any:
        return json.loads(self.payload)


class Scada:
    """An ordinary client that hears everything below `topic`, in a thread of paho's."""

    def __init__(
        self, port: int, *, v5: bool = False, topic: str = "#", user: str = "", qos: int = 1
    ) -> None:
        version = MQTTProtocolVersion.MQTTv5 if v5 else MQTTProtocolVersion.MQTTv311
        self.client = Client(CallbackAPIVersion.VERSION2, protocol=version)
        self.client.reconnect_delay_set(0.05, 0.2)
        self._port = port
        self._topic = topic
        self._qos = qos
        self.subscriptions = 0
        self.heard: list[Heard] = []
        if user:
            self.client.username_pw_set(user, f"{user}-word")
        self.client.on_connect = lambda *_: self._subscribe()
        self.client.on_subscribe = lambda *_: self._subscribed()
        self.client.on_message = lambda _c, _u, message: self._hear(message)

    def _subscribe(self) -> None:
        self.client.subscribe(self._topic, qos=self._qos)

    def _subscribed(self) -> None:
        self.subscriptions += 1

    def _hear(self, message: MQTTMessage) -> None:
        told = getattr(message.properties, "CorrelationData", b"")
        self.heard.append(Heard(message.topic, bytes(message.payload), message.retain, told))

    async def __aenter__(self) -> Self:
        self.client.connect("127.0.0.1", self._port)
        self.client.loop_start()
        await soon(lambda: self.subscriptions)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.client.disconnect()
        await asyncio.to_thread(self.client.loop_stop)

    async def say(
        self,
        topic: str,
        content: object,
        *,
        retain: bool = False,
        qos: int = 1,
        response: str = "",
        correlation: bytes = b"",
    ) -> None:
        """Returns once the broker has it; `content` of bytes or a string goes as it is."""
        raw = content if isinstance(content, bytes | str) else json.dumps(content)
        properties = None
        if response or correlation:
            properties = Properties(PacketTypes.PUBLISH)
            if response:
                properties.ResponseTopic = response
            if correlation:
                properties.CorrelationData = correlation
        topic = topic if topic.startswith("/") else f"{PREFIX}/{topic}"
        sent = self.client.publish(topic.lstrip("/"), raw, qos, retain, properties)
        await asyncio.to_thread(sent.wait_for_publish, PATIENCE)

    def of(self, topic: str) -> list[Heard]:
        return [h for h in list(self.heard) if h.topic == f"{PREFIX}/{topic}"]

    def raw(self, topic: str) -> bytes | None:
        """What was last told on a topic."""
        found = self.of(topic)
        return found[-1].payload if found else None

    def last(self, topic: str) -> Any:
        """What stands on a topic, as JSON; None without a message, or with an empty one."""
        found = self.of(topic)
        return found[-1].content if found and found[-1].payload else None

    def value(self, topic: str, name: str) -> Any:
        """Value and quality of a property in the last twin."""
        twin = self.last(topic)
        shown = twin["properties"][name] if twin else None
        return shown and (shown["value"], shown["quality"])


async def soon(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait until it holds; what it looks into may not be there yet."""
    async with asyncio.timeout(patience):
        while not _holds(condition):  # noqa: ASYNC110 - it looks at ordinary state, which has no event
            await asyncio.sleep(0.01)


def _holds(condition: Callable[[], object]) -> bool:
    try:
        return bool(condition())
    except (LookupError, TypeError):
        return False


@dataclass
class Plant:
    edge: Edge
    face: PlainFace
    task: asyncio.Task[None]
    twins: AgentTwins
    disk: FakeDisk = field(default_factory=FakeDisk)

    async def online(self) -> None:
        await soon(lambda: self.face.connected)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])

    async def redefine(self, *devices: DeviceSpec) -> None:
        await self.edge.agent.set_plant({spec.name: spec for spec in devices}, ())


def options(port: int, **more: object) -> PlainMqtt:
    return PlainMqtt.model_validate({"broker": f"mqtt://127.0.0.1:{port}", **more})


@asynccontextmanager
async def shown(
    port: int,
    *devices: DeviceSpec,
    rules: tuple[RuleInstance, ...] = (),
    online: bool = True,
    **more: object,
) -> AsyncIterator[Plant]:
    """A plant that is shown at the broker, and online unless said otherwise."""
    disk = FakeDisk()
    async with running_agent(*devices, disk=disk, rules=rules) as edge:
        twins = AgentTwins(edge.agent)
        face = PlainFace(options(port, **more), twins)
        task = asyncio.create_task(face.run(), name="face")
        plant = Plant(edge, face, task, twins, disk)
        try:
            if online:
                await plant.online()
            yield plant
        finally:
            await plant.stop()
            if not task.cancelled():
                task.result()


__all__ = ["PREFIX", "Heard", "Plant", "Scada", "device", "good", "options", "shown", "soon"]
