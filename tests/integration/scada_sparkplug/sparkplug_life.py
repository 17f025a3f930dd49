"""The full life of an edge node, told once and recorded: every chapter is a mark in the record.

A node with three devices and a primary host, on a real broker with a wire tap between them.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent_rig import Edge, device, running_agent
from mosquitto import Mosquitto
from sparkplug_record import GROUP, HOST, NODE, Recording, form
from sparkplug_wire import HEARD, MARK, Wire

from twinbridge.adapters.scada_sparkplug import SparkplugFace
from twinbridge.adapters.scada_sparkplug.payload import (
    DataType,
    Field,
    Metric,
    Payload,
    decode,
    encode,
)
from twinbridge.api.broker import parse_url
from twinbridge.api.scada import SparkplugB
from twinbridge.app.faces import AgentTwins
from twinbridge.core.messages import Samples
from twinbridge.core.model import (
    MILLISECOND,
    DeviceSpec,
    Point,
    PropertyRef,
    PropertySpec,
    Quality,
    Reason,
    Sample,
    ValueType,
)
from twinbridge.mqtt.connection import Connection, Message, connected
from twinbridge_simulators.mqtt.packets import Message as Heard

BOUND = 15.0
"""Seconds after which a chapter that does not come about fails."""
QUIET = 0.15
"""Seconds in which a node that must not speak could."""
NUMBERS = 256
"""More messages than `seq` has numbers."""
TANK = "tank/1+β"
TANK_ID = "tank_1_β"
STATE = f"spBv1.0/STATE/{HOST}"

TANK_PROPERTIES = (
    PropertySpec("level", ValueType.FLOAT, unit="m", minimum=0, maximum=12.5),
    PropertySpec("Zähler", ValueType.INT, maximum=2**64 - 1),
    PropertySpec("offset", ValueType.INT, minimum=-(2**63)),
    PropertySpec("valve", ValueType.BOOL),
    PropertySpec("text", ValueType.STRING),
)
EXTRA = PropertySpec("current", ValueType.FLOAT, unit="A")


def with_points(spec: DeviceSpec, *properties: PropertySpec, digest: str) -> DeviceSpec:
    points = tuple(
        Point(PropertyRef(spec.name, p.name), p, None, 500 * MILLISECOND) for p in properties
    )
    return replace(spec, points=points, digest=digest)


def plant() -> list[DeviceSpec]:
    tank = with_points(device(TANK), *TANK_PROPERTIES, digest="t1")
    return [device("pump-1"), device("pump-2"), tank]


async def until(condition: Callable[[], object], what: str = "") -> None:
    try:
        async with asyncio.timeout(BOUND):
            while not condition():  # noqa: ASYNC110 - ordinary state, which has no event
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"never came about: {what}") from None


@dataclass
class Stage:
    """Who plays: the agent, the host's connection, and the wire of the node."""

    edge: Edge
    wire: Wire
    host: Connection
    folder: Path
    options: SparkplugB
    faces: list[SparkplugFace] = field(default_factory=list)
    mark: str = ""

    def chapter(self, name: str) -> None:
        self.mark = name
        self.wire.note(MARK, name)

    @property
    def record(self) -> Recording:
        return Recording(self.wire.seen)

    def said(self) -> list[str]:
        """Verbs and devices of this chapter."""
        return self.record.verbs_in(self.mark)

    async def until_said(self, *verbs: str) -> None:
        wanted = sorted(verbs)

        def there() -> bool:
            said = self.said()
            return all(said.count(verb) >= wanted.count(verb) for verb in wanted)

        await until(there, f"{verbs} in {self.mark}")

    async def state(self, timestamp: int, *, online: bool, host: str = HOST) -> None:
        """As a host application says it."""
        said = json.dumps({"online": online, "timestamp": timestamp}).encode()
        await self.host.publish(f"spBv1.0/STATE/{host}", said, retain=True)

    async def quiet(self) -> None:
        """Time for what must not happen."""
        await asyncio.sleep(QUIET)

    def command(self, verb: str, device_id: str, *metrics: Metric) -> None:
        now = time.time_ns() // 1_000_000
        self.host.send(form(verb, device_id), encode(Payload(now, metrics)))

    def alias(self, device_id: str, name: str) -> int:
        births = [s for s in self.record.of("DBIRTH") if s.device == device_id]
        alias = births[-1].metric(name).alias
        assert alias is not None
        return alias

    @asynccontextmanager
    async def node(self) -> AsyncIterator[SparkplugFace]:
        face = SparkplugFace(self.options, AgentTwins(self.edge.agent), self.folder)
        task = asyncio.create_task(face.run(), name="node")
        try:
            yield face
        finally:
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=BOUND)
            assert done

    async def subscribed(self, sessions: int) -> None:
        def there() -> bool:
            return sum(seen.kind == "SUBACK" for seen in self.wire.seen) >= sessions

        await until(there, f"{sessions} sessions")

    async def closed(self, sessions: int) -> None:
        def there() -> bool:
            return sum(seen.kind == "CLOSED" for seen in self.wire.seen) >= sessions

        await until(there, f"the end of {sessions} sessions")


