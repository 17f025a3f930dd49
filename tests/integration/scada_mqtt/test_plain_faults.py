"""Brokers that die, hang, are cut off or are slow; the agent must not notice."""

import asyncio
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from agent_rig import trip_alarm
from mosquitto import Mosquitto
from plain_rig import Plant, Scada, device, good, shown, soon
from prometheus_client import REGISTRY

from twinbridge.adapters.scada_mqtt import history, outlet
from twinbridge.core.messages import Samples
from twinbridge.core.model import SECOND
from twinbridge.testing.proxy import FaultProxy


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"twinbridge_scada_mqtt_{name}_total", labels) or 0.0


def tell(plant: Plant, name: str, **values: Any) -> None:
    plant.edge.agent.take([Samples(name, tuple((n, good(v)) for n, v in values.items()))])


def told_later(scada: Scada, name: str = "speed") -> list[Any]:
    return [
        row["value"]
        for heard in scada.of("pump-1/history")
        for row in heard.content["properties"].get(name, ())
    ]


def test_after_a_crash_of_the_broker_all_is_shown_again_and_history_told_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "SETTLE", 0.0)
    monkeypatch.setattr(history, "PAGE", 7)

    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with (
                shown(broker.port, propertyTopics=True) as plant,
                Scada(broker.port) as scada,
            ):
                plant.edge.machines.tell(trip_alarm())
                await soon(lambda: scada.last("alarms/overheat/pump-1"))
                broker.kill()
                await soon(lambda: not plant.face.connected)
                for speed in range(40):
                    tell(plant, "pump-1", speed=speed)
                broker.start()
                await soon(lambda: scada.subscriptions == 2)
                await plant.online()
                await soon(lambda: scada.value("pump-1/twin", "speed") == (39, "good"))
                await soon(lambda: set(told_later(scada)) >= set(range(40)))
                late = told_later(scada)
                assert late == sorted(late)
                assert not [h for h in scada.of("pump-1/history") if h.retained]
                async with Scada(broker.port) as new:
                    await soon(lambda: new.last("alarms/overheat/pump-1"))
                    await soon(lambda: new.last("pump-1/speed")["value"] == 39)
                    assert not new.of("pump-1/history")

    asyncio.run(story())


def test_a_face_that_starts_before_its_broker_shows_all_once_it_is_there(tmp_path: Path) -> None:
    async def story() -> None:
        broker = Mosquitto(tmp_path)
        async with shown(broker.port, online=False) as plant:
            tell(plant, "pump-1", speed=7)
            assert not plant.face.connected
            with broker:
                async with Scada(broker.port) as scada:
                    await soon(lambda: scada.value("pump-1/twin", "speed") == (7, "good"))

    asyncio.run(story())


def test_a_broker_that_hangs_is_not_waited_for_and_gets_the_newest_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlet, "FULL", 64 * 1024)
    monkeypatch.setattr(outlet, "ROOM", 16 * 1024)

    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with (
                shown(broker.port, propertyTopics=True) as plant,
                Scada(broker.port) as scada,
            ):
                assert broker._process is not None
                coalesced, text = counted("coalesced_samples"), "x" * 20_000
                broker._process.send_signal(signal.SIGSTOP)
                try:
                    # Beyond what the system's buffers take; then what the face holds is bounded.
                    service = plant.face._service
                    assert service is not None
                    for number in range(1_000_000):
                        tell(plant, "pump-1", speed=number % 1000, label=f"{number} {text}")
                        await asyncio.sleep(0)
                        if service.outlet.full and number % 100 == 0:
                            break
                    assert service.outlet.backlog < 1024 * 1024
                    for last in range(200):
                        tell(plant, "pump-1", speed=last)
                    await asyncio.sleep(0)
                finally:
                    broker._process.send_signal(signal.SIGCONT)
                await soon(lambda: scada.value("pump-1/twin", "speed") == (199, "good"))
                await soon(lambda: scada.last("pump-1/speed")["value"] == 199)
                assert counted("coalesced_samples") > coalesced

    asyncio.run(story())


def test_the_will_says_that_we_are_gone_when_we_are_cut_off(tmp_path: Path) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with (
                Scada(broker.port) as scada,
                FaultProxy("127.0.0.1", broker.port) as proxy,
                shown(proxy.port) as plant,
            ):
                await soon(lambda: scada.raw("status") == b"online")
                proxy.refuse()
                proxy.cut()
                await soon(lambda: scada.raw("status") == b"offline")
                await proxy.listen()
                await plant.online()
                await soon(lambda: scada.raw("status") == b"online")

    asyncio.run(story())


def test_a_device_that_goes_while_the_broker_is_away_leaves_nothing_behind(tmp_path: Path) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path, persistence=True) as broker:
            async with (
                FaultProxy("127.0.0.1", broker.port) as proxy,
                shown(proxy.port, device("gone"), device("stays"), propertyTopics=True) as plant,
            ):
                plant.edge.machines.tell(trip_alarm("gone"))
                async with Scada(broker.port) as scada:
                    await soon(lambda: scada.last("alarms/overheat/gone"))
                    proxy.refuse()
                    proxy.cut()
                    await soon(lambda: not plant.face.connected)
                    await plant.redefine(device("stays"))
                    alarm = plant.edge.machines.alarm
                    assert alarm is not None
                    over = replace(alarm, active=False, acked=True, latched=False)
                    plant.edge.machines.tell(over)
                    await soon(lambda: not plant.twins.alarms())
                    await proxy.listen()
                    await plant.online()
                    for topic in ("gone/twin", "gone/speed", "alarms/overheat/gone"):
                        await soon(lambda topic=topic: scada.raw(topic) == b"")
                    assert scada.last("stays/twin")

    asyncio.run(story())


def test_a_slow_line_gets_the_newest_of_each_property(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlet, "FULL", 8 * 1024)
    monkeypatch.setattr(outlet, "ROOM", 1024)

    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with (
                Scada(broker.port) as scada,
                FaultProxy("127.0.0.1", broker.port) as proxy,
                shown(proxy.port) as plant,
            ):
                for number in range(3000):
                    tell(plant, "pump-1", speed=number, label="x" * 1000)
                    if number % 10 == 0:
                        await asyncio.sleep(0)
                await soon(lambda: scada.value("pump-1/twin", "speed") == (2999, "good"))
                changes = [h.content["properties"] for h in scada.of("pump-1/changes")]
                told = [change["speed"]["value"] for change in changes if "speed" in change]
                assert told == sorted(set(told))
                assert told[-1] == 2999

    asyncio.run(story())


def test_a_pulled_cable_is_noticed_and_nothing_of_it_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "SETTLE", 0.0)

    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with (
                Scada(broker.port) as scada,
                FaultProxy("127.0.0.1", broker.port) as proxy,
                shown(proxy.port) as plant,
            ):
                face = plant.face
                face._broker = replace(face._broker, keepalive=SECOND // 2, timeout=SECOND // 2)
                proxy.cut()
                await soon(lambda: not face.connected)
                await plant.online()
                proxy.faults.half_open = True
                for speed in range(10):
                    tell(plant, "pump-1", speed=speed)
                await soon(lambda: not face.connected)
                await soon(lambda: scada.raw("status") == b"offline")
                for speed in range(10, 20):
                    tell(plant, "pump-1", speed=speed)
                proxy.faults.half_open = False
                proxy.cut()
                await soon(lambda: scada.value("pump-1/twin", "speed") == (19, "good"))
                await soon(lambda: set(told_later(scada)) >= set(range(20)))

    asyncio.run(story())
