"""What people read: why a machine was stopped, and that a link is lost, once."""

from __future__ import annotations

import asyncio

from rig import a_device, a_plc, overheat, running
from structlog.testing import capture_logs

from twinbridge.core.model import MILLISECOND, SECOND, PropertyRef
from twinbridge.core.rule import Compare, OnBad, Op


def test_a_trip_by_a_lost_link_does_not_claim_what_nobody_knows() -> None:
    async def story() -> None:
        plc = a_plc()
        rule = overheat(
            on_bad=OnBad.TRIP,
            message="the pump is too hot",
            condition=Compare(
                PropertyRef("pump", "temperature"), Op.ABOVE, limit=85, stale_after=SECOND
            ),
        )
        async with running({"plc": plc}, [a_device()], [rule]) as rig:
            await rig.until(lambda: rig.seen("pump", "run"))
            plc.reachable = False
            await rig.until(lambda: rig.alarm() is not None)
            alarm = rig.alarm()
            assert alarm is not None
            assert alarm.message.startswith("the pump is too hot, or it is not known: pump/temp")

    asyncio.run(story())


def test_a_trip_by_silence_says_that_the_value_is_old() -> None:
    async def story() -> None:
        plc = a_plc()
        limit = Compare(
            PropertyRef("pump", "temperature"), Op.ABOVE, limit=85, stale_after=MILLISECOND
        )
        rule = overheat(on_bad=OnBad.TRIP, message="the pump is too hot", condition=limit)
        async with running({"plc": plc}, [a_device(interval=200 * MILLISECOND)], [rule]) as rig:
            await rig.until(lambda: rig.alarm() is not None)
            alarm = rig.alarm()
            assert alarm is not None
            if alarm.inputs[0][1] is not None:
                assert alarm.message.endswith("pump/temperature is 20.0 (stale)")
                assert alarm.inputs == (("pump/temperature", 20.0, "bad"),)
            else:
                assert alarm.message.endswith("pump/temperature is unknown (bad)")

    asyncio.run(story())


def test_a_trip_by_what_was_seen_says_just_that() -> None:
    async def story() -> None:
        plc = a_plc()
        async with running(
            {"plc": plc}, [a_device()], [overheat(message="the pump is too hot")]
        ) as rig:
            await rig.until(lambda: rig.seen("pump", "run"))
            plc.values["temperature"] = 90.0
            await rig.until(lambda: rig.alarm() is not None)
            alarm = rig.alarm()
            assert alarm is not None
            assert alarm.message == "the pump is too hot"

    asyncio.run(story())


def test_an_outage_is_said_once_at_its_beginning_and_once_at_its_end() -> None:
    async def story() -> None:
        plc = a_plc()
        with capture_logs() as said:
            async with running({"plc": plc}, [a_device()]) as rig:
                for outage in (1, 2):
                    await rig.until(lambda: rig.machines.devices["pump"].connected)
                    plc.reachable = False
                    tries = plc.opened
                    await rig.until(lambda: not rig.machines.devices["pump"].connected)
                    await rig.until(lambda before=tries: plc.opened >= before)
                    plc.reachable = True
                    await rig.until(lambda: rig.machines.devices["pump"].connected)
                    told = [(e["log_level"], e["event"]) for e in said if e["log_level"] != "debug"]
                    assert told.count(("warning", "link lost")) == outage
                    assert told.count(("info", "link is back")) == outage

    asyncio.run(story())
