import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from agent_rig import trip_alarm
from mosquitto import Mosquitto
from plain_rig import PREFIX, Plant, Scada, device, good, shown, soon

from twinbridge.core.alarm import TripState
from twinbridge.core.messages import Samples
from twinbridge.core.model import SECOND

RESULT = "pump-1/desired/result"


def answers(scada: Scada, topic: str = RESULT) -> list[Any]:
    return [h.content for h in scada.of(topic)]


def speeds(scada: Scada, topic: str) -> list[Any]:
    told = [c["properties"] for c in answers(scada, topic)]
    return [properties["speed"]["value"] for properties in told if "speed" in properties]


def refusals(plant: Plant) -> list[dict[str, object]]:
    return [a.detail for a in plant.edge.store.disk.audit if a.kind == "mqtt.refused"]


@pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])
def test_a_desired_value_is_taken_and_answered_and_what_became_of_it_is_told(
    tmp_path: Path, *, v5: bool
) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with shown(broker.port) as plant, Scada(broker.port, v5=v5) as scada:
                await scada.say("pump-1/desired/set", {"speed": 900, "run": True})
                await soon(lambda: answers(scada) == [{"version": 1}])
                await soon(lambda: plant.edge.state("speed") == "applied")
                await soon(
                    lambda: any(
                        h.content.get("desired", {}).get("speed", {}).get("state") == "applied"
                        for h in scada.of("pump-1/changes")
                    )
                )
                await soon(
                    lambda: (
                        scada.last("pump-1/twin")["desired"].get("speed", {}).get("state")
                        == "applied"
                    )
                )
                records = [r for r in plant.edge.store.disk.audit if r.subject == "pump-1/speed"]
                assert records[0].origin == "mqtt"

    asyncio.run(story())


@pytest.mark.parametrize(
    ("topic", "content", "status", "field"),
    [
        ("pump-1/desired/set", {"speed": 5000}, 422, "speed"),
        ("pump-1/desired/set", {"temperature": 5.0}, 422, "temperature"),
        ("pump-1/desired/set", {"run": {"value": True, "validFor": "soon"}}, 422, "run.validFor"),
        ("pump-1/desired/set", b"\xff\xfe", 422, None),
        ("pump-1/desired/set", b"{" + b" " * 70_000 + b"}", 413, None),
        ("pump-9/desired/set", {"speed": 1}, 404, None),
        ("pump-1/nothing/set", b"1", 404, None),
        ("pump-1/temperature/set", b"1", 404, None),
        ("pump-1/speed/set", b"fast", 422, None),
    ],
)
def test_a_refusal_says_what_is_wrong_and_what_is_allowed(
    tmp_path: Path, topic: str, content: object, status: int, field: str | None
) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with (
                shown(broker.port, propertyTopics=True) as plant,
                Scada(broker.port) as scada,
            ):
                await scada.say(topic, content)
                result = f"{topic.split('/', 1)[0]}/desired/result"
                await soon(lambda: answers(scada, result))
                (said,) = answers(scada, result)
                assert (said["status"], said.get("field")) == (status, field)
                assert said["detail"]
                assert plant.edge.machines.desires == []
                await soon(lambda: refusals(plant))

    asyncio.run(story())


def test_a_value_that_a_trip_holds_is_refused_and_stopping_is_not(tmp_path: Path) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with shown(broker.port) as plant, Scada(broker.port) as scada:
                plant.edge.machines.tell(trip_alarm())
                await soon(lambda: (twin := scada.last("pump-1/twin")) and twin["tripped"])
                await scada.say("pump-1/desired/set", {"run": True})
                await soon(lambda: answers(scada))
                assert answers(scada)[0]["status"] == 409
                assert "reset it first" in answers(scada)[0]["detail"]
                await scada.say("pump-1/desired/set", {"run": False})
                await soon(lambda: answers(scada)[1:] == [{"version": 1}])

    asyncio.run(story())


def test_nothing_is_accepted_that_the_disk_does_not_take(tmp_path: Path) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with shown(broker.port) as plant, Scada(broker.port) as scada:
                plant.edge.store.disk.fault = "disk full"
                await scada.say("pump-1/desired/set", {"speed": 5})
                await soon(lambda: answers(scada))
                assert answers(scada)[0]["status"] == 503

    asyncio.run(story())


