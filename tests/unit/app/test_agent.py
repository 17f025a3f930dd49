import asyncio
from dataclasses import replace

import pytest
from agent_rig import device, good, running_agent, trip_alarm, until
from typing_extensions import override

from twinbridge.adapters.bus_memory import MemoryBus
from twinbridge.app.agent import Agent
from twinbridge.core.alarm import TripState
from twinbridge.core.messages import DesiredState, Outcome, Samples
from twinbridge.core.model import SECOND, DesiredSpec, Quality, Reason, Value
from twinbridge.errors import (
    Conflict,
    Interlocked,
    InvalidDesired,
    InvalidInput,
    StaleVersion,
    StoreUnavailable,
    TwinBridgeError,
    UnknownName,
    Unreachable,
)
from twinbridge.ports import Actor
from twinbridge.testing.fakes import FakeDisk, FakeStore

ALICE = Actor("alice", "rest", "127.0.0.1")


def wish(name: str, value: Value, **expiry: int) -> dict[str, DesiredSpec | None]:
    return {name: DesiredSpec(name, value, **expiry)}


def test_what_is_reported_becomes_the_twin_and_goes_to_disk_and_history() -> None:
    async def story() -> None:
        async with running_agent() as edge:
            edge.machines.report("pump-1", temperature=71.5, run=True)
            await until(lambda: edge.agent.twin("pump-1").reported["temperature"].value == 71.5)
            assert edge.store.disk.reported["pump-1"]["run"].value is True
            assert [(d, n) for d, n, _ in edge.store.disk.history] == [
                ("pump-1", "temperature"),
                ("pump-1", "run"),
            ]

    asyncio.run(story())


def test_a_device_has_its_twin_as_soon_as_it_is_listed() -> None:
    class SlowToForget(FakeStore):
        """Lets others look while the old device is forgotten."""

        @override
        async def forget_desired(self, device: str) -> None:
            found.extend(agent.twin(name).message for name in agent.devices)
            await super().forget_desired(device)

    async def story() -> None:
        await agent.set_plant({"pump-1": device()}, ())
        await agent.desire("pump-1", wish("speed", 900), ALICE)
        await agent.set_plant({"pump-2": device("pump-2")}, ())

    found: list[str] = []
    agent = Agent(SlowToForget(), MemoryBus(), "edge-1")
    asyncio.run(story())
    assert found == ["not contacted yet"]


def test_history_leaves_out_what_stays_within_the_deadband() -> None:
    async def story() -> None:
        async with running_agent() as edge:
            for value in (20.0, 20.2, 20.4, 20.6):
                edge.machines.report("pump-1", temperature=value)
            await until(lambda: edge.agent.twin("pump-1").reported["temperature"].value == 20.6)
            assert [s.value for _, _, s in edge.store.disk.history] == [20.0, 20.6]

    asyncio.run(story())


def test_a_desired_value_is_kept_then_sent_and_its_outcome_shown() -> None:
    async def story() -> None:
        async with running_agent() as edge:
            version = await edge.agent.desire("pump-1", wish("speed", 900), ALICE)
            assert edge.store.disk.desired["pump-1", "speed"].version == version == 1
            await until(lambda: edge.state("speed") == "applied")
            await until(lambda: edge.store.disk.desired["pump-1", "speed"].state == "applied")
            (record,) = edge.store.disk.audit
            assert (record.kind, record.subject) == ("desired.accepted", "pump-1/speed")
            assert record.detail["who"] == "alice"
            assert (record.detail["old"], record.detail["new"]) == (None, 900)

    asyncio.run(story())


def test_nothing_is_accepted_while_the_disk_does_not_take_it() -> None:
    async def story() -> None:
        async with running_agent() as edge:
            edge.store.disk.fault = "disk full"
            with pytest.raises(StoreUnavailable):
                await edge.agent.desire("pump-1", wish("speed", 900), ALICE)
            assert edge.state("speed") is None
            assert edge.agent.desired.version("pump-1") == 0
            edge.store.disk.fault = ""
            assert await edge.agent.desire("pump-1", wish("speed", 900), ALICE) == 1
            await until(lambda: edge.state("speed") == "applied")
            assert len(edge.machines.desires) == 1

    asyncio.run(story())


