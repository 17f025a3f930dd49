"""The face on an agent and a real broker, and clients that act as KubeEdge's own do.

They speak MQTT 3.1.1, subscribe with QoS 1 and send what Go's encoding/json makes of KubeEdge's
structures: `event_id` and `timestamp` always, all else only when it is set.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from agent_rig import BOUND, Edge, device, running_agent, until
from kubeedge_shapes import strange
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from twinbridge.adapters.scada_kubeedge import KubeEdgeFace
from twinbridge.api.scada import KubeEdgeTopics
from twinbridge.app.agent import Agent
from twinbridge.app.faces import AgentTwins
from twinbridge.core.model import DeviceSpec
from twinbridge.testing.fakes import FakeDisk

PUMP = "$hw/events/device/default/pump-1"
NODE = "$hw/events/node/edge-1"


class Heard(NamedTuple):
    topic: str
    content: Any
    qos: int = 1
    retained: bool = False


class Application:
    """A client of EventBus on the edge's broker: an ordinary threaded one."""

    def __init__(self, port: int, *topics: str, session: str = "", user: str = "") -> None:
        """`session` names one that the broker keeps for it while it is away.

        `user` has the password `secret`.
        """
        self.heard: list[Heard] = []
        self.strange: list[str] = []
        """What KubeEdge's own clients could not have read."""
        self._port = port
        self._topics = topics
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, session, clean_session=not session)
        if user:
            self._client.username_pw_set(user, "secret")
        self._client.on_message = self._on_message
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_connect = lambda *_: self._subscribe()
        self._client.reconnect_delay_set(1, 1)

    def _subscribe(self) -> None:
        if self._topics:
            self._client.subscribe([(topic, 1) for topic in self._topics])
        else:
            self._subscribed.set()

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        try:
            content = json.loads(message.payload)
        except ValueError:
            content = message.payload  # what another client sends, or the test itself
        if isinstance(content, dict) and (fault := strange(message.topic, content)):
            self.strange.append(fault)
        self.heard.append(Heard(message.topic, content, message.qos, message.retain))

    def __enter__(self) -> Self:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        assert self._subscribed.wait(BOUND)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        assert self.strange == []

    def send(self, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain)

    def ask(self, topic: str, event_id: str = "", **more: object) -> None:
        """As Go writes a BaseMessage and what is embedded beside it."""
        base = {"event_id": event_id, "timestamp": time.time_ns() // 1_000_000}
        self.send(topic, json.dumps({**base, **more}))

    def expect(self, topic: str, event_id: str = "", **values: str) -> None:
        """As an application asks a device for values: `twin/update` with what is expected."""
        twin = {name: {"expected": {"value": value}} for name, value in values.items()}
        self.ask(f"{topic}/twin/update", event_id, twin=twin)

    def on(self, topic: str) -> list[Any]:
        """Everything that came on a topic."""
        return [heard.content for heard in self.heard if heard.topic == topic]

    async def next(self, topic: str, true: Callable[[Any], object] = lambda _: True) -> Any:
        """The first message on a topic for which it is true, waiting for it if need be."""
        found: list[Any] = []

        def came() -> bool:
            found[:] = [content for content in self.on(topic) if true(content)]
            return bool(found)

        try:
            await until(came)
        except TimeoutError:
            raise AssertionError(f"nothing came on {topic}; heard: {self.heard[-5:]}") from None
        return found[0]

    async def answer(self, topic: str, event_id: str) -> Any:
        return await self.next(f"{topic}/result", lambda said: said["event_id"] == event_id)


@dataclass
class Site:
    """An edge with its face, and what the face sees of it."""

    edge: Edge
    face: KubeEdgeFace
    twins: AgentTwins


@asynccontextmanager
async def running_face(
    url: str,
    *devices: DeviceSpec,
    disk: FakeDisk | None = None,
    seen_by: Callable[[Agent], AgentTwins] = AgentTwins,
    **options: object,
) -> AsyncIterator[Site]:
    """Returns once the broker is there."""
    async with running_agent(*(devices or (device(),)), disk=disk) as edge:
        twins = seen_by(edge.agent)
        settings = KubeEdgeTopics.model_validate({"broker": url, **options})
        face = KubeEdgeFace(settings, twins)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(face.run(), name="face")
            try:
                await until(lambda: face.connected)
                yield Site(edge, face, twins)
            finally:
                task.cancel()
