"""What a link warns of is an alarm before it is a failure."""

from __future__ import annotations

import asyncio

import pytest
from rig import Rig, a_plc, running

from twinbridge.app import machines
from twinbridge.core.messages import Acknowledge
from twinbridge.core.rule import Severity
from twinbridge.testing.fake_driver import FakePlc

EXPIRY = "certificate-expiry"


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "CAUTIONS_EVERY", 0.01)


async def warned(rig: Rig, plc: FakePlc) -> None:
    plc.cautions[EXPIRY] = "the certificate of this edge ends on 2026-12-01"
    await rig.until(lambda: rig.alarm(EXPIRY), "the alarm")


def test_a_caution_is_one_alarm_until_it_is_over() -> None:
    async def scenario() -> None:
        plc = a_plc()
        async with running({"plc": plc}) as rig:
            await warned(rig, plc)
            first = rig.alarm(EXPIRY)
            assert first is not None
            assert (first.device, first.severity, first.active) == ("pump", Severity.HIGH, True)
            assert "2026-12-01" in first.message
            await asyncio.sleep(0.1)
            assert rig.alarm(EXPIRY) is first
            plc.cautions.clear()
            await rig.until(lambda: (a := rig.alarm(EXPIRY)) is not None and not a.active)

    asyncio.run(scenario())


def test_a_link_that_is_down_neither_raises_nor_clears_it() -> None:
    async def scenario() -> None:
        plc = a_plc()
        async with running({"plc": plc}) as rig:
            await warned(rig, plc)
            plc.reachable = False
            await rig.until(lambda: not rig.machines.devices["pump"].connected)
            plc.cautions.clear()
            await asyncio.sleep(0.1)
            alarm = rig.alarm(EXPIRY)
            assert alarm is not None
            assert alarm.active

    asyncio.run(scenario())


def test_an_acknowledged_caution_stays_acknowledged_while_it_lasts() -> None:
    async def scenario() -> None:
        plc = a_plc()
        async with running({"plc": plc}) as rig:
            await warned(rig, plc)
            alarm = rig.alarm(EXPIRY)
            assert alarm is not None
            await rig.machines.handle(Acknowledge(alarm.id, "anna", "ordered"))
            await asyncio.sleep(0.1)
            again = rig.alarm(EXPIRY)
            assert again is not None
            assert again.id == alarm.id
            assert again.acked

    asyncio.run(scenario())
