"""Rules that read machines behind several links and stop one behind another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import pytest
from rig import Rig, a_device, a_plc, overheat, running

from twinbridge.core.alarm import TripState
from twinbridge.core.messages import Desire, ResetTrip
from twinbridge.core.model import MILLISECOND, SECOND, PropertyRef
from twinbridge.core.rule import Act, Compare, Mode, OnBad, Op, RuleInstance, Trip, Vote, Write
from twinbridge.errors import Interlocked, ResetRefused
from twinbridge.testing.fake_driver import FakePlc

Plcs = dict[str, FakePlc]
Story = Callable[[Rig, Plcs], Awaitable[None]]
NAMES = ("boiler", "press", "pump")


def hot(device: str = "boiler", **more: object) -> Compare:
    fields: dict[str, object] = {"limit": 85.0, "deadband": 5.0, "stale_after": SECOND}
    return Compare(PropertyRef(device, "temperature"), Op.ABOVE, **{**fields, **more})  # type: ignore[arg-type]  # a test's shorthand


def stops_the_pump(**more: object) -> RuleInstance:
    return overheat("pump", **{"condition": hot(), **more})


def tell(story: Story, *rules: RuleInstance, reading_itself: Iterable[str] = ()) -> None:
    """Three machines, each behind a link of its own; those named speak by themselves."""

    async def told() -> None:
        plcs = {name: a_plc() for name in NAMES}
        for name in reading_itself:
            plcs[name].links = []
        devices = [a_device(name, plc=name) for name in NAMES]
        async with running(plcs, devices, rules) as rig:
            await rig.until(lambda: all(rig.seen(name, "speed") for name in NAMES))
            await story(rig, plcs)

    asyncio.run(asyncio.wait_for(told(), 30))


def test_a_temperature_behind_one_link_stops_a_motor_behind_another() -> None:
    async def story(rig: Rig, plcs: Plcs) -> None:
        plcs["boiler"].values["temperature"] = 90.0
        await rig.until(rig.trip_is(TripState.VERIFIED))
        assert plcs["pump"].writes == [("run", False)]
        assert plcs["boiler"].writes == []
        alarm = rig.alarm()
        assert alarm is not None
        assert alarm.device == "pump"
        assert alarm.inputs == (("boiler/temperature", 90.0, "good"),)

    tell(story, stops_the_pump())


def test_a_machine_that_speaks_by_itself_stops_one_that_is_polled() -> None:
    async def story(rig: Rig, plcs: Plcs) -> None:
        links = plcs["boiler"].links
        assert links
        (request,) = links[0].followed
        plcs["boiler"].values["temperature"] = 90.0
        links[0].follow([request])
        await rig.until(rig.trip_is(TripState.VERIFIED))
        assert plcs["pump"].writes == [("run", False)]

    tell(story, stops_the_pump(), reading_itself=["boiler"])


@pytest.mark.parametrize(
    ("on_bad", "stopped"), [(OnBad.TRIP, True), (OnBad.ALARM, False), (OnBad.IGNORE, False)]
)
def test_when_the_inputs_link_is_lost_on_bad_decides(on_bad: OnBad, *, stopped: bool) -> None:
    async def story(rig: Rig, plcs: Plcs) -> None:
        plcs["boiler"].reachable = False
        await rig.until(lambda: not rig.machines.devices["boiler"].connected)
        if stopped:
            await rig.until(rig.trip_is(TripState.VERIFIED))
        elif on_bad is OnBad.ALARM:
            await rig.until(lambda: rig.alarm("overheat.inputs"))
        assert plcs["pump"].writes == ([("run", False)] if stopped else [])

    tell(story, stops_the_pump(on_bad=on_bad))


def test_two_of_three_machines_vote_and_a_lost_one_votes_to_trip() -> None:
    vote = Vote(2, tuple(hot(name) for name in NAMES))

    async def story(rig: Rig, plcs: Plcs) -> None:
        plcs["boiler"].values["temperature"] = 90.0
        await rig.until(lambda: 90.0 in rig.seen("boiler", "temperature"))
        assert rig.alarm() is None
        plcs["press"].values["temperature"] = 91.0
        await rig.until(rig.trip_is(TripState.VERIFIED))
        assert plcs["pump"].writes == [("run", False)]

    tell(story, stops_the_pump(condition=vote))


def test_a_deviation_between_machines_of_two_links() -> None:
    apart = Compare(
        PropertyRef("boiler", "temperature"),
        Op.DEVIATION,
        limit=30.0,
        reference=PropertyRef("press", "temperature"),
        stale_after=SECOND,
    )

    async def story(rig: Rig, plcs: Plcs) -> None:
        plcs["boiler"].values["temperature"] = 45.0
        await rig.until(lambda: 45.0 in rig.seen("boiler", "temperature"))
        assert rig.alarm() is None
        plcs["press"].values["temperature"] = 10.0
        await rig.until(rig.trip_is(TripState.VERIFIED))

    tell(story, stops_the_pump(condition=apart))


def test_a_stop_waits_for_a_link_that_is_down_and_is_written_when_it_is_back() -> None:
    async def story(rig: Rig, plcs: Plcs) -> None:
        pump = plcs["pump"]
        pump.reachable = False
        await rig.until(lambda: not rig.machines.devices["pump"].connected)
        plcs["boiler"].values["temperature"] = 90.0
        await rig.until(rig.trip_is(TripState.FAILED))
        assert pump.writes == []
        pump.reachable = True
        await rig.until(rig.trip_is(TripState.VERIFIED))
        assert pump.writes[0] == ("run", False)

    tell(story, stops_the_pump())


def test_one_trip_stops_machines_behind_two_links_and_holds_both() -> None:
    writes = (
        Write(PropertyRef("pump", "run"), value=False),
        Write(PropertyRef("press", "run"), value=False),
    )

    async def story(rig: Rig, plcs: Plcs) -> None:
        plcs["boiler"].values["temperature"] = 90.0
        await rig.until(rig.trip_is(TripState.VERIFIED))
        assert plcs["pump"].writes == [("run", False)]
        assert plcs["press"].writes == [("run", False)]
        for device in ("pump", "press"):
            with pytest.raises(Interlocked):
                await rig.machines.handle(Desire(device, "run", True, 1, "test", 0))

    tell(story, stops_the_pump(trip=Trip(writes, 100 * MILLISECOND)))


def test_no_reset_while_the_other_machine_is_hot_or_out_of_sight() -> None:
    async def story(rig: Rig, plcs: Plcs) -> None:
        boiler = plcs["boiler"]
        boiler.values["temperature"] = 90.0
        await rig.until(rig.trip_is(TripState.VERIFIED))
        alarm = rig.alarm()
        assert alarm is not None
        reset = ResetTrip(alarm.id, "anna", "looked at it")
        with pytest.raises(ResetRefused):
            await rig.machines.handle(reset)
        boiler.reachable = False
        boiler.values["temperature"] = 20.0
        await rig.until(lambda: not rig.machines.devices["boiler"].connected)
        with pytest.raises(ResetRefused):
            await rig.machines.handle(reset)
        boiler.reachable = True
        await rig.until(lambda: rig.machines.devices["boiler"].samples["temperature"].value == 20.0)
        await rig.until(lambda: rig.machines.devices["boiler"].samples["temperature"].good)
        await rig.machines.handle(reset)
        assert plcs["pump"].writes == [("run", False)]

    tell(story, stops_the_pump())


def test_a_removed_input_device_counts_as_never_read() -> None:
    async def story(rig: Rig, plcs: Plcs) -> None:
        rest = {n: d.spec for n, d in rig.machines.devices.items() if n != "boiler"}
        rig.machines.apply(rest, [rule])
        await rig.until(rig.trip_is(TripState.VERIFIED))
        assert plcs["pump"].writes == [("run", False)]

    rule = stops_the_pump(on_bad=OnBad.TRIP)
    tell(story, rule)


def test_a_dry_run_over_two_links_writes_nothing() -> None:
    async def story(rig: Rig, plcs: Plcs) -> None:
        plcs["boiler"].values["temperature"] = 90.0
        await rig.until(rig.trip_is(TripState.WOULD_TRIP))
        assert plcs["pump"].writes == []

    tell(story, stops_the_pump(mode=Mode.DRY_RUN))


def test_an_automation_on_another_machine_yields_to_a_trip_there() -> None:
    cool = Act((Write(PropertyRef("pump", "run"), value=True),))
    fan_on = overheat(
        "press", rule="cool", condition=hot("press"), trip=None, act=cool, on_bad=OnBad.ALARM
    )

    async def story(rig: Rig, plcs: Plcs) -> None:
        plcs["boiler"].values["temperature"] = 90.0
        await rig.until(rig.trip_is(TripState.VERIFIED))
        plcs["press"].values["temperature"] = 90.0
        await rig.until(lambda: rig.alarm("cool"))
        await asyncio.sleep(0.1)
        assert plcs["pump"].writes == [("run", False)]

    tell(story, stops_the_pump(), fan_on)
