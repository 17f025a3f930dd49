"""Brokers that go, stall and come back; clients that send garbage, much of it."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from agent_rig import device, good, until
from kubeedge_rig import NODE, PUMP, Application, running_face
from mosquitto import Mosquitto
from typing_extensions import override

from twinbridge.adapters.scada_kubeedge.metrics import COALESCED, DROPPED, REQUESTS, RESYNCS
from twinbridge.app.agent import Agent
from twinbridge.app.faces import AgentTwins
from twinbridge.core.messages import Samples
from twinbridge.ports import Actor
from twinbridge.testing.fakes import FakeDisk


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker", persistence=True) as running:
        yield running


def total(counter: object) -> float:
    """Over all labels."""
    (family,) = counter.collect()  # type: ignore[attr-defined]  # a counter
    return sum(s.value for s in family.samples if s.name.endswith("_total"))


class SlowTwins(AgentTwins):
    """Takes up what is desired only once it may."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(agent)
        self.asked = asyncio.Event()
        self.may = asyncio.Event()

    @override
    async def desire(self, device: str, patch: Mapping[str, object], actor: Actor) -> int:
        self.asked.set()
        await self.may.wait()
        return await super().desire(device, patch, actor)


def test_after_a_broker_was_away_every_device_is_introduced_as_it_now_is(
    broker: Mosquitto,
) -> None:
    async def scenario() -> None:
        topic = f"{NODE}/membership/updated"
        with Application(broker.port, topic, f"{PUMP}/#", session="app") as app:
            async with running_face(broker.url) as site:
                await app.next(topic)
                broker.stop()
                await until(lambda: not site.face.connected)
                site.edge.machines.report("pump-1", temperature=71.5)
                broker.start()
                again = await app.next(topic, lambda said: "71.5" in str(said))
                await until(lambda: site.face.connected)
                app.ask(f"{PUMP}/twin/get", "look")
                said = await app.answer(f"{PUMP}/twin/get", "look")
        actual = again["added_devices"][0]["twin"]["temperature"]["actual"]
        assert said["twin"]["temperature"]["actual"] == actual

    asyncio.run(scenario())


def test_a_request_that_is_being_answered_outlives_the_broker(broker: Mosquitto) -> None:
    async def scenario() -> None:
        with Application(broker.port) as app:
            async with running_face(broker.url, seen_by=SlowTwins) as site:
                assert isinstance(site.twins, SlowTwins)
                app.expect(PUMP, "set", speed="1200")
                await site.twins.asked.wait()
                broker.kill()
                await until(lambda: not site.face.connected)
                site.twins.may.set()
                await until(lambda: site.edge.state("speed") == "applied")

    asyncio.run(scenario())


def test_a_stop_says_good_bye_to_the_broker(broker: Mosquitto) -> None:
    async def scenario() -> None:
        async with running_face(broker.url):
            pass
        await until(lambda: re.search(r"Client twinbridge\w+ .*disconnected", broker.log))

    asyncio.run(scenario())


def test_a_retained_request_is_dropped_and_journalled(broker: Mosquitto) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        before = DROPPED.labels("retained")._value.get()
        with Application(broker.port, f"{PUMP}/#") as app:
            twin = '{"twin": {"speed": {"expected": {"value": "1200"}}}}'
            app.send(f"{PUMP}/twin/update", twin, retain=True)
            await app.next(f"{PUMP}/twin/update")
            async with running_face(broker.url, disk=disk) as site:
                app.send(f"{PUMP}/twin/update", twin, retain=True)
                app.ask(f"{PUMP}/twin/get", "look")
                await app.answer(f"{PUMP}/twin/get", "look")
                await until(lambda: any(a.kind == "kubeedge.refused" for a in disk.audit))
                assert site.twins.desired("pump-1", "speed") is None
        assert DROPPED.labels("retained")._value.get() - before == 2
        assert app.on(f"{PUMP}/twin/update/result") == []

    asyncio.run(scenario())


