"""An agent whose drivers are processes of their own: they go, come back, and say things twice."""

from __future__ import annotations

import asyncio

from agent_rig import device, good, running_agent, trip_alarm, until

from twinbridge.core.messages import AlarmChanged, Contact, DesiredState, Outcome
from twinbridge.core.model import DesiredSpec, Quality, Reason
from twinbridge.ports import Actor

ALICE = Actor("alice", "rest")


def test_the_values_of_a_lost_driver_are_bad_and_stay_visible() -> None:
    async def story() -> None:
        async with running_agent() as edge:
            edge.machines.report("pump-1", temperature=71.5, run=True)
            edge.machines.bus.publish(Contact("pump-1", connected=True, at=1))
            await until(lambda: edge.agent.twin("pump-1").connected)
            before = edge.agent.twin("pump-1").reported["temperature"]
            edge.agent.lose(["pump-1", "unknown"], "its driver has ended")
            twin = edge.agent.twin("pump-1")
            sample = twin.reported["temperature"]
            assert not twin.connected
            assert (sample.value, sample.source_time) == (71.5, before.source_time)
            assert (sample.quality, sample.reason) == (Quality.BAD, Reason.COMM_LOST)
            assert "its driver has ended" in sample.detail
            assert twin.message == "its driver has ended"

    asyncio.run(story())


def test_a_driver_that_comes_back_gets_what_still_waits() -> None:
    async def story() -> None:
        async with running_agent() as edge:
            edge.machines.answer = lambda _: None  # it dies with what it was given
            patch = {"speed": DesiredSpec("speed", 900), "start": DesiredSpec("start", True)}
            await edge.agent.desire("pump-1", patch, ALICE)
            await until(lambda: len(edge.machines.desires) == 2)
            edge.agent.resend(["pump-1", "unknown"])
            await until(lambda: len(edge.machines.desires) == 3)
            assert edge.machines.desires[2].property == "speed"
            start = edge.agent.desired.entry("pump-1", "start")
            assert start is not None
            assert start.state == DesiredState.REJECTED  # a pulse is not repeated

    asyncio.run(story())


def test_an_alarm_that_is_told_twice_is_one_event() -> None:
    async def story() -> None:
        async with running_agent() as edge:
            edge.agent.take([AlarmChanged(trip_alarm())])
            last = edge.agent.events.last_id
            edge.agent.take([AlarmChanged(trip_alarm())])
            assert edge.agent.events.last_id == last

    asyncio.run(story())


def test_an_outcome_of_another_life_of_the_store_says_nothing() -> None:
    async def story() -> None:
        async with running_agent() as edge:
            edge.machines.answer = lambda _: None
            version = await edge.agent.desire("pump-1", {"speed": DesiredSpec("speed", 900)}, ALICE)
            old = Outcome("pump-1", "speed", version, DesiredState.APPLIED, "", 1, "another")
            edge.agent.take([old])
            entry = edge.agent.desired.entry("pump-1", "speed")
            assert entry is not None
            assert entry.state == DesiredState.PENDING

    asyncio.run(story())


def test_what_is_written_again_after_a_reconnect_is_a_new_version() -> None:
    async def story() -> None:
        async with running_agent() as edge:
            version = await edge.agent.desire(
                "pump-1", {"setpoint": DesiredSpec("setpoint", 7.5)}, ALICE
            )
            await until(lambda: _state(edge.agent, "setpoint") == DesiredState.APPLIED)
            edge.agent.take([Contact("pump-1", connected=True, at=1)])
            await until(lambda: len(edge.machines.desires) == 2)
            assert [d.version for d in edge.machines.desires] == [version, version + 1]

    asyncio.run(story())


def _state(agent: object, name: str) -> str:
    entry = agent.desired.entry("pump-1", name)  # type: ignore[attr-defined]  # an Agent
    return "" if entry is None else str(entry.state)


def test_what_drivers_say_of_resources_is_shown_beside_the_agents_own() -> None:
    async def story() -> None:
        async with running_agent() as edge:
            await edge.agent.set_plant({"pump-1": device()}, (), {"Device/x": "no such model"})
            edge.agent.note_problems("driver-1", {"Device/pump-1": "unknown field"})
            edge.agent.note_problems("driver-2", {"Device/x": "the driver's words"})
            assert edge.agent.problems == {
                "Device/x": "no such model",
                "Device/pump-1": "unknown field",
            }
            edge.agent.note_problems("driver-1", {})
            assert edge.agent.problems == {"Device/x": "no such model"}
            assert good(1.0).good

    asyncio.run(story())