def test_with_mqtt_5_the_answer_comes_where_it_was_asked_for(tmp_path: Path) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with shown(broker.port), Scada(broker.port, v5=True) as scada:
                await scada.say(
                    "pump-1/desired/set",
                    {"speed": 7},
                    response="answers/7",
                    correlation=b"\x00seven",
                )
                await soon(lambda: [h for h in scada.heard if h.topic == "answers/7"])
                (answer,) = [h for h in scada.heard if h.topic == "answers/7"]
                assert (answer.content, answer.correlation) == ({"version": 1}, b"\x00seven")
                assert not answers(scada)
                await scada.say("pump-1/desired/set", {"speed": 8}, correlation=b"eight")
                await soon(lambda: answers(scada) == [{"id": "eight", "version": 2}])

    asyncio.run(story())


def test_an_answer_is_never_put_where_it_would_pass_for_something_else(tmp_path: Path) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with shown(broker.port) as plant, Scada(broker.port, v5=True) as scada:
                for count, wrong in enumerate(
                    (f"{PREFIX}/pump-1/desired/set", f"{PREFIX}/pump-1/changes", "$SYS/x"), 1
                ):
                    await scada.say("pump-1/desired/set", {"speed": count}, response=wrong)
                    await soon(lambda count=count: len(answers(scada)) == count)
                assert plant.face.connected
                assert [
                    h
                    for h in scada.heard
                    if h.topic == f"{PREFIX}/pump-1/changes"
                    and b"version" in h.payload
                    and b"desired" not in h.payload
                ] == []

    asyncio.run(story())


def test_a_retained_command_is_dropped_when_it_comes_and_when_it_is_found(tmp_path: Path) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with Scada(broker.port) as scada:
                await scada.say("pump-1/desired/set", {"speed": 1}, retain=True)
                async with shown(broker.port) as plant:
                    await soon(lambda: len(answers(scada)) == 1)
                    await scada.say("pump-1/desired/set", {"speed": 2}, retain=True)
                    await soon(lambda: len(answers(scada)) == 2)
                    await scada.say("pump-1/desired/set", b"", retain=True)  # this clears it
                    await scada.say("pump-1/desired/set", {"speed": 3})
                    await soon(lambda: len(answers(scada)) == 3)
                    assert [a.get("status") for a in answers(scada)] == [422, 422, None]
                    assert "retain=0" in answers(scada)[0]["allowed"]
                    assert [d.value for d in plant.edge.machines.desires] == [3]

    asyncio.run(story())


def test_a_property_is_set_by_a_topic_of_its_own(tmp_path: Path) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with (
                shown(broker.port, propertyTopics=True, payload="Bare") as plant,
                Scada(broker.port) as scada,
            ):
                for name, raw in (("speed", "900"), ("run", "true"), ("label", "auto")):
                    await scada.say(f"pump-1/{name}/set", raw)
                await soon(lambda: len(plant.edge.machines.desires) == 3)
                wished = {d.property: d.value for d in plant.edge.machines.desires}
                assert wished == {"speed": 900, "run": True, "label": "auto"}
                # What is retained on the property's topic is no command to set it.
                plant.edge.machines.report("pump-1", speed=900)
                await soon(lambda: scada.raw("pump-1/speed") == b"900")
                assert len(plant.edge.machines.desires) == 3

    asyncio.run(story())


def test_commands_to_one_device_keep_their_order(tmp_path: Path) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with shown(broker.port) as plant, Scada(broker.port) as scada:
                for speed in range(50):
                    await scada.say("pump-1/desired/set", {"speed": speed}, qos=0)
                await soon(lambda: len(answers(scada)) == 50)
                assert answers(scada) == [{"version": n + 1} for n in range(50)]
                # Of those that wait together the machines are given the newest.
                await soon(lambda: plant.edge.machines.desires[-1].value == 49)
                given = [d.version for d in plant.edge.machines.desires]
                assert given == sorted(given)

    asyncio.run(story())


def test_a_face_that_refuses_commands_hears_none(tmp_path: Path) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with shown(broker.port, commands="Refuse") as plant, Scada(broker.port) as scada:
                await scada.say("pump-1/desired/set", {"speed": 1})
                plant.edge.machines.report("pump-1", speed=5)
                await soon(lambda: scada.of("pump-1/changes"))
                assert plant.edge.machines.asked == []
                assert not answers(scada)

    asyncio.run(story())