def test_a_flood_of_garbage_is_counted_and_stops_nothing(broker: Mosquitto) -> None:
    garbage = (
        (f"{PUMP}/twin/update", b"\xff\xfe{"),
        (f"{PUMP}/twin/update", b"x" * 70_000),
        (f"{PUMP}/twin/update", b'{"twin": {"speed": {"expected": {"value": "99999"}}}}'),
        (f"{PUMP}/twin/get", b"[" * 5_000),
        ("$hw/events/device/no/body/twin/update", b'{"twin": {}}'),
        (f"{NODE}/membership/detail", b"0"),
    )

    async def scenario() -> None:
        disk = FakeDisk()
        before = total(REQUESTS), total(DROPPED)
        document = f"{PUMP}/twin/update/document"
        with (
            Application(broker.port, document, f"{PUMP}/twin/get/result") as app,
            Application(broker.port) as rude,
        ):
            async with running_face(broker.url, disk=disk) as site:
                for n in range(200):
                    for topic, payload in garbage:
                        rude.send(topic, payload)
                    site.edge.machines.report("pump-1", temperature=float(n))
                    await asyncio.sleep(0)
                await app.next(document, lambda said: "199.0" in str(said["twin"]))
                # The broker itself lets go of what is too much for one client.
                await until(lambda: handled(before) > 300)

                def answered() -> bool:
                    app.ask(f"{PUMP}/twin/get", "at last")
                    return any(
                        said["event_id"] == "at last" for said in app.on(f"{PUMP}/twin/get/result")
                    )

                await until(answered)
        assert total(DROPPED) > before[1]
        assert len([a for a in disk.audit if a.kind == "kubeedge.refused"]) <= 2
        assert len([a for a in disk.audit if a.kind == "desired.refused"]) <= 200

    def handled(before: tuple[float, float]) -> float:
        return total(REQUESTS) + total(DROPPED) - sum(before)

    asyncio.run(scenario())


def test_who_floods_one_device_takes_little_from_another(broker: Mosquitto) -> None:
    async def scenario() -> None:
        other = "$hw/events/device/default/pump-2"
        with (
            Application(broker.port, f"{other}/#") as app,
            Application(broker.port) as rude,
        ):
            async with running_face(broker.url, device(), device("pump-2")):
                before = DROPPED.labels("rate")._value.get()
                for _ in range(600):
                    rude.send(f"{PUMP}/twin/get", "{}")
                await until(lambda: DROPPED.labels("rate")._value.get() - before > 400)
                app.ask(f"{other}/twin/get", "look")
                assert "twin" in await app.answer(f"{other}/twin/get", "look")

    asyncio.run(scenario())


def test_a_face_that_fell_behind_reads_everything_anew(broker: Mosquitto) -> None:
    async def scenario() -> None:
        before = total(RESYNCS)
        with Application(broker.port, f"{PUMP}/#") as app:
            async with running_face(broker.url) as site:
                await asyncio.sleep(0)
                changes = [
                    Samples("pump-1", (("temperature", good(float(n), n)),)) for n in range(5000)
                ]
                site.edge.agent.take(changes)
                await app.next(
                    f"{PUMP}/twin/update/document", lambda said: "4999.0" in str(said["twin"])
                )
        assert total(RESYNCS) - before == 1

    asyncio.run(scenario())


def test_a_broker_that_stalls_makes_changes_gather_and_nothing_wait(broker: Mosquitto) -> None:
    async def scenario() -> None:
        names = [f"pump-{n}" for n in range(150)]
        devices = [device(name) for name in names]
        before = total(COALESCED)
        with Application(broker.port, "$hw/events/device/#", f"{NODE}/#") as app:
            async with running_face(broker.url, *devices) as site:
                await until(lambda: len(app.on(f"{NODE}/membership/updated")) == len(names))
                assert broker._process is not None
                broker._process.send_signal(signal.SIGSTOP)
                try:
                    for n in range(100):
                        for name in names:
                            site.edge.machines.report(name, temperature=float(n))
                        await asyncio.sleep(0.005)
                finally:
                    broker._process.send_signal(signal.SIGCONT)
                for name in names:
                    await app.next(
                        f"$hw/events/device/default/{name}/twin/update/document",
                        lambda said: "99.0" in str(said["twin"]["temperature"]["current"]),
                    )
        assert total(COALESCED) > before

    asyncio.run(scenario())
