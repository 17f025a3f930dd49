"""The access list of docs/how-to/mosquitto-acl.md, at a mosquitto that keeps it."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from agent_rig import trip_alarm
from mosquitto import Mosquitto
from plain_rig import PREFIX, Plant, Scada, shown, soon

from twinbridge.adapters.scada_mqtt import leftovers

DOCUMENT = Path(__file__).parents[3] / "docs/how-to/mosquitto-acl.md"
USERS = {name: f"{name}-word" for name in ("edge-1", "viewer", "operator", "panel-pump-1")}


def documented() -> list[str]:
    found = re.search(r"<!-- acl -->\n```conf\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found is not None
    return found[1].splitlines()


@asynccontextmanager
async def guarded(tmp_path: Path, *more: str) -> AsyncIterator[tuple[Mosquitto, Plant]]:
    password = tmp_path / "password"
    password.write_text(USERS["edge-1"])
    with Mosquitto(tmp_path / "broker", users=USERS, acl=[*documented(), *more]) as broker:
        url = f"mqtt://edge-1@127.0.0.1:{broker.port}?passwordFile={password}"
        async with shown(broker.port, broker=url) as plant:
            yield broker, plant


def test_a_viewer_sees_all_and_its_commands_never_arrive(tmp_path: Path) -> None:
    async def story() -> None:
        async with (
            guarded(tmp_path) as (broker, plant),
            Scada(broker.port, user="viewer") as viewer,
            Scada(broker.port, user="operator") as operator,
        ):
            plant.edge.machines.tell(trip_alarm())
            await soon(lambda: viewer.last("alarms/overheat/pump-1"))
            await soon(lambda: viewer.last("pump-1/twin"))
            await viewer.say("pump-1/desired/set", {"speed": 1})
            await viewer.say("alarms/overheat-1/ack", {"who": "eve"})
            await viewer.say("pump-1/twin", {"node": "edge-1"})
            # The broker keeps their order: once the operator's has come, the viewer's never will.
            await operator.say("pump-1/desired/set", {"speed": 2})
            await soon(lambda: viewer.last("pump-1/desired/result"))
            assert [d.value for d in plant.edge.machines.desires] == [2]
            assert [h for h in viewer.of("pump-1/twin") if "properties" not in h.content] == []
            assert not plant.edge.machines.alarm or not plant.edge.machines.alarm.acked
            await operator.say("alarms/overheat-1/ack", {"who": "bob"})
            await soon(
                lambda: (
                    (viewer.last("alarms/overheat/pump-1") or {}).get("ackedBy") == "bob by mqtt"
                )
            )

    asyncio.run(story())


def test_an_operator_may_be_denied_the_release_of_trips(tmp_path: Path) -> None:
    async def story() -> None:
        denied = ("user operator", "topic deny twinbridge/v1/+/alarms/+/reset")
        async with (
            guarded(tmp_path, *denied) as (broker, plant),
            Scada(broker.port, user="operator") as operator,
        ):
            plant.edge.machines.tell(trip_alarm())
            await soon(lambda: operator.last("alarms/overheat/pump-1"))
            await operator.say("alarms/overheat-1/reset", {"who": "bob", "reason": "cold"})
            await operator.say("alarms/overheat-1/ack", {"who": "bob"})
            await soon(lambda: operator.last("alarms/overheat/pump-1")["ackedBy"] == "bob by mqtt")
            assert [h.content for h in operator.of("alarms/overheat-1/result")] == [{"done": "ack"}]

    asyncio.run(story())


def test_a_panel_sees_and_moves_its_own_machine_alone(tmp_path: Path) -> None:
    async def story() -> None:
        async with (
            guarded(tmp_path) as (broker, plant),
            Scada(broker.port, user="panel-pump-1") as panel,
        ):
            plant.edge.machines.tell(trip_alarm())
            await panel.say("alarms/overheat-1/ack", {})
            await panel.say("pump-1/desired/set", {"speed": 2})
            await soon(lambda: panel.last("pump-1/desired/result") == {"version": 1})
            assert {h.topic.removeprefix(f"{PREFIX}/").split("/")[0] for h in panel.heard} == {
                "pump-1",
                "status",
            }
            assert plant.edge.machines.alarm is not None
            assert not plant.edge.machines.alarm.acked

    asyncio.run(story())


def test_a_face_that_may_not_look_or_hear_still_shows_the_twins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "SECONDS", 0.2)

    async def story() -> None:
        acl = ["user edge-1", f"topic write {PREFIX}/#", "user viewer", "topic read #"]
        password = tmp_path / "password"
        password.write_text(USERS["edge-1"])
        with Mosquitto(tmp_path / "broker", users=USERS, acl=acl) as broker:
            url = f"mqtt://edge-1@127.0.0.1:{broker.port}?passwordFile={password}"
            async with (
                Scada(broker.port, user="viewer") as viewer,
                shown(broker.port, broker=url) as plant,
            ):
                plant.edge.machines.report("pump-1", speed=5)
                await soon(lambda: viewer.last("pump-1/changes"))

    asyncio.run(story())
