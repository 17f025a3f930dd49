"""How often a silent unit is asked again."""

from __future__ import annotations

import asyncio

import pytest
from rig import a_device, a_plc, running

from twinbridge.app.device import Station
from twinbridge.app.worker import Worker


def waits(devices: int, silent: int, took: float, questions: int = 12) -> list[float]:
    """Seconds between the questions to one silent unit, among `devices` units behind one link."""
    found: list[float] = []

    async def scenario() -> None:
        plc = a_plc("0")
        for n in range(devices):
            plc.values.update(a_plc(str(n)).values)
        specs = [a_device(f"d{n}", unit=str(n)) for n in range(devices)]
        async with running({"plc": plc}, specs) as rig:
            worker: Worker = next(iter(rig.machines._workers.values()))
            stations = [d.station for d in rig.machines.devices.values()]
            for station in stations[1:silent]:
                station.failures = 3
            found.extend(ask(worker, stations[0], took) for _ in range(questions))

    def ask(worker: Worker, station: Station, took: float) -> float:
        station.failures += 1
        return worker._probe_after(station, took)

    asyncio.run(scenario())
    return found


def test_the_only_unit_of_a_link_is_asked_again_within_five_seconds() -> None:
    found = waits(1, 1, took=1.0)
    assert found[0] < 0.5
    assert max(found) < 5


@pytest.mark.parametrize(("silent", "took"), [(1, 0.5), (3, 0.5), (1, 1.0), (4, 1.0)])
def test_silent_units_together_cost_a_shared_link_a_tenth_of_its_time(
    silent: int, took: float
) -> None:
    settled = waits(6, silent, took)[-1]
    assert silent * took / settled <= 0.1


def test_a_silent_unit_behind_a_gateway_is_asked_at_least_once_a_minute() -> None:
    assert waits(20, 19, took=3.0)[-1] == 60
