"""A trip was reset: a start is a command that was given after that, and nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from agent_rig import Edge, device, running_agent, trip_alarm, until

from twinbridge.app.wishes import DOUBT, FOREVER
from twinbridge.core.model import SECOND, DesiredSpec, DeviceSpec, Value
from twinbridge.ports import Actor
from twinbridge.testing.fakes import FakeDisk

ALICE = Actor("alice", "rest", "127.0.0.1")
RUN = DesiredSpec("run", True)


def desiring(*wishes: DesiredSpec, **more: object) -> DeviceSpec:
    return replace(device(desired=wishes), **more)


def now(edge: Edge, name: str = "run") -> tuple[object, str] | None:
    entry = edge.agent.desired.entry("pump-1", name)
    return entry and (entry.value, entry.state)


async def trip_and_reset(edge: Edge, *holds: tuple[str, str, Value]) -> int:
    """When, UTC ns."""
    trip = trip_alarm()
    if holds:
        trip = replace(trip, holds=holds)
    edge.machines.tell(trip)
    await until(lambda: edge.agent.alarms.is_trip(trip.id))
    edge.machines.tell(replace(trip, latched=False, active=False, acked=True))
    await until(lambda: not edge.agent.alarms.listed())
    return edge.agent.clock.wall()


def given(at: int) -> DeviceSpec:
    return desiring(DesiredSpec("run", True, given_at=at))


def test_the_same_value_given_anew_is_a_new_command_and_unchanged_it_is_none() -> None:
    async def story() -> None:
        async with running_agent(desiring(RUN)) as edge:
            await until(lambda: now(edge) == (True, "applied"))
            reset = await trip_and_reset(edge)
            await edge.agent.take_wishes(desiring(RUN), 0)
            assert now(edge) == (True, "overridden")
            await edge.agent.take_wishes(given(reset + 1), 0)
            await until(lambda: now(edge) == (True, "applied"))
            await edge.agent.take_wishes(given(reset + 2), 0)
            await until(lambda: len(edge.machines.desires) == 3)

    asyncio.run(story())


@pytest.mark.parametrize("wished_before", [True, False])
@pytest.mark.parametrize("unheard", [3600 * SECOND, FOREVER])
def test_a_start_that_may_have_been_given_before_the_reset_is_blocked(
    *, wished_before: bool, unheard: int
) -> None:
    async def story() -> None:
        first = desiring(DesiredSpec("run", True, valid_for=SECOND)) if wished_before else device()
        async with running_agent(first) as edge:
            await trip_and_reset(edge)
            written = len(edge.machines.desires)
            await edge.agent.take_wishes(desiring(RUN), unheard)
            assert now(edge) == (True, "blocked")
            entry = edge.agent.desired.entry("pump-1", "run")
            assert entry is not None
            assert "before a trip that held this was reset; give it anew" in entry.message
            await edge.agent.take_wishes(desiring(RUN), 0)
            assert len(edge.machines.desires) == written
            await edge.agent.take_wishes(given(5), 0)  # it came at once: whatever its time says
            await until(lambda: now(edge) == (True, "applied"))

    asyncio.run(story())


def test_the_time_at_which_it_was_given_decides_where_it_is_known() -> None:
    async def story() -> None:
        async with running_agent() as edge:
            before = edge.agent.clock.wall()
            reset = await trip_and_reset(edge)
            for early in (before, reset, reset + DOUBT - SECOND):
                await edge.agent.take_wishes(given(early), FOREVER)
                assert now(edge) == (True, "blocked")
            await edge.agent.take_wishes(given(reset + DOUBT), FOREVER)
            await until(lambda: now(edge) == (True, "applied"))

    asyncio.run(story())


def test_what_the_hub_answered_after_the_reset_proves_that_a_start_is_new() -> None:
    async def story() -> None:
        async with running_agent(desiring(generation=4)) as edge:
            await trip_and_reset(edge)
            await edge.agent.desired.wishes.told("pump-1", edge.agent.clock.mono(), 4)
            await edge.agent.take_wishes(desiring(RUN, generation=5), 1)
            await until(lambda: now(edge) == (True, "applied"))

    asyncio.run(story())


def test_a_generation_that_changed_nothing_here_is_known_too() -> None:
    async def story() -> None:
        async with running_agent(desiring(generation=4)) as edge:
            await trip_and_reset(edge)
            await edge.agent.set_plant({"pump-1": desiring(generation=5)}, ())
            await edge.agent.desired.wishes.told("pump-1", edge.agent.clock.mono(), 5)
            await edge.agent.take_wishes(desiring(RUN, generation=6), 1)
            await until(lambda: now(edge) == (True, "applied"))

    asyncio.run(story())


@pytest.mark.parametrize(
    ("known", "answered", "is_new"),
    [(4, 4, True), (4, 5, False), (4, 3, True)],
)
def test_that_answer_may_come_after_the_start(*, known: int, answered: int, is_new: bool) -> None:
    async def story() -> None:
        async with running_agent(desiring(generation=known)) as edge:
            before = edge.agent.clock.mono()
            await trip_and_reset(edge)
            await edge.agent.take_wishes(desiring(RUN, generation=6), 1)
            told = edge.agent.desired.wishes.told
            await told("pump-1", before, answered)  # it began before the reset
            assert now(edge) == (True, "blocked")
            await told("pump-1", edge.agent.clock.mono(), answered)
            await told("pump-1", edge.agent.clock.mono(), 6)  # the first one counts
            if is_new:
                await until(lambda: now(edge) == (True, "applied"))
            else:
                assert now(edge) == (True, "blocked")
                assert edge.machines.desires == []

    asyncio.run(story())


def test_a_start_that_comes_at_once_after_the_reset_may_have_been_held_up() -> None:
    async def story() -> None:
        async with running_agent() as edge:
            await trip_and_reset(edge)
            await edge.agent.take_wishes(desiring(RUN), 1)
            assert now(edge) == (True, "blocked")

    asyncio.run(story())


@pytest.mark.parametrize("trips", [False, True])
def test_what_the_disk_does_not_take_is_taken_later_and_no_newer_by_then(*, trips: bool) -> None:
    async def story() -> None:
        disk = FakeDisk()
        async with running_agent(desiring(generation=4), disk=disk) as edge:
            disk.fault = "disk full"
            await edge.agent.take_wishes(desiring(RUN, generation=5), 1)
            assert now(edge) is None
            if trips:
                await trip_and_reset(edge)
                await edge.agent.desired.wishes.told("pump-1", edge.agent.clock.mono(), 5)
                await edge.agent.take_wishes(desiring(RUN, generation=6), 1)
            disk.fault = ""
            ends = (True, "blocked" if trips else "applied")
            await until(lambda: now(edge) == ends)
            assert len(edge.machines.desires) == (0 if trips else 1)

    asyncio.run(story())


def test_that_time_is_told_by_the_clock_of_the_hub() -> None:
    async def story() -> None:
        async with running_agent() as edge:
            edge.agent.desired.wishes.behind = 3600 * SECOND
            reset = await trip_and_reset(edge)
            await edge.agent.take_wishes(given(reset + 3599 * SECOND), FOREVER)
            assert now(edge) == (True, "blocked")
            await edge.agent.take_wishes(given(reset + 3601 * SECOND + DOUBT), FOREVER)
            await until(lambda: now(edge) == (True, "applied"))

    asyncio.run(story())


def test_a_restart_forgets_no_reset() -> None:
    async def story() -> None:
        disk = FakeDisk()
        async with running_agent(disk=disk) as edge:
            await trip_and_reset(edge)
            await until(lambda: ("pump-1", "run") in disk.desired)
        async with running_agent(disk=disk) as edge:
            assert now(edge) is None
            await edge.agent.take_wishes(desiring(RUN), FOREVER)
            assert now(edge) == (True, "blocked")
            assert edge.machines.desires == []
            await edge.agent.take_wishes(given(edge.agent.clock.wall() + DOUBT), FOREVER)
            await until(lambda: now(edge) == (True, "applied"))

    asyncio.run(story())


def test_a_reset_that_a_crash_kept_from_the_desired_values_is_found_at_the_start() -> None:
    async def story() -> None:
        disk = FakeDisk()
        async with running_agent(disk=disk) as edge:
            edge.machines.tell(trip_alarm())
            await until(lambda: ("pump-1", "run") in disk.desired)
        disk.alarms.clear()
        async with running_agent(disk=disk) as edge:
            early = edge.agent.clock.wall()
            await edge.agent.take_wishes(given(early), FOREVER)
            assert now(edge) == (True, "blocked")
            await edge.agent.take_wishes(given(early + 2 * DOUBT), FOREVER)
            await until(lambda: now(edge) == (True, "applied"))

    asyncio.run(story())


def test_a_trip_that_a_crash_kept_from_the_desired_values_is_found_at_the_start() -> None:
    async def story() -> None:
        disk = FakeDisk(alarms={"overheat-1": trip_alarm()})
        async with running_agent(disk=disk) as edge:
            edge.machines.tell(replace(trip_alarm(), latched=False, active=False, acked=True))
            await until(lambda: not edge.agent.alarms.listed())
            await edge.agent.take_wishes(desiring(RUN), FOREVER)
            assert now(edge) == (True, "blocked")
            assert edge.machines.desires == []

    asyncio.run(story())


def test_another_device_of_that_name_does_not_make_an_old_start_new() -> None:
    async def story() -> None:
        disk = FakeDisk()
        async with running_agent(desiring(RUN), disk=disk) as edge:
            await until(lambda: now(edge) == (True, "applied"))
            await trip_and_reset(edge)
            await edge.agent.make_anew("pump-1")
            edge.agent.given_since = -FOREVER
            again = desiring(RUN, digest="d2")
            await edge.agent.set_plant({"pump-1": again}, ())
            assert now(edge) == (True, "blocked")
            assert len(edge.machines.desires) == 1

    asyncio.run(story())


def test_a_stop_is_always_taken_and_says_nothing_of_the_start_that_follows() -> None:
    async def story() -> None:
        async with running_agent() as edge:
            await trip_and_reset(edge)
            await edge.agent.take_wishes(desiring(DesiredSpec("run", False)), FOREVER)
            await until(lambda: now(edge) == (False, "applied"))
            await edge.agent.take_wishes(desiring(RUN), FOREVER)
            assert now(edge) == (True, "blocked")

    asyncio.run(story())


def test_while_the_trip_stands_it_is_named() -> None:
    async def story() -> None:
        async with running_agent() as edge:
            edge.machines.tell(trip_alarm())
            await until(lambda: edge.agent.alarms.is_trip("overheat-1"))
            await edge.agent.take_wishes(desiring(RUN), FOREVER)
            entry = edge.agent.desired.entry("pump-1", "run")
            assert entry is not None
            assert entry.state == "blocked"
            assert "held at false by the trip overheat" in entry.message

    asyncio.run(story())


def test_a_stop_while_the_trip_stands_says_nothing_of_the_start_that_follows() -> None:
    async def story() -> None:
        async with running_agent() as edge:
            edge.machines.tell(trip_alarm())
            await until(lambda: edge.agent.alarms.is_trip("overheat-1"))
            await edge.agent.take_wishes(desiring(DesiredSpec("run", False)), 0)
            await until(lambda: now(edge) == (False, "applied"))
            edge.machines.tell(replace(trip_alarm(), latched=False, active=False, acked=True))
            await until(lambda: not edge.agent.alarms.listed())
            await edge.agent.take_wishes(desiring(RUN), FOREVER)
            assert now(edge) == (True, "blocked")

    asyncio.run(story())


def test_what_is_desired_here_after_the_reset_does_not_make_an_old_start_new() -> None:
    async def story() -> None:
        async with running_agent() as edge:
            await trip_and_reset(edge)
            for value in (True, False):
                patch = {"run": DesiredSpec("run", value)}
                await edge.agent.desire("pump-1", patch, ALICE)
                await until(lambda: edge.state("run") == "applied")
            await edge.agent.take_wishes(desiring(RUN), FOREVER)
            assert now(edge) == (True, "blocked")

    asyncio.run(story())


@pytest.mark.parametrize("anew", [True, False])
def test_an_override_that_ends_brings_back_only_what_was_given_after_the_reset(
    *, anew: bool
) -> None:
    async def story() -> None:
        spec = desiring(DesiredSpec("setpoint", 1.5), longest_override=SECOND // 10)
        async with running_agent(spec) as edge:
            await until(lambda: now(edge, "setpoint") == (1.5, "applied"))
            reset = await trip_and_reset(edge, ("pump-1", "setpoint", 0.0))
            patch = {"setpoint": DesiredSpec("setpoint", 2.5)}
            await edge.agent.desire("pump-1", patch, ALICE)
            assert now(edge, "setpoint") == (2.5, "pending")
            if anew:
                said = DesiredSpec("setpoint", 1.5, given_at=reset + DOUBT)
                spec = desiring(said, longest_override=SECOND // 10)
                await edge.agent.take_wishes(spec, FOREVER)
                assert now(edge, "setpoint") is not None
            ends = (1.5, "applied" if anew else "blocked")
            await until(lambda: now(edge, "setpoint") == ends)

    asyncio.run(story())