Story = Callable[[Stage], Awaitable[None]]


def told(folder: Path, story: Story, *devices: DeviceSpec, host: str | None = HOST) -> Recording:
    """Play a story, and return what the wire has seen."""

    async def play() -> Recording:
        with Mosquitto(folder / "broker") as broker:
            async with Wire(broker.port) as wire, running_agent(*devices) as edge:
                options = SparkplugB(
                    broker=f"mqtt://127.0.0.1:{wire.port}",
                    group=GROUP,
                    node=NODE,
                    primaryHost=host,
                )

                def hear(message: Message) -> None:
                    wire.note(HEARD, Heard(message.topic, message.payload, 1, message.retained))

                async with connected(parse_url(broker.url), hear) as connection:
                    await connection.subscribe((f"spBv1.0/{GROUP}/NDEATH/#", 1))
                    stage = Stage(edge, wire, connection, folder / "state", options)
                    await story(stage)
                    return stage.record

    return asyncio.run(play())


async def full_life(stage: Stage) -> None:
    async with stage.node() as face:
        await _wait_for_the_host(stage)
        await _work(stage)
        await _lose_and_redefine(stage)
        await _lose_the_host(stage)
        stage.chapter("the connection is cut")
        stage.wire.cut()
        await stage.subscribed(3)
        await stage.until_said("NBIRTH", "DBIRTH pump-1", "DBIRTH pump-2")
        await until(lambda: stage.record.heard_in(stage.mark), "the will")
        await until(lambda: face.connected)
        stage.chapter("the node is stopped")
    await stage.closed(3)
    stage.chapter("the node is started again")
    async with stage.node():
        await stage.until_said("NBIRTH", "DBIRTH pump-1", "DBIRTH pump-2")
        stage.chapter("the node is stopped again")
    await stage.closed(4)
    stage.chapter("the end")


async def _wait_for_the_host(stage: Stage) -> None:
    stage.chapter("the host is offline")
    await stage.state(100, online=False)
    for name in ("pump-1", TANK):
        stage.edge.machines.contact(name, connected=True)
    stage.edge.machines.report("pump-1", temperature=20.5, run=False, speed=0, label="größe")
    stage.edge.machines.report(TANK, level=1.5, offset=-(2**63))
    await stage.subscribed(1)
    await stage.quiet()
    stage.chapter("another host is online")
    await stage.state(1000, online=True, host="another")
    await stage.quiet()
    stage.chapter("an older message says that the host is online")
    await stage.state(50, online=True)
    await stage.quiet()
    stage.chapter("the host is online")
    await stage.state(200, online=True)
    await stage.until_said("NBIRTH", "DBIRTH pump-1", f"DBIRTH {TANK_ID}")


