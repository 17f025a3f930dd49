"""The Sparkplug face with a real broker that dies, refuses and is flooded."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from agent_rig import Edge, device, running_agent
from mosquitto import Mosquitto
from prometheus_client import REGISTRY

from twinbridge.adapters.scada_sparkplug import SparkplugFace
from twinbridge.adapters.scada_sparkplug.payload import Field, Metric, Payload, decode, encode
from twinbridge.api.broker import parse_url
from twinbridge.api.scada import SparkplugB
from twinbridge.app.faces import AgentTwins
from twinbridge.mqtt.connection import Connection, Message, connected

BOUND = 20.0
"""Seconds after which a test that waits gives up."""
ROOT = Path(__file__).parents[3]
REBIRTH = encode(Payload(1, (Metric("Node Control/Rebirth", value=True, field=Field.BOOLEAN),)))


@dataclass
class Host:
    """A host application: everything that was said, in order, and whether numbers had gaps."""

    connection: Connection | None = None
    said: list[tuple[str, Payload]] = field(default_factory=list)
    gaps: int = 0
    _seq: int = -1

    def hear(self, message: Message) -> None:
        verb = message.topic.split("/")[2]
        if verb in ("NCMD", "DCMD"):
            return
        payload = decode(message.payload)
        self.said.append((verb, payload))
        if payload.seq is not None:
            expected = 0 if verb == "NBIRTH" else (self._seq + 1) % 256
            self.gaps += payload.seq != expected
            self._seq = payload.seq

    def count(self, verb: str) -> int:
        return sum(v == verb for v, _ in self.said)

    def send(self, topic: str, payload: bytes) -> None:
        assert self.connection is not None
        self.connection.send(topic, payload)

    def bd_seqs(self, verb: str) -> list[object]:
        return [p.metrics[0].value for v, p in self.said if v == verb]

    def values(self, alias: int, *, historical: bool) -> list[object]:
        return [
            m.value
            for verb, payload in self.said
            for m in payload.metrics
            if verb == "DDATA" and m.alias == alias and m.is_historical is historical
        ]

    @property
    def alias(self) -> int:
        """Of the speed of pump-1; 0 before its birth."""
        found = (m.alias for v, p in self.said for m in p.metrics if m.name == "speed")
        return next((alias for alias in found if alias is not None), 0)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(BOUND):
        while not condition():  # noqa: ASYNC110 - ordinary state, which has no event
            await asyncio.sleep(0.01)


@asynccontextmanager
async def listening(url: str, host: Host) -> AsyncIterator[None]:
    async with connected(parse_url(url), host.hear) as host.connection:
        await host.connection.subscribe(("spBv1.0/plant/#", 1))
        yield


@asynccontextmanager
async def face_running(
    url: str, folder: Path, edge: Edge, **options: object
) -> AsyncIterator[SparkplugFace]:
    asked = SparkplugB.model_validate({"broker": url, "group": "plant", **options})
    face = SparkplugFace(asked, AgentTwins(edge.agent), folder)
    task = asyncio.create_task(face.run(), name="face")
    edge.machines.contact("pump-1", connected=True)
    try:
        yield face
    finally:
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=BOUND)
        assert done


def play(story: Callable[[Edge], Awaitable[None]]) -> None:
    async def played() -> None:
        async with running_agent(device("pump-1")) as edge:
            await story(edge)

    asyncio.run(played())


def test_what_changes_while_the_broker_is_dead_comes_as_history_in_the_next_session(
    tmp_path: Path,
) -> None:
    async def story(edge: Edge) -> None:
        host = Host()
        with Mosquitto(tmp_path / "broker") as broker:
            async with face_running(broker.url, tmp_path, edge) as face:
                async with listening(broker.url, host):
                    await until(lambda: host.count("DBIRTH"))
                    edge.machines.report("pump-1", speed=1)
                    await until(lambda: host.values(host.alias, historical=False) == [1])
                    alias = host.alias
                    broker.kill()
                await until(lambda: not face.connected)
                for speed in (2, 3, 4):
                    edge.machines.report("pump-1", speed=speed)
                await until(lambda: edge.agent.twin("pump-1").reported["speed"].value == 4)
                broker.start()
                async with listening(broker.url, host):
                    host.send("spBv1.0/plant/NCMD/edge-1", REBIRTH)  # whoever was first
                    await until(lambda: host.values(alias, historical=True)[-3:] == [2, 3, 4])
                    assert host.values(alias, historical=False) == [1]
                    assert host.bd_seqs("NBIRTH")[-1] == 1  # what never reached a broker counts not
            assert host.gaps == 0

    play(story)


def test_a_stop_says_the_death_of_this_session(tmp_path: Path) -> None:
    async def story(edge: Edge) -> None:
        host = Host()
        with Mosquitto(tmp_path / "broker") as broker:
            async with listening(broker.url, host):
                for _ in range(2):
                    async with face_running(broker.url, tmp_path, edge):
                        await until(lambda: host.count("NBIRTH") > host.count("NDEATH"))
                    await until(lambda: host.count("NDEATH") == host.count("NBIRTH"))
            assert host.bd_seqs("NBIRTH") == host.bd_seqs("NDEATH") == [0, 1]

    play(story)


def test_a_loop_of_rebirths_and_garbage_costs_nobody_his_data(tmp_path: Path) -> None:
    async def story(edge: Edge) -> None:
        host = Host()
        with Mosquitto(tmp_path / "broker", options=["max_queued_messages 0"]) as broker:
            async with listening(broker.url, host), face_running(broker.url, tmp_path, edge):
                await until(lambda: host.count("DBIRTH"))
                alias = host.alias
                for turn in range(2000):
                    host.send("spBv1.0/plant/NCMD/edge-1", REBIRTH)
                    host.send("spBv1.0/plant/NCMD/edge-1", b"\xff" * 40)
                    host.send("spBv1.0/plant/DCMD/edge-1/pump-1", b"\xff" * 40)
                    if turn % 10 == 0:
                        edge.machines.report("pump-1", speed=turn)
                        await asyncio.sleep(0.005)
                command = Metric("run", value=True, field=Field.BOOLEAN)
                await until(lambda: _take(host, edge, command))
                await until(lambda: 1990 in _all(host, alias))
                assert set(range(0, 2000, 10)) <= set(_all(host, alias))
                assert host.count("NBIRTH") <= 2 + BOUND // 5
            assert host.gaps == 0

    play(story)


def _take(host: Host, edge: Edge, command: Metric) -> bool:
    """Once the garbage is worked off, a command is taken."""
    if edge.state("run") is None:
        host.send("spBv1.0/plant/DCMD/edge-1/pump-1", encode(Payload(1, (command,))))
    return edge.state("run") is not None


def _all(host: Host, alias: int) -> list[object]:
    born = [m.value for v, p in host.said if v == "DBIRTH" for m in p.metrics if m.alias == alias]
    return [
        *born,
        *host.values(alias, historical=True),
        *host.values(alias, historical=False),
    ]


def test_a_primary_host_that_goes_ends_the_session_and_gets_what_it_missed(
    tmp_path: Path,
) -> None:
    def state(timestamp: int, *, online: bool) -> bytes:
        return json.dumps({"online": online, "timestamp": timestamp}).encode()

    async def story(edge: Edge) -> None:
        host = Host()
        with Mosquitto(tmp_path / "broker") as broker:
            async with (
                listening(broker.url, host),
                face_running(broker.url, tmp_path, edge, primaryHost="scada") as face,
            ):
                assert host.connection is not None
                await until(lambda: face.connected)
                edge.machines.report("pump-1", speed=1)
                await host.connection.publish("spBv1.0/STATE/scada", state(5, online=True))
                await until(lambda: host.values(host.alias, historical=True) == [1])
                await host.connection.publish(
                    "spBv1.0/STATE/scada", state(5, online=False), retain=True
                )
                await until(lambda: host.count("NDEATH") and face.connected)
                before = len(host.said)
                edge.machines.report("pump-1", speed=2)
                await until(lambda: edge.agent.twin("pump-1").reported["speed"].value == 2)
                await host.connection.publish("spBv1.0/STATE/scada", state(9, online=True))
                await until(lambda: host.values(host.alias, historical=True)[-1:] == [2])
                verbs = [verb for verb, _ in host.said[before:]]
                assert verbs[:2] == ["NBIRTH", "DBIRTH"]
                assert host.bd_seqs("NBIRTH") == [0, 1]

    play(story)


def test_the_access_list_of_the_reference_gives_each_what_it_needs(tmp_path: Path) -> None:
    reference = (ROOT / "docs/reference/sparkplug.md").read_text()
    found = re.search(r"```conf\n(.*?)```", reference, re.DOTALL)
    assert found
    acl = found[1].replace("Plant", "plant").splitlines()
    words = {name: name for name in ("edge-1", "scada", "viewer")}

    def url(broker: Mosquitto, user: str) -> str:
        file = tmp_path / user
        file.write_text(user)
        return f"mqtt://{user}@127.0.0.1:{broker.port}?passwordFile={file}&clientId={user}"

    async def story(edge: Edge) -> None:
        host, viewer = Host(), Host()
        with Mosquitto(tmp_path / "broker", users=words, acl=acl) as broker:
            async with (
                listening(url(broker, "scada"), host),
                listening(url(broker, "viewer"), viewer),
                face_running(url(broker, "edge-1"), tmp_path, edge),
            ):
                await until(lambda: host.count("DBIRTH") and viewer.count("DBIRTH"))
                speed = Metric("speed", value=5, field=Field.LONG)
                viewer.send("spBv1.0/plant/DCMD/edge-1/pump-1", encode(Payload(1, (speed,))))
                viewer.send("spBv1.0/plant/NCMD/edge-1", REBIRTH)
                await until(lambda: host.count("NBIRTH") == 2)
                assert edge.state("speed") is None
                host.send("spBv1.0/plant/DCMD/edge-1/pump-1", encode(Payload(1, (speed,))))
                await until(lambda: edge.state("speed") == "applied")

    play(story)


@pytest.mark.parametrize("commands", ["Allow", "Refuse"])
def test_a_command_becomes_what_the_machine_then_reports(tmp_path: Path, commands: str) -> None:
    async def story(edge: Edge) -> None:
        host = Host()
        with Mosquitto(tmp_path / "broker") as broker:
            async with (
                listening(broker.url, host),
                face_running(broker.url, tmp_path, edge, commands=commands),
            ):
                await until(lambda: host.count("DBIRTH"))
                metric = Metric(alias=host.alias, value=7, field=Field.LONG)
                content = encode(Payload(1, (metric,)))
                host.send("spBv1.0/plant/DCMD/edge-1/pump-1", content)
                if commands == "Refuse":
                    await until(lambda: edge.store.disk.audit)
                    assert edge.store.disk.audit[-1].kind == "sparkplug.refused"
                    assert edge.state("speed") is None
                else:
                    await until(lambda: edge.state("speed") == "applied")
                    edge.machines.report("pump-1", speed=7)
                    await until(lambda: host.values(host.alias, historical=False) == [7])

    play(story)


def test_it_is_told_whether_the_broker_is_there(tmp_path: Path) -> None:
    async def story(edge: Edge) -> None:
        gauge = "twinbridge_scada_sparkplug_connected"
        with Mosquitto(tmp_path / "broker") as broker:
            async with face_running(broker.url, tmp_path, edge) as face:
                await until(lambda: face.connected and REGISTRY.get_sample_value(gauge) == 1)
                broker.stop()
                await until(lambda: not face.connected)
                assert REGISTRY.get_sample_value(gauge) == 0

    play(story)
