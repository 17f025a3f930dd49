"""Commands that come again, writes that are withheld, and everything told once more."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rig import Rig, a_device, a_plc, overheat, running

from twinbridge.core.messages import (
    AlarmChanged,
    Contact,
    Desire,
    DesiredState,
    Outcome,
    Samples,
    SetMode,
    TellAll,
)
from twinbridge.core.model import PropertyRef
from twinbridge.core.rule import Act, Compare, Mode, OnBad, Op, Write
from twinbridge.errors import Unreachable
from twinbridge.ports import StoredState
from twinbridge.testing.fake_driver import FakePlc


def speed(version: int, *, epoch: str = "e", accepted: int = 0) -> Desire:
    return Desire("pump", "speed", 100 + version, version, "test", accepted or version, epoch=epoch)


async def settled(rig: Rig, desire: Desire) -> Outcome:
    def found() -> list[Outcome]:
        return [o for o in rig.outcomes() if (o.version, o.epoch) == (desire.version, desire.epoch)]

    await rig.until(found)
    return found()[-1]


def writes(plc: FakePlc) -> Counter[object]:
    return Counter(value for name, value in plc.writes if name == "speed")


def test_a_command_that_comes_again_is_answered_again_and_written_once() -> None:
    async def story() -> None:
        plc = a_plc()
        async with running({"plc": plc}, [a_device()]) as rig:
            for _ in range(3):
                await rig.machines.handle(speed(1))
            first = await settled(rig, speed(1))
            before = len(rig.outcomes())
            await rig.machines.handle(speed(1))
            await rig.until(lambda: len(rig.outcomes()) > before)
            assert rig.outcomes()[-1] == first._replace(at=rig.outcomes()[-1].at)
            assert rig.outcomes()[-1].at > first.at
            assert writes(plc) == {101: 1}

    asyncio.run(story())


def test_an_older_command_has_no_effect_and_no_answer() -> None:
    async def story() -> None:
        plc = a_plc()
        async with running({"plc": plc}, [a_device()]) as rig:
            await rig.machines.handle(speed(2))
            await settled(rig, speed(2))
            await rig.machines.handle(speed(1))
            await rig.machines.handle(speed(3))
            await settled(rig, speed(3))
            assert writes(plc) == {102: 1, 103: 1}

    asyncio.run(story())


def test_versions_of_another_agents_life_begin_anew() -> None:
    async def story() -> None:
        plc = a_plc()
        async with running({"plc": plc}, [a_device()]) as rig:
            await rig.machines.handle(speed(7))
            await settled(rig, speed(7))
            await rig.machines.handle(speed(1, epoch="another"))
            await settled(rig, speed(1, epoch="another"))
            assert writes(plc) == {107: 1, 101: 1}

    asyncio.run(story())


def test_versions_of_a_device_that_went_and_came_back_begin_anew() -> None:
    async def story() -> None:
        plc = a_plc()
        async with running({"plc": plc}, [a_device()]) as rig:
            await rig.machines.handle(speed(7, accepted=7))
            await settled(rig, speed(7))
            await rig.machines.handle(speed(1, accepted=8))
            await settled(rig, speed(1))
            assert writes(plc) == {107: 1, 101: 1}

    asyncio.run(story())


def test_what_became_of_it_is_known_across_a_restart() -> None:
    async def story() -> None:
        plc = a_plc()
        known = Outcome("pump", "speed", 3, DesiredState.APPLIED, "", 5, "e")
        async with running({"plc": plc}, []) as rig:
            rig.machines.start(StoredState(outcomes=[known]), {"pump": a_device()}, [])
            await rig.until(lambda: rig.seen("pump", "speed"))
            await rig.machines.handle(speed(3))
            await rig.until(lambda: [o._replace(at=known.at) for o in rig.outcomes()] == [known])
            assert not writes(plc)

    asyncio.run(story())


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=25))
def test_in_any_order_a_version_is_written_at_most_once_and_never_after_a_newer(
    order: list[int],
) -> None:
    async def story() -> None:
        plc = a_plc()
        async with running({"plc": plc}, [a_device()]) as rig:
            for version in order:
                await rig.machines.handle(speed(version))
            await settled(rig, speed(max(order)))
            written = [value for name, value in plc.writes if name == "speed"]
            assert written == sorted(set(written), key=lambda value: int(str(value)))

    asyncio.run(story())


def test_while_writes_are_withheld_trips_go_on_and_nothing_else() -> None:
    async def story() -> None:
        plc = a_plc()
        fan = overheat(
            rule="fan",
            condition=Compare(PropertyRef("pump", "temperature"), Op.ABOVE, limit=30),
            on_bad=OnBad.IGNORE,
            trip=None,
            act=Act((Write(PropertyRef("pump", "speed"), 700),)),
        )
        async with running({"plc": plc}, [a_device()], [overheat(), fan]) as rig:
            await rig.until(lambda: rig.seen("pump", "run"))
            rig.machines.withhold("another driver may have it")
            with pytest.raises(Unreachable, match="another driver"):
                await rig.machines.handle(speed(1))
            plc.values["temperature"] = 90.0
            await rig.until(lambda: plc.values["run"] is False)
            assert not writes(plc)
            rig.machines.withhold("")
            await rig.until(lambda: writes(plc) == {700: 1})
            await rig.machines.handle(speed(1))
            await settled(rig, speed(1))

    asyncio.run(story())


@pytest.mark.parametrize("change", ["dropped", "disabled"])
def test_what_a_rule_wanted_is_not_written_when_it_is_gone_meanwhile(change: str) -> None:
    async def story() -> None:
        plc = a_plc()
        fan = overheat(
            rule="fan",
            condition=Compare(PropertyRef("pump", "temperature"), Op.ABOVE, limit=30),
            on_bad=OnBad.IGNORE,
            trip=None,
            act=Act((Write(PropertyRef("pump", "speed"), 700),)),
        )
        async with running({"plc": plc}, [a_device()], [fan]) as rig:
            await rig.until(lambda: rig.seen("pump", "run"))
            rig.machines.withhold("another driver may have it")
            plc.values["temperature"] = 90.0
            await rig.until(lambda: rig.alarm("fan"))
            if change == "dropped":
                rig.machines.apply({"pump": a_device()}, [])
            else:
                await rig.machines.handle(SetMode("fan", Mode.DISABLED, "anna"))
            rig.machines.withhold("")
            await rig.machines.handle(speed(1))
            await settled(rig, speed(1))
            assert writes(plc) == {101: 1}

    asyncio.run(story())


def test_telling_all_tells_what_stands_and_disturbs_nothing() -> None:
    async def story() -> None:
        plc = a_plc()
        async with running({"plc": plc}, [a_device()], [overheat()]) as rig:
            plc.values["temperature"] = 90.0
            await rig.until(lambda: plc.values["run"] is False)
            await rig.until(lambda: rig.alarm() is not None)
            await rig.until(lambda: rig.seen("pump", "run")[-1:] == [False])
            rig.events.clear()
            await rig.machines.handle(TellAll())
            await rig.until(lambda: any(isinstance(e, Contact) for e in rig.events))
            await rig.until(lambda: any(isinstance(e, AlarmChanged) for e in rig.events))
            told = [e for e in rig.events if isinstance(e, Samples)]
            assert {name for name, _ in told[0].samples} == {"temperature", "run", "speed"}
            stops = plc.writes.count(("run", False))
            await rig.machines.handle(TellAll(("pump", "nothing")))
            assert plc.writes.count(("run", False)) == stops

    asyncio.run(story())