def test_one_wrong_value_refuses_the_whole_patch() -> None:
    async def story() -> None:
        async with running_agent() as edge:
            with pytest.raises(InvalidDesired) as refusal:
                await edge.agent.desire("pump-1", wish("run", True) | wish("speed", 9999), ALICE)
            assert refusal.value.field == "speed"
            assert edge.state("run") is None
            assert edge.machines.asked == []
            assert edge.store.disk.audit[-1].kind == "desired.refused"

    asyncio.run(story())


def test_a_standing_trip_holds_its_properties_but_lets_the_stop_pass() -> None:
    async def story() -> None:
        async with running_agent() as edge:
            edge.machines.tell(trip_alarm())
            await until(edge.agent.alarms.listed)
            with pytest.raises(Interlocked):
                await edge.agent.desire("pump-1", wish("run", True), ALICE)
            await edge.agent.desire("pump-1", wish("run", False), ALICE)
            await edge.agent.desire("pump-1", wish("speed", 10), ALICE)
            edge.machines.tell(replace(trip_alarm(), latched=False))
            await until(lambda: not edge.agent.alarms.trips_of("pump-1"))
            await edge.agent.desire("pump-1", wish("run", True), ALICE)

    asyncio.run(story())


def test_a_rule_that_only_would_trip_holds_nothing() -> None:
    async def story() -> None:
        async with running_agent() as edge:
            edge.machines.tell(replace(trip_alarm(), trip=TripState.WOULD_TRIP))
            await until(edge.agent.alarms.listed)
            await edge.agent.desire("pump-1", wish("run", True), ALICE)

    asyncio.run(story())


def test_a_trip_ends_what_was_desired_and_its_reset_brings_nothing_back() -> None:
    async def story() -> None:
        disk = FakeDisk()
        async with running_agent(disk=disk) as edge:
            await edge.agent.desire("pump-1", wish("run", True), ALICE)
            await until(lambda: edge.state("run") == "applied")
            edge.machines.tell(trip_alarm())
            await until(lambda: edge.state("run") == "overridden")
            edge.machines.tell(replace(trip_alarm(), latched=False, active=False, acked=True))
            await until(lambda: not edge.agent.alarms.listed())
            await until(lambda: disk.desired["pump-1", "run"].state == "overridden")
        async with running_agent(disk=disk) as edge:
            edge.machines.contact("pump-1", connected=True)
            await until(lambda: edge.agent.twin("pump-1").connected)
            assert edge.machines.desires == []

    asyncio.run(story())


def test_a_pending_value_is_blocked_by_a_trip() -> None:
    async def story() -> None:
        async with running_agent() as edge:
            edge.machines.answer = lambda _: None
            await edge.agent.desire("pump-1", wish("run", True), ALICE)
            edge.machines.tell(trip_alarm())
            await until(lambda: edge.state("run") == "blocked")

    asyncio.run(story())


@pytest.mark.parametrize(
    ("error", "state"),
    [(Conflict("a trip holds it"), "blocked"), (InvalidInput("no"), "rejected")],
)
def test_a_refusal_of_the_machines_becomes_the_state(error: TwinBridgeError, state: str) -> None:
    async def story() -> None:
        async with running_agent() as edge:
            edge.machines.refuses = error
            await edge.agent.desire("pump-1", wish("run", True), ALICE)
            await until(lambda: edge.state("run") == state)

    asyncio.run(story())


@pytest.mark.parametrize("error", [Unreachable("not there"), UnknownName("not yet")])
def test_a_value_is_sent_again_while_the_machines_are_not_there(error: TwinBridgeError) -> None:
    async def story() -> None:
        async with running_agent() as edge:
            edge.machines.refuses = error
            await edge.agent.desire("pump-1", wish("run", True), ALICE)
            await until(lambda: edge.machines.desires)
            assert edge.state("run") == "pending"
            edge.machines.refuses = None
            await until(lambda: edge.state("run") == "applied")

    asyncio.run(story())


def test_an_outcome_of_an_older_version_changes_nothing() -> None:
    async def story() -> None:
        async with running_agent() as edge:
            edge.machines.answer = lambda _: None
            await edge.agent.desire("pump-1", wish("speed", 1), ALICE)
            await edge.agent.desire("pump-1", wish("speed", 2), ALICE)
            late = Outcome("pump-1", "speed", 1, DesiredState.REJECTED, "late", 1)
            edge.agent.take([late])
            assert edge.state("speed") == "pending"
            edge.agent.take([late._replace(version=2)])
            assert edge.state("speed") == "rejected"

    asyncio.run(story())


