"""What an application of KubeEdge's finds on its topics."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from agent_rig import device, good, trip_alarm, until
from kubeedge_rig import NODE, PUMP, Application, running_face
from mosquitto import Mosquitto

from twinbridge.core.messages import DesiredState, Outcome, Samples
from twinbridge.core.model import Quality, Reason
from twinbridge.testing.fakes import FakeDisk

EVERYTHING = ("$hw/events/device/#", "$hw/events/node/#")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as running:
        yield running


def test_membership_get_lists_the_devices_as_kubeedge_does(broker: Mosquitto) -> None:
    async def scenario() -> None:
        with Application(broker.port, *EVERYTHING) as app:
            async with running_face(broker.url):
                app.ask(f"{NODE}/membership/get", "who")
                said = await app.answer(f"{NODE}/membership/get", "who")
        (pump,) = said["devices"]
        assert (pump["id"], pump["name"], pump["state"]) == ("default/pump-1", "pump-1", "unknown")
        assert pump["attributes"]["line"] == {
            "value": "bottling",
            "optional": True,
            "metadata": {"type": "string"},
        }
        assert "twin" not in pump

    asyncio.run(scenario())


def test_membership_detail_adds_the_twins(broker: Mosquitto) -> None:
    async def scenario() -> None:
        with Application(broker.port, *EVERYTHING) as app:
            async with running_face(broker.url) as site:
                site.edge.machines.report("pump-1", temperature=71.5)
                await until(lambda: site.twins.twin("pump-1").samples["temperature"].good)
                app.ask(f"{NODE}/membership/detail", "all")
                said = await app.answer(f"{NODE}/membership/detail", "all")
        (pump,) = said["devices"]
        assert pump["twin"]["temperature"]["actual"]["value"] == "71.5"

    asyncio.run(scenario())


def test_twin_get_answers_every_property_with_values_as_strings(broker: Mosquitto) -> None:
    async def scenario() -> None:
        with Application(broker.port, f"{PUMP}/twin/get/result") as app:
            async with running_face(broker.url) as site:
                at = 1_700_000_000_123_456_789
                samples = (("temperature", good(71.5, at=at)), ("run", good(value=True, at=at)))
                site.edge.agent.take([Samples("pump-1", samples)])
                app.ask(f"{PUMP}/twin/get", "look")
                said = await app.answer(f"{PUMP}/twin/get", "look")
        assert said["twin"]["temperature"] == {
            "actual": {"value": "71.5", "metadata": {"timestamp": 1_700_000_000_123}},
            "optional": True,
            "metadata": {"type": "float"},
        }
        assert said["twin"]["run"]["actual"]["value"] == "true"
        assert said["twin"]["run"]["metadata"] == {"type": "boolean"}
        assert said["twin"]["speed"] == {"optional": True, "metadata": {"type": "int"}}
        assert not any("version" in name for twin in said["twin"].values() for name in twin)

    asyncio.run(scenario())


def test_a_reported_change_is_a_document_with_what_was_and_what_is(broker: Mosquitto) -> None:
    async def scenario() -> None:
        topic = f"{PUMP}/twin/update/document"
        with Application(broker.port, *EVERYTHING) as app:
            async with running_face(broker.url) as site:
                await app.next(f"{NODE}/membership/updated")
                site.edge.machines.report("pump-1", temperature=71.5)
                first = await app.next(topic)
                site.edge.machines.report("pump-1", temperature=72.0)
                second = await app.next(topic, lambda said: said["event_id"] != first["event_id"])
        assert list(first["twin"]) == ["temperature"]
        assert "actual" not in first["twin"]["temperature"]["last"]
        assert first["twin"]["temperature"]["current"]["actual"]["value"] == "71.5"
        assert second["twin"]["temperature"]["last"] == first["twin"]["temperature"]["current"]
        assert second["twin"]["temperature"]["current"]["actual"]["value"] == "72.0"
        assert {(heard.qos, heard.retained) for heard in app.heard} == {(1, False)}

    asyncio.run(scenario())


def test_a_value_that_is_lost_keeps_its_time_and_says_its_quality(broker: Mosquitto) -> None:
    async def scenario() -> None:
        with Application(broker.port, *EVERYTHING) as app:
            async with running_face(broker.url) as site:
                sample = good(71.5, at=1_700_000_000_000_000_000)
                site.edge.agent.take([Samples("pump-1", (("temperature", sample),))])
                lost = sample._replace(quality=Quality.BAD, reason=Reason.COMM_LOST)
                site.edge.agent.take([Samples("pump-1", (("temperature", lost),))])
                app.ask(f"{PUMP}/twin/get", "look")
                said = await app.answer(f"{PUMP}/twin/get", "look")
        assert said["twin"]["temperature"]["actual"] == {
            "value": "71.5",
            "metadata": {
                "timestamp": 1_700_000_000_000,
                "quality": "bad",
                "reason": "comm_lost",
            },
        }

    asyncio.run(scenario())


def test_an_expected_value_is_written_and_told_step_by_step(broker: Mosquitto) -> None:
    async def scenario() -> None:
        with Application(broker.port, f"{PUMP}/#", f"{NODE}/#") as app:
            async with running_face(broker.url) as site:
                site.edge.machines.answer = lambda _: None
                site.edge.machines.report("pump-1", speed=900)
                await app.next(f"{PUMP}/twin/update/document")
                app.expect(PUMP, "faster", speed="1200")
                result = await app.answer(f"{PUMP}/twin/update", "faster")
                document = await app.next(
                    f"{PUMP}/twin/update/document", lambda said: said["event_id"] == "faster"
                )
                delta = await app.next(f"{PUMP}/twin/update/delta")
                (desire,) = site.edge.machines.desires
                applied = DesiredState.APPLIED
                outcome = Outcome("pump-1", "speed", desire.version, applied, "", 0)
                site.edge.machines.bus.publish(outcome)
                site.edge.machines.report("pump-1", speed=1200)
                reached = await app.next(
                    f"{PUMP}/twin/update/document",
                    lambda said: said["twin"]["speed"]["current"]["actual"]["value"] == "1200",
                )
                deltas = len(app.on(f"{PUMP}/twin/update/delta"))
        assert (desire.property, desire.value) == ("speed", 1200)
        assert "code" not in result
        assert result["twin"]["speed"]["expected"]["value"] == "1200"
        assert result["twin"]["speed"]["metadata"] == {"type": "int"}
        assert "actual" not in result["twin"]["speed"]
        assert document["twin"]["speed"]["current"]["expected"]["metadata"]["state"] == "pending"
        assert delta["delta"] == {"speed": "1200"}
        assert delta["twin"]["speed"]["actual"]["value"] == "900"
        topics = [heard.topic.removeprefix(f"{PUMP}/twin/update/") for heard in app.heard]
        asked = topics.index("result")
        assert topics[asked : asked + 3] == ["result", "document", "delta"]
        assert reached["twin"]["speed"]["current"]["expected"]["value"] == "1200"
        assert deltas == 1

    asyncio.run(scenario())


def test_null_withdraws_what_was_expected(broker: Mosquitto) -> None:
    async def scenario() -> None:
        with Application(broker.port, *EVERYTHING) as app:
            async with running_face(broker.url) as site:
                app.expect(PUMP, "set", speed="1200")
                await app.answer(f"{PUMP}/twin/update", "set")
                app.ask(f"{PUMP}/twin/update", "never mind", twin={"speed": None})
                result = await app.answer(f"{PUMP}/twin/update", "never mind")
                assert site.twins.desired("pump-1", "speed") is None
                app.ask(f"{PUMP}/twin/get", "look")
                said = await app.answer(f"{PUMP}/twin/get", "look")
        assert result["twin"] == {"speed": None}
        assert "expected" not in said["twin"]["speed"]

    asyncio.run(scenario())


def test_what_the_machine_refuses_says_so_and_is_no_difference_any_more(
    broker: Mosquitto,
) -> None:
    async def scenario() -> None:
        topic = f"{PUMP}/twin/update/document"
        with Application(broker.port, *EVERYTHING) as app:
            async with running_face(broker.url) as site:
                site.edge.machines.answer = lambda _: (DesiredState.REJECTED, "locked at the panel")
                app.expect(PUMP, "set", speed="1200")

                def rejected(said: dict[str, dict[str, dict[str, dict[str, object]]]]) -> object:
                    expected = said["twin"]["speed"]["current"]["expected"]
                    return "rejected" in str(expected)

                said = await app.next(topic, rejected)
                site.edge.machines.report("pump-1", speed=900)
                await app.next(topic, lambda s: "900" in str(s["twin"]["speed"]["current"]))
                deltas = app.on(f"{PUMP}/twin/update/delta")
        metadata = said["twin"]["speed"]["current"]["expected"]["metadata"]
        assert metadata["message"] == "locked at the panel"
        assert len(deltas) <= 1  # the one while it was pending

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("name", "value", "code", "why"),
    [
        ("speed", "fast", 400, "a whole number"),
        ("speed", "12.5", 400, "a whole number"),
        ("speed", "9000", 400, "0 to 1500"),
        ("run", "1", 400, "true or false"),
        ("temperature", "20", 400, "read-only"),
        ("setpoint", "NaN", 400, "a number"),
        ("setpoint", "1e999", 400, "no number that a machine can be set to"),
        ("colour", "red", 404, "no property"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_code_and_reason(
    broker: Mosquitto, name: str, value: str, code: int, why: str
) -> None:
    async def scenario() -> None:
        with Application(broker.port, *EVERYTHING) as app:
            async with running_face(broker.url) as site:
                app.expect(PUMP, "set", **{name: value, "label": "half"})
                said = await app.answer(f"{PUMP}/twin/update", "set")
                assert site.twins.desired("pump-1", "label") is None  # nothing is half applied
        assert said["code"] == code
        assert why in said["reason"]
        assert "twin" not in said

    asyncio.run(scenario())


def test_an_unknown_device_is_404_whatever_is_asked_of_it(broker: Mosquitto) -> None:
    async def scenario() -> None:
        with Application(broker.port, *EVERYTHING) as app:
            async with running_face(broker.url):
                for device_id in ("default/nobody", "other/pump-1"):
                    topic = f"$hw/events/device/{device_id}"
                    app.expect(topic, "set", speed="1")
                    app.ask(f"{topic}/twin/get", "get")
                    app.ask(f"{topic}/state/update", "state", state="online")
                    for verb, event_id in (
                        ("twin/update", "set"),
                        ("twin/get", "get"),
                        ("state/update", "state"),
                    ):
                        said = await app.answer(f"{topic}/{verb}", event_id)
                        assert said["code"] == 404
                        assert device_id in said["reason"]

    asyncio.run(scenario())


def test_what_a_standing_trip_holds_is_409(broker: Mosquitto) -> None:
    async def scenario() -> None:
        with Application(broker.port, *EVERYTHING) as app:
            async with running_face(broker.url) as site:
                site.edge.machines.tell(trip_alarm())
                await until(site.twins.alarms)
                app.expect(PUMP, "start", run="true")
                said = await app.answer(f"{PUMP}/twin/update", "start")
        assert said["code"] == 409
        assert "overheat" in said["reason"]

    asyncio.run(scenario())


def test_a_disk_that_refuses_is_500_and_nothing_is_accepted(broker: Mosquitto) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        with Application(broker.port, *EVERYTHING) as app:
            async with running_face(broker.url, disk=disk) as site:
                disk.fault = "disk full"
                app.expect(PUMP, "set", speed="1")
                said = await app.answer(f"{PUMP}/twin/update", "set")
                assert site.twins.desired("pump-1", "speed") is None
        assert said["code"] == 500
        assert "disk full" in said["reason"]

    asyncio.run(scenario())


def test_commands_may_be_refused_and_reading_goes_on(broker: Mosquitto) -> None:
    async def scenario() -> None:
        with Application(broker.port, *EVERYTHING) as app:
            async with running_face(broker.url, commands="Refuse") as site:
                app.expect(PUMP, "set", speed="1")
                said = await app.answer(f"{PUMP}/twin/update", "set")
                assert said["code"] == 400
                assert site.edge.machines.desires == []
                app.ask(f"{PUMP}/twin/get", "look")
                assert "twin" in await app.answer(f"{PUMP}/twin/get", "look")

    asyncio.run(scenario())


@pytest.mark.parametrize("payload", ["", "speed", "[]", '{"twin": 1}', '{"event_id": 7}'])
def test_what_cannot_be_read_is_400_also_where_kubeedge_says_it(
    broker: Mosquitto, payload: str
) -> None:
    async def scenario() -> None:
        with Application(broker.port, *EVERYTHING) as app:
            async with running_face(broker.url):
                app.send(f"{PUMP}/twin/update", payload)
                said = await app.next(f"{PUMP}/twin/update/result")
                elsewhere = await app.next("$hw/events/device//twin/update/result")
        assert said == elsewhere
        assert (said["event_id"], said["code"]) == ("", 400)

    asyncio.run(scenario())


def test_applications_of_older_releases_use_the_name_alone(broker: Mosquitto) -> None:
    async def scenario() -> None:
        topic = "$hw/events/device/pump-1"
        with Application(broker.port, *EVERYTHING) as app:
            async with running_face(broker.url, deviceIds="Name") as site:
                added = await app.next(f"{NODE}/membership/updated")
                app.expect(topic, "set", speed="1200")
                assert "code" not in await app.answer(f"{topic}/twin/update", "set")
                await app.next(f"{topic}/twin/update/document")
                assert [desire.value for desire in site.edge.machines.desires] == [1200]
        assert added["added_devices"][0]["id"] == "pump-1"

    asyncio.run(scenario())


def test_devices_that_come_change_and_go_are_told(broker: Mosquitto) -> None:
    async def scenario() -> None:
        topic = f"{NODE}/membership/updated"
        with Application(broker.port, *EVERYTHING) as app:
            async with running_face(broker.url) as site:
                first = await app.next(topic)
                agent = site.edge.agent
                moved = device(digest="d2", labels=(("line", "filling"), ("site", "north")))
                slim = replace(moved, points=moved.points[:3])
                await agent.set_plant({"pump-1": slim, "pump-2": device("pump-2")}, ())
                second = await app.next(topic, lambda said: "pump-2" in str(said))
                updated = await app.next(f"{PUMP}/updated")
                document = await app.next(f"{PUMP}/twin/update/document")
                await agent.set_plant({"pump-2": device("pump-2")}, ())
                gone = await app.next(topic, lambda said: said["removed_devices"])
        assert first["removed_devices"] is None
        (added,) = second["added_devices"]
        assert added["id"] == "default/pump-2"
        assert added["twin"]["speed"] == {"optional": True, "metadata": {"type": "int"}}
        assert updated["attributes"]["line"]["value"] == "filling"
        assert set(updated["attributes"]) == {"line", "site"}
        assert document["twin"]["setpoint"]["current"] is None
        assert gone["added_devices"] is None
        assert gone["removed_devices"] == [{"id": "default/pump-1", "name": "pump-1"}]

    asyncio.run(scenario())


def test_the_state_follows_the_contact(broker: Mosquitto) -> None:
    async def scenario() -> None:
        topic = f"{PUMP}/state/update/result"
        with Application(broker.port, *EVERYTHING) as app:
            async with running_face(broker.url) as site:
                await app.next(f"{NODE}/membership/updated")
                site.edge.machines.contact("pump-1", connected=True)
                online = await app.next(topic)
                site.edge.machines.contact("pump-1", connected=False)
                offline = await app.next(topic, lambda said: said["device"]["state"] == "offline")
        assert online["device"]["name"] == "pump-1"
        assert online["device"]["state"] == "online"
        assert online["device"]["lastOnlineTime"] == offline["device"]["lastOnlineTime"]

    asyncio.run(scenario())


def test_a_mapper_that_reports_for_a_device_of_ours_is_told_that_it_must_not(
    broker: Mosquitto,
) -> None:
    """KubeEdge's mapper framework tells actual and expected together."""

    async def scenario() -> None:
        with Application(broker.port, *EVERYTHING) as mapper:
            async with running_face(broker.url) as site:
                report = {"actual": {"value": "1"}, "expected": {"value": "1"}}
                twin = {"speed": {**report, "metadata": {"type": "int"}}}
                mapper.ask(f"{PUMP}/twin/update", "report", twin=twin)
                said = await mapper.answer(f"{PUMP}/twin/update", "report")
                assert site.twins.twin("pump-1").samples["speed"].value is None
                assert site.edge.machines.desires == []
        assert said["code"] == 400
        assert "read from the device itself" in said["reason"]

    asyncio.run(scenario())


def test_a_mapper_that_claims_another_state_hears_the_true_one(broker: Mosquitto) -> None:
    async def scenario() -> None:
        with Application(broker.port, *EVERYTHING) as mapper:
            async with running_face(broker.url) as site:
                site.edge.machines.contact("pump-1", connected=True)
                await mapper.next(f"{PUMP}/state/update/result")
                mapper.ask(f"{PUMP}/state/update", "same", state="OK")
                same = await mapper.answer(f"{PUMP}/state/update", "same")
                mapper.ask(f"{PUMP}/state/update", "other", state="offline")
                other = await mapper.answer(f"{PUMP}/state/update", "other")
        assert same["device"]["state"] == "online"
        assert other["code"] == 409
        assert "online" in other["reason"]

    asyncio.run(scenario())
