"""Links whose device speaks by itself, through the same pipeline as polls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from time import time_ns

from rig import Rig, a_device, a_plc, overheat, running

from twinbridge.app.metrics import SAMPLES_COALESCED, SAMPLES_LATE
from twinbridge.core.alarm import TripState
from twinbridge.core.messages import AlarmChanged, Contact, DesiredState, Samples
from twinbridge.core.model import MILLISECOND, SECOND, DeviceSpec, Point, Quality, Reason
from twinbridge.core.rule import Compare, OnBad, Op, RuleInstance
from twinbridge.errors import LinkLost, NoResponse
from twinbridge.ports import UNCHANGED, Push, Reading, ReadResult
from twinbridge.testing.fake_driver import FakePlc, FakePushLink

Story = Callable[[Rig, FakePlc, FakePushLink], Awaitable[None]]


def tell(
    story: Story,
    rules: Iterable[RuleInstance] = (),
    devices: Iterable[DeviceSpec] = (),
    first: Callable[[Rig], object] = lambda rig: rig.seen("pump", "temperature"),
) -> None:
    async def told() -> None:
        plc = a_plc()
        plc.links = []
        async with running({"plc": plc}, devices, rules) as rig:
            await rig.until(lambda: first(rig), "the first values")
            await story(rig, plc, plc.links[0])

    asyncio.run(asyncio.wait_for(told(), 30))


def point(rig: Rig, name: str, device: str = "pump") -> Point:
    return rig.machines.devices[device].points[name]


def counted(counter: object) -> float:
    return float(counter._value.get())  # type: ignore[attr-defined]  # the library shows no other way


def test_what_a_device_says_by_itself_becomes_its_twin_without_a_poll() -> None:
    async def story(rig: Rig, plc: FakePlc, link: FakePushLink) -> None:
        link.say(Reading(point(rig, "temperature"), 30.0))
        link.say(Reading(point(rig, "temperature"), 31.0), Reading(point(rig, "speed"), 11))
        await rig.until(lambda: rig.seen("pump", "speed") == [10, 11])
        assert rig.seen("pump", "temperature") == [20.0, 30.0, 31.0]
        assert plc.reads == 0

    tell(story)


def test_a_desired_value_is_written_and_read_back_over_a_link_that_pushes() -> None:
    async def story(rig: Rig, plc: FakePlc, link: FakePushLink) -> None:
        await rig.desire("speed", 42)
        await rig.until(rig.outcomes)
        assert [o.state for o in rig.outcomes()] == [DesiredState.APPLIED]
        assert plc.writes == [("speed", 42)]
        assert rig.seen("pump", "speed") == [10, 42]

    tell(story)


def test_a_write_that_has_no_effect_is_rejected_over_a_link_that_pushes() -> None:
    async def story(rig: Rig, plc: FakePlc, link: FakePushLink) -> None:
        plc.ignores.add("speed")
        await rig.desire("speed", 42)
        await rig.until(rig.outcomes)
        assert [o.state for o in rig.outcomes()] == [DesiredState.REJECTED]
        assert "reports 10" in rig.outcomes()[0].message

    tell(story)


def test_a_trip_sees_every_sample_of_a_batch() -> None:
    """A peak between two values that are in order stops the machine."""

    async def story(rig: Rig, plc: FakePlc, link: FakePushLink) -> None:
        temperature = point(rig, "temperature")
        link.say(*(Reading(temperature, value) for value in (21.0, 90.0, 22.0)))
        await rig.until(rig.trip_is(TripState.VERIFIED))
        assert plc.writes == [("run", False)]
        # The read-back of the stop asks for all of the device, and finds it at 20 °C.
        assert rig.seen("pump", "temperature")[:4] == [20.0, 21.0, 90.0, 22.0]

    tell(story, [overheat()])


def test_a_lost_link_makes_every_value_bad_and_a_new_one_tells_them_again() -> None:
    async def story(rig: Rig, plc: FakePlc, link: FakePushLink) -> None:
        link.fail(LinkLost("the server went away"))
        await rig.until(lambda: rig.events and plc.links and plc.links[0] is not link)
        await rig.until(lambda: len(rig.seen("pump", "temperature")) == 3)
        told = [
            s
            for e in rig.events
            if isinstance(e, Samples)
            for name, s in e.samples
            if name == "temperature"
        ]
        assert [(s.value, s.quality, s.reason, s.detail) for s in told] == [
            (20.0, Quality.GOOD, Reason.NONE, ""),
            (20.0, Quality.BAD, Reason.COMM_LOST, "the server went away"),
            (20.0, Quality.GOOD, Reason.NONE, ""),
        ]
        contacts = [e.connected for e in rig.events if isinstance(e, Contact)]
        assert contacts[:3] == [True, False, True]

    tell(story)


def test_one_device_that_is_said_to_be_lost_takes_no_other_with_it() -> None:
    async def story(rig: Rig, plc: FakePlc, link: FakePushLink) -> None:
        gone = next(r for r in link.followed if r.points[0].ref.device == "b")
        link.tell(Push(gone, NoResponse("b said that it goes offline")))
        await rig.until(lambda: not rig.machines.devices["b"].connected)
        assert rig.machines.devices["a"].connected
        assert {s.reason for s in rig.machines.devices["b"].samples.values()} == {Reason.COMM_LOST}
        assert {s.quality for s in rig.machines.devices["a"].samples.values()} == {Quality.GOOD}
        link.tell(
            Push(gone, ReadResult([Reading(p, plc.values[p.spec.name]) for p in gone.points]))
        )
        await rig.until(lambda: rig.machines.devices["b"].connected)
        await rig.until(lambda: rig.machines.devices["b"].samples["speed"].good)

    devices = [a_device("a"), a_device("b")]
    tell(story, devices=devices, first=lambda rig: rig.seen("b", "speed"))


def test_a_replayed_value_never_overwrites_a_newer_one() -> None:
    async def story(rig: Rig, plc: FakePlc, link: FakePushLink) -> None:
        speed = point(rig, "speed")
        now = 10**18
        late = counted(SAMPLES_LATE)
        link.say(Reading(speed, 50, source_time=now))
        link.say(Reading(speed, 50, source_time=now + 5 * SECOND))
        link.say(Reading(speed, 30, source_time=now + 3 * SECOND))
        link.say(Reading(speed, 20, source_time=now - 3600 * SECOND))
        link.say(Reading(speed, 60, source_time=now + 6 * SECOND))
        await rig.until(lambda: rig.seen("pump", "speed")[-1] == 60)
        assert rig.seen("pump", "speed") == [10, 50, 60]
        assert counted(SAMPLES_LATE) - late == 2

    def first(rig: Rig) -> object:
        return rig.seen("pump", "speed") and _without_time(rig)

    tell(story, first=first)


def _without_time(rig: Rig) -> bool:
    """The first value had no time of its own; let what follows be judged by its own times only."""
    device = rig.machines.devices["pump"]
    device.samples = {n: s._replace(source_time=0) for n, s in device.samples.items()}
    return True


def test_a_device_whose_clock_was_set_back_is_not_silenced() -> None:
    async def story(rig: Rig, plc: FakePlc, link: FakePushLink) -> None:
        speed = point(rig, "speed")
        now = 2 * 10**18
        link.say(Reading(speed, 50, source_time=now), current=True)
        link.say(Reading(speed, 40, source_time=now - SECOND), current=True)  # overtaken
        link.say(Reading(speed, 30, source_time=now - 3600 * SECOND), current=True)
        await rig.until(lambda: rig.seen("pump", "speed")[-1] == 30)
        assert rig.seen("pump", "speed") == [10, 50, 30]

    tell(story)


def test_a_storm_is_coalesced_to_the_latest_values_and_trips_see_all_of_it() -> None:
    async def story(rig: Rig, plc: FakePlc, link: FakePushLink) -> None:
        temperature, speed = point(rig, "temperature"), point(rig, "speed")
        coalesced = counted(SAMPLES_COALESCED)
        plc.values["speed"] = 4999  # as the read-back of the stop will find it
        for n in range(5000):
            link.say(Reading(temperature, 90.0 if n == 3000 else 20.5 + n % 7), Reading(speed, n))
        await rig.until(rig.trip_is(TripState.VERIFIED))
        await rig.until(lambda: rig.seen("pump", "speed")[-1] == 4999, "the latest value")
        told = rig.seen("pump", "speed")
        assert len(told) < 2500
        trip = next(e.alarm for e in rig.events if isinstance(e, AlarmChanged))
        assert counted(SAMPLES_COALESCED) - coalesced > 8000
        assert trip.inputs == (("pump/temperature", 90.0, "good"),)

    tell(story, [overheat()])


def test_a_device_lost_in_a_storm_is_told_as_lost_after_what_it_said_last() -> None:
    async def story(rig: Rig, plc: FakePlc, link: FakePushLink) -> None:
        speed = point(rig, "speed")
        for n in range(1000):
            link.say(Reading(speed, n))
        request = link.followed[0]
        link.tell(Push(request, NoResponse("gone")))
        await rig.until(lambda: not rig.machines.devices["pump"].connected)
        await rig.until(lambda: any(isinstance(e, Contact) and not e.connected for e in rig.events))
        last = [
            s for e in rig.events if isinstance(e, Samples) for n, s in e.samples if n == "speed"
        ]
        assert (last[-1].value, last[-1].quality) == (999, Quality.BAD)
        assert [s.seq for s in last] == sorted(s.seq for s in last)

    tell(story)


def test_a_confirmed_value_is_not_stale_and_an_unconfirmed_one_is() -> None:
    stale = Compare(a_device().points[0].ref, Op.ABOVE, limit=85, stale_after=200 * MILLISECOND)
    rule = overheat(condition=stale, on_bad=OnBad.TRIP)

    async def story(rig: Rig, plc: FakePlc, link: FakePushLink) -> None:
        for _ in range(20):
            link.tell(Push(link.followed[0], UNCHANGED))
            await asyncio.sleep(0.02)
        assert rig.alarm() is None
        await rig.until(rig.trip_is(TripState.VERIFIED), "the trip of a stale input")

    tell(story, [rule])


def test_what_is_refused_as_a_push_is_polled() -> None:
    async def story(rig: Rig, plc: FakePlc, link: FakePushLink) -> None:
        link.refused.add("speed")
        link.tell(Push(link.followed[0], ReadResult(replan=True)))
        await rig.until(lambda: plc.reads > 3, "polls")
        plc.values["speed"] = 77
        await rig.until(lambda: rig.seen("pump", "speed")[-1] == 77)
        assert [p.spec.name for p in link.followed[0].points] == ["temperature", "run"]

    tell(story)


def test_nothing_is_written_before_everything_was_told_once() -> None:
    async def story(rig: Rig, plc: FakePlc, link: FakePushLink) -> None:
        device = rig.machines.devices["pump"]
        for scan in device.scans:
            scan.served = False
        await rig.desire("speed", 42)
        await asyncio.sleep(0.05)
        assert plc.writes == []
        link.tell(Push(link.followed[0], UNCHANGED))
        link.say(Reading(point(rig, "temperature"), 21.0))
        await rig.desire("speed", 43, version=2)
        await rig.until(lambda: plc.writes)

    tell(story)


def test_a_link_that_only_ends_is_opened_again() -> None:
    async def story(rig: Rig, plc: FakePlc, link: FakePushLink) -> None:
        for _ in range(20):
            standing = plc.links[0] if plc.links else link
            standing.fail(LinkLost("cut"))
            await rig.until(lambda old=standing: plc.links and plc.links[0] is not old)
            await rig.until(lambda: rig.machines.devices["pump"].scanned)
        names = [task.get_name() for task in asyncio.all_tasks()]
        assert len([name for name in names if name.startswith("hear")]) == 1
        assert len([name for name in names if name.startswith("ask")]) == 1

    tell(story)


def test_a_rate_over_values_that_the_device_dates_loses_none_of_them() -> None:
    """Confirmations between them, at our time, do not make the next look late."""
    rate = Compare(
        a_device().points[0].ref, Op.RATE_ABOVE, limit=3.0, window=2 * SECOND, stale_after=SECOND
    )

    async def story(rig: Rig, plc: FakePlc, link: FakePushLink) -> None:
        temperature = point(rig, "temperature")
        behind = 100 * MILLISECOND  # the device's clock, or the way of its messages
        late = 0.0
        for n in range(30):
            if n == 3:  # by then the values that had no time of their own are past
                late = counted(SAMPLES_LATE)
            at = time_ns() - behind
            link.say(Reading(temperature, 30.0 + n * 0.25, source_time=at))
            await asyncio.sleep(0.02)
            link.tell(Push(link.followed[0], UNCHANGED))
            await asyncio.sleep(0.03)
        await rig.until(rig.alarm, "the alarm of a rising temperature")
        assert counted(SAMPLES_LATE) == late

    def first(rig: Rig) -> object:
        return rig.seen("pump", "speed") and _without_time(rig)

    tell(story, [overheat(condition=rate, trip=None, on_bad=OnBad.ALARM)], first=first)