def test_a_value_that_is_not_written_in_time_expires() -> None:
    async def story() -> None:
        async with running_agent() as edge:
            edge.machines.answer = lambda _: None
            patch = wish("speed", 1, valid_for=SECOND // 20)
            await edge.agent.desire("pump-1", patch, ALICE)
            await until(lambda: edge.state("speed") == "expired")
            await until(lambda: edge.store.disk.desired["pump-1", "speed"].state == "expired")

    asyncio.run(story())


def test_a_withdrawn_value_is_gone_also_at_the_machines_and_its_version_is_not_given_again() -> (
    None
):
    async def story() -> None:
        disk = FakeDisk()
        async with running_agent(disk=disk) as edge:
            edge.machines.answer = lambda _: None
            await edge.agent.desire("pump-1", wish("speed", 1), ALICE)
            await until(lambda: len(edge.machines.desires) == 1)
            assert await edge.agent.desire("pump-1", {"speed": None}, ALICE) == 2
            assert edge.agent.desired.view("pump-1", "speed") is None
            await until(lambda: len(edge.machines.desires) == 2)
            last = edge.machines.desires[-1]
            assert last.version == 2
            assert last.valid_until < edge.agent.clock.wall()
        async with running_agent(disk=disk) as edge:
            assert edge.agent.desired.view("pump-1", "speed") is None
            assert await edge.agent.desire("pump-1", wish("speed", 1), ALICE) == 3

    asyncio.run(story())


def test_if_match_refuses_one_who_looked_at_an_older_state() -> None:
    async def story() -> None:
        async with running_agent() as edge:
            seen = edge.agent.etag("pump-1")
            await edge.agent.desire("pump-1", wish("speed", 1), ALICE, [seen])
            with pytest.raises(StaleVersion):
                await edge.agent.desire("pump-1", wish("speed", 2), ALICE, [seen])

    asyncio.run(story())


def test_after_a_restart_what_is_pending_is_sent_what_expired_is_not_and_no_pulse_is_repeated() -> (
    None
):
    async def story() -> None:
        disk = FakeDisk()
        async with running_agent(disk=disk) as edge:
            edge.machines.answer = lambda _: None
            await edge.agent.desire("pump-1", wish("speed", 7), ALICE)
            await edge.agent.desire("pump-1", wish("start", True), ALICE)
            await edge.agent.desire("pump-1", wish("label", "a", valid_for=3600 * SECOND), ALICE)
        key = ("pump-1", "label")
        disk.desired[key] = replace(disk.desired[key], valid_until=2, accepted=1)
        async with running_agent(disk=disk) as edge:
            await until(lambda: edge.state("speed") == "applied")
            assert [d.property for d in edge.machines.desires] == ["speed"]
            assert edge.state("label") == "expired"
            assert edge.state("start") == "rejected"

    asyncio.run(story())


def test_a_clock_that_went_back_expires_what_it_can_no_longer_date() -> None:
    async def story() -> None:
        disk = FakeDisk()
        async with running_agent(disk=disk) as edge:
            edge.machines.answer = lambda _: None
            await edge.agent.desire("pump-1", wish("label", "a", valid_for=3600 * SECOND), ALICE)
        key = ("pump-1", "label")
        later = disk.desired[key].accepted + 1800 * SECOND
        disk.desired[key] = replace(disk.desired[key], accepted=later)
        async with running_agent(disk=disk) as edge:
            assert edge.state("label") == "expired"

    asyncio.run(story())


def test_reported_values_are_bad_after_a_restart_until_they_are_read() -> None:
    async def story() -> None:
        disk = FakeDisk()
        disk.reported["pump-1"] = {"temperature": good(50.0, at=5 * SECOND)}
        async with running_agent(disk=disk) as edge:
            sample = edge.agent.twin("pump-1").reported["temperature"]
            assert (sample.value, sample.quality, sample.reason, sample.source_time) == (
                50.0,
                Quality.BAD,
                Reason.NOT_READ,
                5 * SECOND,
            )
            edge.machines.report("pump-1", temperature=51.0)
            await until(lambda: edge.agent.twin("pump-1").reported["temperature"].good)

    asyncio.run(story())


def test_only_properties_that_say_so_are_written_again_when_the_device_is_back() -> None:
    async def story() -> None:
        async with running_agent() as edge:
            edge.machines.contact("pump-1", connected=True)
            patch = wish("speed", 5) | wish("setpoint", 2.5)
            await edge.agent.desire("pump-1", patch, ALICE)
            await until(lambda: edge.state("setpoint") == "applied")
            await until(lambda: edge.state("speed") == "applied")
            edge.machines.contact("pump-1", connected=False)
            edge.machines.contact("pump-1", connected=True)
            await until(lambda: len(edge.machines.desires) == 3)
            assert edge.machines.desires[-1].property == "setpoint"
            await until(lambda: edge.state("setpoint") == "applied")

    asyncio.run(story())


def test_a_desired_value_of_the_resource_is_taken_up_once_and_again_when_it_is_handed_back() -> (
    None
):
    async def story() -> None:
        disk = FakeDisk()
        first = device(desired=(DesiredSpec("speed", 100),))
        async with running_agent(first, disk=disk) as edge:
            await until(lambda: edge.state("speed") == "applied")
            await edge.agent.desire("pump-1", wish("speed", 300), ALICE)
            await until(lambda: disk.desired["pump-1", "speed"].value == 300)
            await until(lambda: edge.state("speed") == "applied")
            await until(lambda: disk.desired["pump-1", "speed"].state == "applied")
        async with running_agent(first, disk=disk) as edge:
            assert edge.agent.desired.entry("pump-1", "speed").value == 300
            assert edge.machines.desires == []
            changed = device(digest="d2", desired=(DesiredSpec("speed", 200),))
            await edge.agent.set_plant({"pump-1": changed}, ())
            entry = edge.agent.desired.entry("pump-1", "speed")
            assert (entry.value, entry.origin) == (300, "rest")
            await edge.agent.desire("pump-1", {"speed": None}, ALICE)
            entry = edge.agent.desired.entry("pump-1", "speed")
            assert (entry.value, entry.origin) == (200, "device")
            await until(lambda: edge.state("speed") == "applied")

    asyncio.run(story())


def test_a_desired_value_of_the_resource_that_a_trip_holds_is_blocked_for_good() -> None:
    async def story() -> None:
        disk = FakeDisk(alarms={"overheat-1": trip_alarm()})
        spec = device(desired=(DesiredSpec("run", True),))
        async with running_agent(spec, disk=disk) as edge:
            assert edge.state("run") == "blocked"
            edge.machines.tell(replace(trip_alarm(), latched=False, active=False, acked=True))
            await until(lambda: not edge.agent.alarms.listed())
            await until(lambda: ("pump-1", "run") in disk.desired)
        async with running_agent(spec, disk=disk) as edge:
            assert edge.state("run") == "blocked"
            assert edge.machines.desires == []

    asyncio.run(story())


def test_a_reload_keeps_the_twins_of_what_did_not_change_and_forgets_what_went() -> None:
    async def story() -> None:
        async with running_agent(device("a"), device("b")) as edge:
            edge.machines.report("a", temperature=1.0)
            await edge.agent.desire("b", wish("speed", 1), ALICE)
            await until(lambda: edge.agent.twin("a").reported["temperature"].good)
            await edge.agent.set_plant({"a": device("a"), "c": device("c")}, ())
            assert edge.agent.twin("a").reported["temperature"].value == 1.0
            assert edge.agent.twin("c").reported["temperature"].reason is Reason.NOT_READ
            assert ("b", "speed") not in edge.store.disk.desired
            with pytest.raises(UnknownName):
                edge.agent.device("b")

    asyncio.run(story())


def test_outcomes_are_kept_once_the_disk_is_back() -> None:
    async def story() -> None:
        async with running_agent() as edge:
            edge.machines.answer = lambda _: None
            await edge.agent.desire("pump-1", wish("speed", 1), ALICE)
            edge.store.disk.fault = "disk full"
            edge.agent.take([Outcome("pump-1", "speed", 1, DesiredState.APPLIED, "", 1)])
            assert not await edge.agent.desired.keep()
            edge.store.disk.fault = ""
            await until(lambda: edge.store.disk.desired["pump-1", "speed"].state == "applied")

    asyncio.run(story())


def test_samples_of_a_device_that_is_not_yet_defined_are_not_lost() -> None:
    async def story() -> None:
        async with running_agent(device("a")) as edge:
            edge.agent.take([Samples("b", (("temperature", good(3.0)),))])
            await edge.agent.set_plant({"a": device("a"), "b": device("b")}, ())
            assert edge.agent.twin("b").reported["temperature"].value == 3.0

    asyncio.run(story())