def test_garbage_at_full_speed_stops_neither_changes_nor_commands_nor_fills_the_journal(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with (
                shown(broker.port, device(), device("pump-2")) as plant,
                Scada(broker.port, topic=f"{PREFIX}/pump-2/#") as scada,
                Scada(broker.port, topic="none") as vandal,
            ):
                for number in range(5000):
                    raw = (b"\xff", b'{"speed": 99999}', b'{"nothing": 1}', b"[]")[number % 4]
                    vandal.client.publish(f"{PREFIX}/pump-1/desired/set", raw, 0)
                    if number % 500 == 0:
                        plant.edge.machines.bus.publish(
                            Samples("pump-2", (("speed", good(number)),))
                        )
                        await scada.say("pump-2/desired/set", {"speed": number // 10})
                result = "pump-2/desired/result"
                await soon(lambda: len(answers(scada, result)) == 10)
                assert [a["version"] for a in answers(scada, result)] == list(range(1, 11))
                await soon(lambda: plant.edge.machines.desires[-1].value == 450)
                assert {d.device for d in plant.edge.machines.desires} == {"pump-2"}
                await soon(lambda: 4500 in speeds(scada, "pump-2/changes"))
                assert len(refusals(plant)) <= 2

    asyncio.run(story())


def test_a_flood_of_what_a_trip_forbids_is_soon_refused_without_asking(tmp_path: Path) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with shown(broker.port) as plant, Scada(broker.port) as scada:
                plant.edge.machines.tell(trip_alarm())
                await soon(lambda: (twin := scada.last("pump-1/twin")) and twin["tripped"])
                for _ in range(60):
                    await scada.say("pump-1/desired/set", {"run": True}, qos=0)
                await soon(lambda: len(answers(scada)) == 60)
                said = [a["status"] for a in answers(scada)]
                assert said[0] == 409
                assert said[-1] == 429
                journal = [r for r in plant.edge.store.disk.audit if r.kind == "desired.refused"]
                assert len(journal) < 30

    asyncio.run(story())


def test_an_alarm_is_retained_while_it_stands_and_cleared_when_it_is_over(tmp_path: Path) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with shown(broker.port) as plant, Scada(broker.port) as scada:
                topic = "alarms/overheat/pump-1"
                plant.edge.machines.tell(trip_alarm())
                await soon(lambda: scada.last(topic))
                alarm = scada.last(topic)
                assert (alarm["id"], alarm["state"], alarm["node"]) == (
                    "overheat-1",
                    "UnackActive",
                    "edge-1",
                )
                assert alarm["trip"]["state"] == TripState.VERIFIED
                async with Scada(broker.port) as late:
                    await soon(lambda: late.last(topic))
                await scada.say("alarms/overheat-1/ack", {"who": "alice", "comment": "seen"})
                await soon(lambda: answers(scada, "alarms/overheat-1/result") == [{"done": "ack"}])
                await soon(lambda: scada.last(topic)["ackedBy"] == "alice by mqtt")
                await scada.say("alarms/overheat-1/reset", {"who": "alice", "reason": "cooled"})
                await soon(lambda: len(answers(scada, "alarms/overheat-1/result")) == 2)
                assert answers(scada, "alarms/overheat-1/result")[1]["status"] == 409
                standing = plant.edge.machines.alarm
                assert standing is not None
                plant.edge.machines.tell(replace(standing, active=False))
                await scada.say("alarms/overheat-1/reset", {"who": "alice", "reason": "cooled"})
                await soon(lambda: scada.raw(topic) == b"")
                await soon(lambda: not scada.last("pump-1/twin")["tripped"])
                await scada.say("alarms/overheat-1/shelve", {"for": "1h"})
                await soon(lambda: len(answers(scada, "alarms/overheat-1/result")) == 4)
                assert answers(scada, "alarms/overheat-1/result")[-1]["status"] == 404

    asyncio.run(story())


def test_an_alarm_is_shown_again_as_it_is_when_its_shelving_ends(tmp_path: Path) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with shown(broker.port) as plant, Scada(broker.port) as scada:
                until = plant.twins.now() + SECOND // 2
                plant.edge.machines.tell(replace(trip_alarm(), shelved_until=until))
                await soon(lambda: scada.last("alarms/overheat/pump-1")["state"] == "Shelved")
                await soon(lambda: scada.last("alarms/overheat/pump-1")["state"] == "UnackActive")
                assert scada.last("alarms/overheat/pump-1")["shelvedUntil"] is None

    asyncio.run(story())
