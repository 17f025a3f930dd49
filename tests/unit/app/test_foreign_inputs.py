"""Rules that read devices of other processes: what is told, what is silent, what is lost."""

from __future__ import annotations

import asyncio

import pytest
from rig import a_device, a_plc, overheat, running

from twinbridge.core.alarm import TripState
from twinbridge.core.messages import Contact, Samples
from twinbridge.core.model import MILLISECOND, SECOND, PropertyRef, Quality, Reason, Sample
from twinbridge.core.rule import Compare, OnBad, Op, RuleInstance

STEAM = PropertyRef("boiler", "temperature")


def steam(on_bad: OnBad = OnBad.IGNORE, stale_after: int = SECOND) -> RuleInstance:
    """Stops the pump at 150 °C of a boiler that another process serves."""
    return overheat(
        rule="steam",
        condition=Compare(STEAM, Op.ABOVE, limit=150, stale_after=stale_after),
        on_bad=on_bad,
    )


def told(value: float, seq: int = 1, quality: Quality = Quality.GOOD) -> Samples:
    reason = Reason.NONE if quality is Quality.GOOD else Reason.COMM_LOST
    return Samples("boiler", (("temperature", Sample(value, quality, reason, seq, seq)),))


def contact(*, connected: bool) -> Contact:
    return Contact("boiler", connected, 1, "" if connected else "cable pulled")


def test_a_value_of_another_process_trips_a_machine_of_this_one() -> None:
    async def story() -> None:
        plc = a_plc()
        async with running({"plc": plc}, [a_device()], [steam()]) as rig:
            await rig.until(lambda: rig.seen("pump", "run"))
            rig.machines.hear([told(149.9)])
            rig.machines.hear([told(150.0, 2)])
            await rig.until(lambda: plc.values["run"] is False)
            alarm = rig.alarm("steam")
            assert alarm is not None
            assert alarm.inputs == (("boiler/temperature", 150.0, "good"),)

    asyncio.run(story())


def test_what_came_at_once_is_judged_in_order() -> None:
    async def story() -> None:
        plc = a_plc()
        async with running({"plc": plc}, [a_device()], [steam()]) as rig:
            await rig.until(lambda: rig.seen("pump", "run"))
            rig.machines.hear([told(151.0), told(20.0, 2)])
            await rig.until(lambda: plc.values["run"] is False)

    asyncio.run(story())


@pytest.mark.parametrize("on_bad", [OnBad.TRIP, OnBad.ALARM, OnBad.IGNORE])
def test_silence_is_treated_as_the_rule_says(on_bad: OnBad) -> None:
    async def story() -> None:
        plc = a_plc()
        rule = steam(on_bad, stale_after=300 * MILLISECOND)
        async with running({"plc": plc}, [a_device()], [rule]) as rig:
            await rig.until(lambda: rig.seen("pump", "run"))
            rig.machines.hear([told(20.0)])
            if on_bad is OnBad.TRIP:
                await rig.until(lambda: plc.values["run"] is False)
            elif on_bad is OnBad.ALARM:
                await rig.until(lambda: rig.alarm("steam.inputs"))
                assert plc.values["run"] is True
            else:
                await asyncio.sleep(0.6)  # nothing is to happen
                assert rig.alarm("steam") is None
                assert plc.values["run"] is True

    asyncio.run(story())


def test_a_contact_confirms_what_was_good() -> None:
    async def story() -> None:
        plc = a_plc()
        rule = steam(OnBad.TRIP, stale_after=400 * MILLISECOND)
        async with running({"plc": plc}, [a_device()], [rule]) as rig:
            rig.machines.hear([told(20.0)])
            for _ in range(8):
                await asyncio.sleep(0.1)
                rig.machines.hear([contact(connected=True)])
            assert rig.alarm("steam") is None
            await rig.until(lambda: plc.values["run"] is False, "silence trips")

    asyncio.run(story())


def test_a_lost_contact_is_bad_at_once() -> None:
    async def story() -> None:
        plc = a_plc()
        rule = steam(OnBad.TRIP, stale_after=3600 * SECOND)
        async with running({"plc": plc}, [a_device()], [rule]) as rig:
            rig.machines.hear([told(20.0)])
            rig.machines.hear([contact(connected=False)])
            await rig.until(lambda: plc.values["run"] is False)
            alarm = rig.alarm("steam")
            assert alarm is not None
            assert alarm.inputs == (("boiler/temperature", 20.0, "bad"),)

    asyncio.run(story())


def test_a_dropped_rule_is_not_fed_any_more_and_comes_back_fresh() -> None:
    async def story() -> None:
        plc = a_plc()
        async with running({"plc": plc}, [a_device()], [steam()]) as rig:
            await rig.until(lambda: rig.seen("pump", "run"))
            rig.machines.apply({"pump": a_device()}, [])
            rig.machines.hear([told(200.0)])
            rig.machines.apply({"pump": a_device()}, [steam()])
            assert rig.alarm("steam") is None
            rig.machines.hear([told(200.0, 2)])
            await rig.until(rig.trip_is_of("steam", TripState.VERIFIED))

    asyncio.run(story())


def test_a_device_that_comes_to_this_process_is_read_here() -> None:
    async def story() -> None:
        plc, boiler = a_plc(), a_plc()
        async with running({"plc": plc, "kettle": boiler}, [a_device()], [steam()]) as rig:
            await rig.until(lambda: rig.seen("pump", "run"))
            rig.machines.hear([told(20.0)])
            own = {"pump": a_device(), "boiler": a_device("boiler", plc="kettle")}
            rig.machines.apply(own, [steam()])
            await rig.until(lambda: rig.seen("boiler", "temperature"))
            boiler.values["temperature"] = 151.0
            await rig.until(rig.trip_is_of("steam", TripState.VERIFIED))

    asyncio.run(story())
