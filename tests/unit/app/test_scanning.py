from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from rig import a_device

from twinbridge.app.clock import Doorbell
from twinbridge.app.device import Device, Scan, Station
from twinbridge.app.scanning import Schedule, late, phase
from twinbridge.core.model import MILLISECOND, SECOND
from twinbridge.testing.fake_driver import FakeRequest


def a_scan(interval: int = 100 * MILLISECOND, name: str = "pump", station: str = "1") -> Scan:
    spec = a_device(name)
    return Scan(Device.of(spec, Station(station)), FakeRequest(spec.points), interval)


def a_schedule(*scans: Scan) -> Schedule:
    schedule = Schedule()
    schedule.fill(scans)
    return schedule


@given(st.lists(st.integers(0, 30 * MILLISECOND), min_size=3, max_size=50))
def test_a_scan_keeps_its_rhythm_whatever_its_polls_take(durations: list[int]) -> None:
    scan = a_scan()
    schedule = a_schedule(scan)
    schedule.advance(scan, 0)
    first = scan.due
    for turn, took in enumerate(durations, start=1):
        schedule.advance(scan, scan.due + took)
        assert scan.due == first + turn * scan.interval


def test_a_scan_that_falls_behind_leaves_turns_out_and_counts_them() -> None:
    scan = a_scan()
    schedule = a_schedule(scan)
    schedule.advance(scan, 0)
    due = scan.due
    assert schedule.advance(scan, due + 350 * MILLISECOND) == 2
    assert scan.due == due + 300 * MILLISECOND


@given(st.text(alphabet="abcdef-0123456789", min_size=1, max_size=20))
def test_the_first_turn_moves_a_scan_to_its_own_phase(name: str) -> None:
    scan = a_scan(name=name)
    assert scan.interval // 2 <= phase(scan) < scan.interval // 2 + scan.interval
    assert phase(scan) == phase(a_scan(name=name))


def test_phases_are_spread_over_the_interval() -> None:
    phases = {phase(a_scan(SECOND, f"pump-{n}")) // (SECOND // 10) for n in range(200)}
    assert len(phases) == 10


def test_a_silent_station_is_left_alone_and_the_others_are_not() -> None:
    silent, lively = a_scan(station="1"), a_scan(station="2")
    schedule = a_schedule(silent, lively)
    silent.device.station.silent_until = SECOND
    schedule.postpone(silent.device.station)
    assert schedule.due(0) is lively
    schedule.advance(lively, 0)
    assert schedule.due(SECOND - 1) is lively
    assert silent.due == SECOND


def test_a_station_that_answers_again_is_asked_everything_now() -> None:
    one, other = a_scan(), a_scan()
    other.device.station = one.device.station
    schedule = a_schedule(one, other)
    one.device.station.silent_until = 5 * SECOND
    schedule.postpone(one.device.station)
    schedule.recall(one, SECOND)
    assert schedule.due(SECOND) is other
    assert one.due == 5 * SECOND


def test_lateness_is_a_tenth_of_the_interval_but_no_less_than_twenty_milliseconds() -> None:
    slow, fast = a_scan(SECOND), a_scan(20 * MILLISECOND)
    assert not late(slow, 100 * MILLISECOND)
    assert late(slow, 101 * MILLISECOND)
    assert not late(fast, 20 * MILLISECOND)
    assert late(fast, 21 * MILLISECOND)


def test_a_ring_before_the_wait_is_not_lost() -> None:
    async def scenario() -> None:
        bell = Doorbell()
        bell.ring()
        await asyncio.wait_for(bell.wait(None), 5)

    asyncio.run(scenario())


def test_a_ring_wakes_a_waiter_before_its_deadline() -> None:
    async def scenario() -> None:
        bell = Doorbell()
        asyncio.get_running_loop().call_soon(bell.ring)
        await asyncio.wait_for(bell.wait(60), 5)

    asyncio.run(scenario())
