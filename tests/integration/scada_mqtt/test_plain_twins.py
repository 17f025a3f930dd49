import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from mosquitto import Mosquitto
from plain_rig import PREFIX, Plant, Scada, device, good, shown, soon
from prometheus_client import REGISTRY

from twinbridge.core.messages import Samples
from twinbridge.core.model import MILLISECOND, Quality, Reason, Sample

AT = 1_700_000_000_000 * MILLISECOND


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"twinbridge_scada_mqtt_{name}_total", labels) or 0.0


def speeds(scada: Scada) -> list[int]:
    told = [h.content["properties"] for h in scada.of("pump-1/changes")]
    return [properties["speed"]["value"] for properties in told if "speed" in properties]


def tell(plant: Plant, name: str = "pump-1", **samples: Sample) -> None:
    plant.edge.machines.bus.publish(Samples(name, tuple(samples.items())))


@pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])
def test_a_change_is_told_at_once_and_the_twin_is_retained(tmp_path: Path, *, v5: bool) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with shown(broker.port) as plant, Scada(broker.port, v5=v5) as scada:
                tell(plant, temperature=good(71.5, at=AT), speed=good(900, at=AT + MILLISECOND))
                await soon(lambda: scada.of("pump-1/changes"))
                (change,) = scada.of("pump-1/changes")
                assert not change.retained
                assert change.content["properties"] == {
                    "temperature": {
                        "value": 71.5,
                        "quality": "good",
                        "timestamp": AT // MILLISECOND,
                    },
                    "speed": {"value": 900, "quality": "good", "timestamp": AT // MILLISECOND + 1},
                }
                await soon(lambda: scada.value("pump-1/twin", "temperature") == (71.5, "good"))
                async with Scada(broker.port, v5=v5) as late:
                    await soon(lambda: late.of("pump-1/twin"))
                    (twin,) = late.of("pump-1/twin")
                    assert twin.retained
                    assert twin.content["node"] == "edge-1"
                    assert twin.content["properties"]["temperature"]["unit"] == "Cel"
                    assert twin.content["properties"]["run"]["quality"] == "bad"
                    assert "start" not in twin.content["properties"]  # it cannot be read
                    assert not late.of("pump-1/changes")

    asyncio.run(story())


def test_only_a_quality_that_changes_shows_a_twin_before_its_time(tmp_path: Path) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with (
                Scada(broker.port) as scada,
                shown(broker.port, twinInterval="1h") as plant,
            ):
                await soon(lambda: scada.of("pump-1/twin"))
                tell(plant, temperature=good(20.0))
                await soon(lambda: scada.value("pump-1/twin", "temperature") == (20.0, "good"))
                shown_before = len(scada.of("pump-1/twin"))
                for value in (21.0, 22.0, 23.0):
                    tell(plant, temperature=good(value))
                    await asyncio.sleep(0)
                await soon(
                    lambda: scada.last("pump-1/changes")["properties"]["temperature"]["value"] == 23
                )
                assert len(scada.of("pump-1/twin")) == shown_before
                plant.edge.machines.contact("pump-1", connected=True)
                await soon(lambda: (scada.last("pump-1/twin"))["connected"])

    asyncio.run(story())


def test_a_quality_that_flutters_does_not_flood_the_broker_and_ends_right(tmp_path: Path) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with Scada(broker.port) as scada, shown(broker.port, twinInterval="1h") as plant:
                for number in range(1000):
                    quality = (Quality.GOOD, Quality.UNCERTAIN)[number % 2]
                    tell(plant, speed=Sample(number, quality, Reason.NONE, AT, number))
                    await asyncio.sleep(0)
                tell(plant, speed=Sample(1000, Quality.BAD, Reason.STALE, AT, 1000))
                await soon(lambda: scada.value("pump-1/twin", "speed") == (1000, "bad"))
                assert len(scada.of("pump-1/twin")) < 100

    asyncio.run(story())


def test_a_lost_device_is_bad_everywhere_with_its_last_value_and_time(tmp_path: Path) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with (
                Scada(broker.port) as scada,
                shown(broker.port, twinInterval="1h", propertyTopics=True) as plant,
            ):
                tell(plant, temperature=good(71.5, at=AT))
                await soon(lambda: scada.value("pump-1/twin", "temperature") == (71.5, "good"))
                lost = Sample(71.5, Quality.BAD, Reason.COMM_LOST, AT, 2)
                tell(plant, temperature=lost)
                await soon(lambda: scada.value("pump-1/twin", "temperature") == (71.5, "bad"))
                said = {
                    "value": 71.5,
                    "quality": "bad",
                    "timestamp": AT // MILLISECOND,
                    "reason": "comm_lost",
                    "unit": "Cel",
                }
                assert scada.last("pump-1/twin")["properties"]["temperature"] == said
                await soon(lambda: scada.last("pump-1/temperature") == said)

    asyncio.run(story())


def test_bare_values_suit_telegraf_and_are_withdrawn_while_they_are_bad(tmp_path: Path) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with (
                Scada(broker.port) as scada,
                shown(broker.port, propertyTopics=True, payload="Bare") as plant,
            ):
                tell(plant, temperature=good(71.5), run=good(True), label=good("auto"))
                await soon(lambda: scada.raw("pump-1/label") == b"auto")
                assert [scada.raw(f"pump-1/{n}") for n in ("temperature", "run", "label")] == [
                    b"71.5",
                    b"true",
                    b"auto",
                ]
                tell(plant, temperature=Sample(71.5, Quality.BAD, Reason.COMM_LOST, AT, 2))
                await soon(lambda: scada.raw("pump-1/temperature") == b"")
                async with Scada(broker.port) as late:
                    await soon(lambda: late.of("pump-1/run"))
                    assert not late.of("pump-1/temperature")

    asyncio.run(story())


def test_a_device_that_goes_leaves_nothing_behind(tmp_path: Path) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            gone, stays = device("gone"), device("stays")
            async with (
                Scada(broker.port) as scada,
                shown(broker.port, gone, stays, propertyTopics=True) as plant,
            ):
                await soon(lambda: scada.of("gone/speed"))
                await plant.redefine(stays)
                await soon(lambda: scada.raw("gone/twin") == b"")
                await soon(lambda: scada.raw("gone/speed") == b"")
                tell(plant, "gone", speed=good(3))
                tell(plant, "stays", speed=good(4))
                await soon(lambda: scada.of("stays/changes"))
                assert not scada.of("gone/changes")
                async with Scada(broker.port) as late:
                    await soon(lambda: late.of("stays/speed"))
                    assert not [h for h in late.heard if "/gone/" in h.topic]

    asyncio.run(story())


def test_a_device_that_moves_is_shown_at_its_new_place_alone(tmp_path: Path) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            here = device(labels=(("line", "one"),))
            async with (
                Scada(broker.port) as scada,
                shown(broker.port, here, deviceTopic="{line}/{device}") as plant,
            ):
                await soon(lambda: scada.of("one/pump-1/twin"))
                await plant.redefine(replace(here, labels=(("line", "two"),), digest="d2"))
                await soon(lambda: scada.of("two/pump-1/twin"))
                await soon(lambda: scada.raw("one/pump-1/twin") == b"")

    asyncio.run(story())


def test_what_a_former_run_left_is_cleared_and_what_others_keep_is_not(tmp_path: Path) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with shown(broker.port, device("gone"), device(), propertyTopics=True):
                pass
            async with Scada(broker.port) as other:
                await other.say("theirs/twin", {"node": "edge-2"}, retain=True)
                await other.say("theirs/speed", 3, retain=True)
            async with shown(broker.port), Scada(broker.port) as scada:
                await soon(lambda: scada.of("theirs/speed"))
                kept = {h.topic.removeprefix(f"{PREFIX}/") for h in scada.heard if h.retained}
                assert kept == {"status", "pump-1/twin", "theirs/twin", "theirs/speed"}

    asyncio.run(story())


def test_of_two_devices_with_one_topic_the_second_is_not_shown(tmp_path: Path) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            first = device("b-c", labels=(("site", "a"),))
            second = device("c", labels=(("site", "a-b"),))
            async with (
                Scada(broker.port) as scada,
                shown(broker.port, first, second, deviceTopic="{site}-{device}") as plant,
            ):
                tell(plant, "c", speed=good(3))
                tell(plant, "b-c", speed=good(4))
                await soon(lambda: scada.of("a-b-c/changes"))
                assert [h.content["device"] for h in scada.of("a-b-c/twin")][-1] == "b-c"
                (change,) = scada.of("a-b-c/changes")
                assert change.content["properties"]["speed"]["value"] == 4
                assert REGISTRY.get_sample_value("twinbridge_scada_mqtt_hidden") == 1
                assert "b-c" in plant.face.problems["c"]
                await plant.redefine(second)
                await soon(lambda: scada.last("a-b-c/twin")["device"] == "c")

    asyncio.run(story())


def test_who_falls_behind_is_told_the_newest_and_never_an_older_value_after_it(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with Scada(broker.port) as scada, shown(broker.port) as plant:
                resyncs, value = counted("resyncs"), 0
                for burst in (10_000, 300, 5000, 20, 6000):  # more than is kept for who follows
                    for _ in range(burst):
                        value += 1
                        plant.edge.agent.take([Samples("pump-1", (("speed", good(value)),))])
                    await asyncio.sleep(0)
                await soon(lambda: speeds(scada)[-1] == value)
                assert speeds(scada) == sorted(set(speeds(scada)))
                assert counted("resyncs") > resyncs
                await soon(lambda: scada.value("pump-1/twin", "speed") == (value, "good"))

    asyncio.run(story())


def test_status_is_online_while_all_that_is_retained_is_true(tmp_path: Path) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with Scada(broker.port) as scada:
                async with shown(broker.port, device(), device("pump-2")):
                    await soon(lambda: scada.of("status"))
                    topics = [h.topic.removeprefix(f"{PREFIX}/") for h in scada.heard]
                    assert topics.index("status") > topics.index("pump-2/twin")
                await soon(
                    lambda: [h.payload for h in scada.of("status")] == [b"online", b"offline"]
                )
            async with Scada(broker.port) as late:
                await soon(lambda: late.of("status"))
                assert late.of("status")[0].payload == b"offline"

    asyncio.run(story())


def test_a_face_that_has_stopped_is_not_connected_and_can_be_run_again(tmp_path: Path) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with shown(broker.port) as plant:
                assert plant.face.connected
                await plant.stop()
                assert not plant.face.connected
                plant.task = asyncio.create_task(plant.face.run())
                async with Scada(broker.port) as scada:
                    await plant.online()
                    await scada.say("pump-1/desired/set", {"speed": 4})
                    await soon(lambda: scada.last("pump-1/desired/result") == {"version": 1})

    asyncio.run(story())