async def _work(stage: Stage) -> None:
    machines = stage.edge.machines
    await until(lambda: "DDATA pump-1" in stage.said(), "what was kept")
    stage.chapter("values change")
    machines.report("pump-1", temperature=21.0, run=True, speed=1, label="a")
    machines.report(TANK, level=2.0, offset=-5, valve=True, text="✓", Zähler=2**64 - 1)
    uncertain = Sample(3.0, Quality.UNCERTAIN, Reason.NONE, time.time_ns(), 2)
    failed = Sample(None, Quality.BAD, Reason.COMM_LOST, time.time_ns(), 3)
    machines.bus.publish(Samples(TANK, (("level", uncertain), ("offset", failed))))
    for speed in range(2, 2 + NUMBERS):
        before = len(stage.wire.seen)
        machines.report("pump-1", speed=speed)
        await until(lambda said=before: len(stage.wire.seen) > said, "a value")
    await until(lambda: _last_speed(stage) == NUMBERS + 1)
    stage.chapter("nothing changes")
    await stage.quiet()
    stage.chapter("the host commands")
    run = Metric(alias=stage.alias("pump-1", "run"), value=False, field=Field.BOOLEAN)
    speed_up = Metric(alias=stage.alias("pump-1", "speed"), value=900, field=Field.LONG)
    stage.command("DCMD", "pump-1", run, speed_up)
    await until(lambda: stage.edge.state("run") and stage.edge.state("speed"), "a command")
    stage.chapter("the host asks for a rebirth")
    rebirth = Metric("Node Control/Rebirth", None, None, DataType.BOOLEAN, True, Field.BOOLEAN)
    stage.command("NCMD", "", rebirth)
    await stage.until_said("NBIRTH", "DBIRTH pump-1", f"DBIRTH {TANK_ID}")


def _last_speed(stage: Stage) -> object:
    alias = stage.alias("pump-1", "speed")
    data = [m for said in stage.record.of("DDATA") for m in said.payload.metrics]
    return [m.value for m in data if m.alias == alias][-1]


async def _lose_and_redefine(stage: Stage) -> None:
    machines = stage.edge.machines
    stage.chapter("pump-2 answers")
    machines.contact("pump-2", connected=True)
    await stage.until_said("DBIRTH pump-2", "NDATA")
    stage.chapter("pump-1 is lost")
    machines.contact("pump-1", connected=False)
    await stage.until_said("DDEATH pump-1", "NDATA")
    stage.chapter("pump-1 is back")
    machines.contact("pump-1", connected=True)
    await stage.until_said("DBIRTH pump-1", "NDATA")
    stage.chapter("definitions change")
    old = device("pump-1")
    new = with_points(old, *(p.spec for p in old.points), EXTRA, digest="d2")
    await stage.edge.agent.set_plant({"pump-1": new, "pump-2": device("pump-2")}, ())
    wanted = ("DDEATH pump-1", f"DDEATH {TANK_ID}", "NDATA")
    await stage.until_said(*wanted, "DBIRTH pump-1")
    stage.chapter("the new property has a value")
    machines.report("pump-1", current=3.5)
    await stage.until_said("DDATA pump-1")


async def _lose_the_host(stage: Stage) -> None:
    machines = stage.edge.machines
    stage.chapter("an older message says that the host is offline")
    await stage.state(150, online=False)
    await stage.quiet()
    machines.report("pump-1", speed=1000)
    await stage.until_said("DDATA pump-1")
    stage.chapter("the host goes")
    await stage.state(200, online=False)
    await stage.subscribed(2)
    machines.report("pump-1", speed=1001)
    machines.report("pump-2", speed=1)
    await stage.quiet()
    stage.chapter("the host is back")
    await stage.state(300, online=True)
    await stage.until_said("NBIRTH", "DBIRTH pump-1", "DBIRTH pump-2", "DDATA pump-1")


def commands(recording: Recording) -> Sequence[Payload]:
    """What the node was sent on command topics."""
    return [
        decode(seen.content.payload)
        for seen in recording.seen
        if seen.kind == "PUBLISH" and not seen.up and "CMD/" in seen.content.topic
    ]
