"""The trip path, DOMAIN §1 items 1-8 and 12, on machines in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from rig import PUMP, a_device, a_plc, a_property, overheat, running

from twinbridge.app.clock import SystemClock
from twinbridge.core.alarm import TripState
from twinbridge.core.messages import Desire, DesiredState, ResetTrip, SetMode
from twinbridge.core.model import (
    MILLISECOND,
    SECOND,
    Access,
    Feedback,
    PropertyRef,
    ValueType,
)
from twinbridge.core.rule import Mode, OnBad, Trip, Write
from twinbridge.errors import Interlocked, InvalidInput, ResetRefused, StoreUnavailable
from twinbridge.testing.fakes import FakeStore

Scenario = Callable[[], Awaitable[None]]


def test_a_hot_machine_is_stopped_and_seen_stopped() -> None:
    async def scenario() -> None:
        plc = a_plc()
        async with running({"plc": plc}, rules=[overheat()]) as rig:
            await rig.until(lambda: rig.seen("pump", "temperature"))
            plc.values["temperature"] = 85.0
            await rig.until(rig.trip_is(TripState.VERIFIED))
            assert plc.writes == [("run", False)]
            alarm = rig.alarm()
            assert alarm is not None
            assert alarm.tripped
            assert 0 < alarm.detect_to_ack <= alarm.detect_to_verified
            assert alarm.inputs == (("pump/temperature", 85.0, "good"),)
            stored = await rig.store.load()
            assert [a.id for a in stored.alarms] == [alarm.id]

    asyncio.run(scenario())


def test_a_trip_waits_for_the_request_in_flight_and_for_nothing_else() -> None:
    async def scenario() -> None:
        plc = a_plc()
        other = a_plc()
        devices = [a_device(), a_device("hot", plc="other")]
        rule = overheat(
            "hot", trip=Trip((Write(PropertyRef("pump", "run"), value=False),), 100 * MILLISECOND)
        )
        async with running({"plc": plc, "other": other}, devices, [rule]) as rig:
            await rig.until(lambda: rig.seen("pump", "run") and rig.seen("hot", "temperature"))
            plc.gate = asyncio.Event()
            before = plc.reads
            await rig.until(lambda: plc.reads > before)
            await rig.desire("speed", 5)
            other.values["temperature"] = 99.0
            await rig.until(rig.alarm)
            gate, plc.gate = plc.gate, None
            gate.set()
            await rig.until(lambda: len(plc.writes) == 2)
            assert plc.writes == [("run", False), ("speed", 5)]

    asyncio.run(scenario())


def test_a_stop_without_effect_is_repeated_and_said_until_it_has_effect() -> None:
    async def scenario() -> None:
        plc = a_plc()
        plc.ignores.add("run")
        rule = overheat(
            trip=Trip((Write(PropertyRef("pump", "run"), value=False),), MILLISECOND, 1)
        )
        async with running({"plc": plc}, rules=[rule]) as rig:
            plc.values["temperature"] = 90.0
            await rig.until(rig.trip_is(TripState.FAILED))
            await rig.until(lambda: rig.alarm("overheat.trip-failed"))
            failed = rig.alarm("overheat.trip-failed")
            assert failed is not None
            assert failed.active
            plc.ignores.clear()
            await rig.until(rig.trip_is(TripState.VERIFIED))
            assert len(plc.writes) >= 3
            assert not rig.alarm("overheat.trip-failed").active

    asyncio.run(scenario())


def test_a_machine_that_runs_again_while_its_trip_stands_is_stopped_again() -> None:
    async def scenario() -> None:
        plc = a_plc()
        async with running({"plc": plc}, rules=[overheat()]) as rig:
            plc.values["temperature"] = 90.0
            await rig.until(rig.trip_is(TripState.VERIFIED))
            plc.values.update(run=True, temperature=20.0)
            await rig.until(lambda: plc.writes == [("run", False)] * 2)
            await rig.until(
                lambda: plc.values["run"] is False and rig.trip_is(TripState.VERIFIED)()
            )
            audit = await rig.store.audit()
            assert any("seen running again" in str(a.detail.get("message")) for a in audit)

    asyncio.run(scenario())


def test_independent_feedback_must_show_the_stop() -> None:
    properties = (
        PUMP[0],
        replace(PUMP[1], feedback=Feedback("running", equals=False, within=20 * MILLISECOND)),
        a_property("running", ValueType.BOOL, Access.READ_ONLY),
    )

    async def scenario() -> None:
        plc = a_plc()
        plc.values["running"] = True
        rule = overheat(
            trip=Trip((Write(PropertyRef("pump", "run"), value=False),), MILLISECOND, 0)
        )
        async with running({"plc": plc}, [a_device(properties=properties)], [rule]) as rig:
            plc.values["temperature"] = 90.0
            await rig.until(rig.trip_is(TripState.FAILED))
            plc.values["running"] = False
            await rig.until(rig.trip_is(TripState.VERIFIED))

    asyncio.run(scenario())


def test_a_standing_trip_holds_its_property_but_lets_the_stop_direction_pass() -> None:
    async def scenario() -> None:
        plc = a_plc()
        async with running({"plc": plc}, rules=[overheat()]) as rig:
            plc.values["temperature"] = 90.0
            await rig.until(rig.trip_is(TripState.VERIFIED))
            with pytest.raises(Interlocked, match="overheat:pump"):
                await rig.desire("run", value=True)
            await rig.desire("run", value=False, version=2)
            await rig.until(rig.outcomes)
            assert [o.state for o in rig.outcomes()] == [DesiredState.APPLIED]
            assert ("run", True) not in plc.writes

    asyncio.run(scenario())


def test_a_command_that_waits_when_the_trip_comes_is_blocked_not_queued() -> None:
    async def scenario() -> None:
        plc = a_plc()
        async with running({"plc": plc}, rules=[overheat()]) as rig:
            await rig.until(lambda: rig.seen("pump", "run"))
            plc.gate = asyncio.Event()
            before = plc.reads
            await rig.until(lambda: plc.reads > before)
            await rig.desire("run", value=True)
            plc.values["temperature"] = 90.0
            gate, plc.gate = plc.gate, None
            gate.set()
            await rig.until(rig.outcomes)
            assert rig.outcomes()[0].state is DesiredState.BLOCKED
            assert ("run", True) not in plc.writes

    asyncio.run(scenario())


def test_a_reset_needs_the_condition_clear_and_starts_nothing() -> None:
    async def scenario() -> None:
        plc = a_plc()
        async with running({"plc": plc}, rules=[overheat()]) as rig:
            plc.values["temperature"] = 90.0
            await rig.until(rig.trip_is(TripState.VERIFIED))
            alarm = rig.alarm()
            assert alarm is not None
            with pytest.raises(ResetRefused):
                await rig.machines.handle(ResetTrip(alarm.id, "ann", "too early"))
            plc.values["temperature"] = 70.0
            await rig.until(lambda: rig.seen("pump", "temperature")[-1] == 70.0)
            with pytest.raises(InvalidInput):
                await rig.machines.handle(ResetTrip(alarm.id, "ann", " "))
            await rig.machines.handle(ResetTrip(alarm.id, "ann", "bearing replaced"))
            assert plc.values["run"] is False
            assert not (await rig.store.load()).alarms
            await rig.desire("run", value=True)
            await rig.until(lambda: plc.values["run"] is True)

    asyncio.run(scenario())


def test_a_latch_survives_a_restart_and_still_stops_the_machine() -> None:
    async def scenario() -> None:
        plc, store = a_plc(), FakeStore()
        async with running({"plc": plc}, rules=[overheat()], store=store) as rig:
            plc.values["temperature"] = 90.0
            await rig.until(rig.trip_is(TripState.VERIFIED))
        plc.values.update(temperature=20.0, run=True)
        plc.writes.clear()
        async with running({"plc": plc}, rules=[overheat()], store=store) as rig:
            await rig.until(lambda: plc.values["run"] is False)
            with pytest.raises(Interlocked):
                await rig.desire("run", value=True)

    asyncio.run(scenario())


def test_a_stop_that_was_not_verified_before_the_restart_is_written_again() -> None:
    async def scenario() -> None:
        plc, store = a_plc(), FakeStore()
        plc.ignores.add("run")
        async with running({"plc": plc}, rules=[overheat()], store=store) as rig:
            plc.values["temperature"] = 90.0
            await rig.until(lambda: plc.writes)
            await rig.until(rig.alarm)
        plc.values["temperature"] = 20.0
        plc.ignores.clear()
        async with running({"plc": plc}, rules=[overheat()], store=store) as rig:
            await rig.until(rig.trip_is(TripState.VERIFIED))
            assert plc.values["run"] is False

    asyncio.run(scenario())


def test_a_full_disk_stops_neither_the_trip_nor_the_news_of_it() -> None:
    class FullDisk(FakeStore):
        async def save_alarm(self, *_: object) -> None:
            raise StoreUnavailable("disk full")

        async def append_audit(self, *_: object) -> None:
            raise StoreUnavailable("disk full")

    async def scenario() -> None:
        plc = a_plc()
        async with running({"plc": plc}, rules=[overheat()], store=FullDisk()) as rig:
            plc.values["temperature"] = 90.0
            await rig.until(lambda: plc.values["run"] is False)
            await rig.until(rig.trip_is(TripState.VERIFIED))

    asyncio.run(scenario())


def test_latches_that_cannot_be_read_count_as_latched() -> None:
    class Damaged(FakeStore):
        async def load(self):  # noqa: ANN202 - as the port says
            return replace(await super().load(), readable=False)

    async def scenario() -> None:
        plc = a_plc()
        async with running({"plc": plc}, rules=[overheat()], store=Damaged()) as rig:
            await rig.until(lambda: plc.values["run"] is False)
            with pytest.raises(Interlocked):
                await rig.desire("run", value=True)

    asyncio.run(scenario())


def test_a_lost_link_trips_where_the_rule_says_so_and_stops_first_when_it_is_back() -> None:
    async def scenario() -> None:
        plc = a_plc()
        async with running({"plc": plc}, rules=[overheat(on_bad=OnBad.TRIP)]) as rig:
            await rig.until(lambda: rig.seen("pump", "temperature"))
            plc.reachable = False
            await rig.until(rig.alarm)
            reads = plc.reads
            plc.reachable = True
            await rig.until(lambda: plc.values["run"] is False)
            assert plc.reads - reads <= 2, "the stop was not the first request"

    asyncio.run(scenario())


def test_a_dry_run_says_would_trip_and_writes_nothing() -> None:
    async def scenario() -> None:
        plc = a_plc()
        async with running({"plc": plc}, rules=[overheat(mode=Mode.DRY_RUN)]) as rig:
            plc.values["temperature"] = 90.0
            await rig.until(rig.trip_is(TripState.WOULD_TRIP))
            plc.values["temperature"] = 20.0
            await rig.until(lambda: not rig.alarm().active)
            assert plc.writes == []
            assert not rig.alarm().tripped

    asyncio.run(scenario())


def test_arming_a_rule_whose_condition_holds_trips_at_once() -> None:
    async def scenario() -> None:
        plc = a_plc()
        async with running({"plc": plc}, rules=[overheat(mode=Mode.DRY_RUN)]) as rig:
            plc.values["temperature"] = 90.0
            await rig.until(rig.trip_is(TripState.WOULD_TRIP))
            await rig.machines.handle(SetMode("overheat", Mode.ARMED, "ann"))
            await rig.until(lambda: plc.values["run"] is False)

    asyncio.run(scenario())


def test_nothing_is_written_before_the_first_full_good_scan() -> None:
    async def scenario() -> None:
        plc = a_plc()
        plc.gate = asyncio.Event()
        async with running({"plc": plc}) as rig:
            await rig.desire("speed", 7)
            await rig.until(lambda: plc.reads)
            assert plc.writes == []
            plc.gate.set()
            await rig.until(lambda: plc.writes == [("speed", 7)])
            assert rig.seen("pump", "speed")[0] == 10, "it was written before it was read"

    asyncio.run(scenario())


def test_an_expired_command_is_never_written() -> None:
    async def scenario() -> None:
        plc = a_plc()
        plc.reachable = False
        async with running({"plc": plc}) as rig:
            await rig.desire("speed", 7, valid_until=1)
            await rig.until(rig.outcomes)
            plc.reachable = True
            await rig.until(lambda: rig.seen("pump", "speed")[-1:] == [10])
            assert rig.outcomes()[0].state is DesiredState.EXPIRED
            assert plc.writes == []

    asyncio.run(scenario())


def test_of_fifty_commands_in_a_burst_the_last_one_stands_and_each_has_one_outcome() -> None:
    async def scenario() -> None:
        plc = a_plc()
        async with running({"plc": plc}) as rig:
            await rig.until(lambda: rig.seen("pump", "speed"))
            for version in range(1, 51):
                await rig.desire("speed", version, version=version)
            await rig.until(lambda: len(rig.outcomes()) == 50)
            assert plc.values["speed"] == 50
            assert sorted(o.version for o in rig.outcomes()) == list(range(1, 51))
            assert rig.outcomes()[-1].state is DesiredState.APPLIED

    asyncio.run(scenario())


def test_a_refused_write_is_rejected_and_not_repeated() -> None:
    async def scenario() -> None:
        plc = a_plc()
        plc.refuses.add("speed")
        async with running({"plc": plc}) as rig:
            await rig.desire("speed", 7)
            await rig.until(rig.outcomes)
            outcome = rig.outcomes()[0]
            assert outcome.state is DesiredState.REJECTED
            assert "illegal data value" in outcome.message

    asyncio.run(scenario())


def test_a_silent_unit_behind_a_gateway_does_not_keep_its_neighbour_waiting() -> None:
    async def scenario() -> None:
        plc = a_plc("1")
        plc.values.update(a_plc("2").values)
        devices = [a_device("one", unit="1"), a_device("two", unit="2")]
        async with running({"plc": plc}, devices, [overheat("two")]) as rig:
            await rig.until(lambda: rig.seen("one", "temperature"))
            plc.silent.add("1")
            await rig.until(lambda: rig.machines.devices["one"].connected is False)
            plc.values["2temperature"] = 95.0
            await rig.until(lambda: plc.values["2run"] is False)
            assert rig.machines.devices["two"].connected

    asyncio.run(scenario())


def test_a_trip_outlives_an_edit_of_its_device_and_the_loss_of_its_rule() -> None:
    async def scenario() -> None:
        plc = a_plc()
        async with running({"plc": plc}, rules=[overheat()]) as rig:
            plc.values["temperature"] = 90.0
            await rig.until(rig.trip_is(TripState.VERIFIED))
            rig.machines.apply({"pump": a_device(digest="2")}, [])
            plc.values.update(temperature=20.0, run=True)
            await rig.until(lambda: plc.values["run"] is False)
            with pytest.raises(Interlocked):
                await rig.desire("run", value=True)

    asyncio.run(scenario())


def test_a_pulse_is_never_repeated_by_itself() -> None:
    properties = (*PUMP, a_property("step", ValueType.BOOL, Access.READ_WRITE, pulse=True))

    async def scenario() -> None:
        plc = a_plc()
        plc.values["step"] = False
        async with running({"plc": plc}, [a_device(properties=properties)]) as rig:
            await rig.until(lambda: rig.seen("pump", "step"))
            plc.silent.add("")
            await rig.desire("step", value=True)
            await rig.until(lambda: rig.outcomes() or not rig.machines.devices["pump"].connected)
            plc.silent.clear()
            await rig.until(rig.outcomes)
            assert [k for k, _ in plc.writes].count("step") <= 1

    asyncio.run(scenario())


def test_a_reload_hands_waiting_writes_to_the_link_that_serves_the_device_now() -> None:
    async def scenario() -> None:
        old, new = a_plc(), a_plc()
        old.reachable = False
        async with running({"plc": old, "other": new}) as rig:
            await rig.desire("speed", 7)
            rig.machines.apply({"pump": a_device(plc="other", digest="2")}, [])
            await rig.until(lambda: new.writes == [("speed", 7)])
            await rig.until(rig.outcomes)
            assert [o.state for o in rig.outcomes()] == [DesiredState.APPLIED]
            assert old.writes == []

    asyncio.run(scenario())


def test_a_waiting_write_of_a_device_that_is_gone_is_rejected() -> None:
    async def scenario() -> None:
        plc = a_plc()
        plc.reachable = False
        async with running({"plc": plc}) as rig:
            await rig.desire("speed", 7)
            rig.machines.apply({}, [])
            await rig.until(rig.outcomes)
            assert [o.state for o in rig.outcomes()] == [DesiredState.REJECTED]

    asyncio.run(scenario())


def test_every_value_is_good_again_after_a_silence_that_only_one_request_met() -> None:
    """The other requests were not even asked meanwhile, and their answers did not change."""
    slow = a_device(interval=10 * MILLISECOND)
    points = [replace(p, interval=(n + 1) * 10 * MILLISECOND) for n, p in enumerate(slow.points)]

    async def scenario() -> None:
        plc = a_plc()
        async with running({"plc": plc}, [replace(slow, points=tuple(points))]) as rig:
            device = rig.machines.devices["pump"]
            await rig.until(lambda: all(s.good for s in device.samples.values()))
            plc.silent.add("")
            await rig.until(lambda: not device.connected)
            plc.silent.clear()
            await rig.until(lambda: all(s.good for s in device.samples.values()))

    asyncio.run(scenario())


def test_a_trip_tries_a_dead_link_every_second_however_long_it_was_dead() -> None:
    async def scenario() -> None:
        plc, other = a_plc(), a_plc()
        plc.reachable = False
        devices = [a_device(), a_device("hot", plc="other")]
        rule = overheat(
            "hot", trip=Trip((Write(PropertyRef("pump", "run"), value=False),), MILLISECOND, 0)
        )
        async with running({"plc": plc, "other": other}, devices, [rule]) as rig:
            worker = next(w for w in rig.machines._workers.values() if "other" not in w.endpoint)
            other.values["temperature"] = 99.0
            await rig.until(rig.trip_is(TripState.FAILED))
            assert max(worker.until_reconnect(wait=4.0) for _ in range(3)) <= 1.0

    asyncio.run(scenario())


def test_a_command_that_expires_while_it_waits_for_the_first_scan_is_not_written() -> None:
    class SteppedClock(SystemClock):
        ahead = 0

        def mono(self) -> int:
            return super().mono() + self.ahead

    async def scenario() -> None:
        plc, clock = a_plc(), SteppedClock()
        plc.gate = asyncio.Event()
        async with running({"plc": plc}, clock=clock) as rig:
            wall = clock.wall()
            desire = Desire("pump", "speed", 7, 1, "test", wall, wall + 10 * SECOND, clock.mono())
            await rig.machines.handle(desire)
            await rig.until(lambda: plc.reads)
            clock.ahead = 20 * SECOND
            plc.gate.set()
            await rig.until(rig.outcomes)
            assert rig.outcomes()[0].state is DesiredState.EXPIRED
            assert plc.writes == []

    asyncio.run(scenario())


def test_a_trip_watches_over_a_device_that_was_gone_for_a_while() -> None:
    async def scenario() -> None:
        plc = a_plc()
        async with running({"plc": plc}, rules=[overheat()]) as rig:
            plc.values["temperature"] = 90.0
            await rig.until(rig.trip_is(TripState.VERIFIED))
            rig.machines.apply({}, [])
            rig.machines.apply({"pump": a_device()}, [overheat()])
            plc.values.update(temperature=20.0, run=True)
            await rig.until(lambda: plc.values["run"] is False)

    asyncio.run(scenario())
