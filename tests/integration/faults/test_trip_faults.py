"""A trip whose machine cannot be reached, and a wall clock that jumps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from line import RUN, TEMPERATURE, bank, device, hot_rule, plant, serving

from twinbridge.core.alarm import TripState
from twinbridge.testing.proxy import FaultProxy
from twinbridge_simulators.modbus_server import ModbusServer
from twinbridge_simulators.registers import Table

HOUR = 3_600_000_000_000


def down(proxy: FaultProxy) -> None:
    proxy.refuse()
    proxy.cut()


def silent(proxy: FaultProxy) -> None:
    proxy.faults.half_open = True


def closing(proxy: FaultProxy) -> None:
    proxy.faults.close_mid_frame = 3


@pytest.mark.parametrize("spoil", [down, silent, closing])
def test_a_stop_that_cannot_be_written_fails_aloud_and_is_written_once_it_can(
    spoil: Callable[[FaultProxy], None], tmp_path: Path
) -> None:
    async def story() -> None:
        pump = bank(1)
        async with (
            ModbusServer("127.0.0.1", 0, {1: pump}) as server,
            ModbusServer("127.0.0.1", 0, {2: bank(2)}) as watched,
            FaultProxy("127.0.0.1", server.port) as proxy,
        ):
            loaded = plant(
                tmp_path / "y",
                device("a", proxy.port, 1),
                device("b", watched.port, 2),
                hot_rule("b", on="a"),
            )
            async with serving(loaded, tmp_path) as line:
                await line.is_good("a", "b")
                spoil(proxy)
                await line.is_lost("a")
                watched.units[2].put(Table.HOLDING, TEMPERATURE, 90)
                await line.within(line.trip_is(TripState.FAILED), "the trip failed")
                proxy.faults.half_open = False
                proxy.faults.close_mid_frame = None
                await proxy.listen()
                await line.within(line.trip_is(TripState.VERIFIED), "the trip verified")
                assert pump.get(Table.COIL, RUN) == (0,)

    asyncio.run(story())


class SteppedClock:
    """The system's clocks, with a wall clock that somebody sets."""

    def __init__(self) -> None:
        self.step = 0

    def wall(self) -> int:
        return time.time_ns() + self.step

    def mono(self) -> int:
        return time.monotonic_ns()


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_wall_clock_that_is_set_fires_nothing_and_clears_nothing(
    step: int, tmp_path: Path
) -> None:
    async def story() -> None:
        clock = SteppedClock()
        async with ModbusServer("127.0.0.1", 0, {1: bank(1), 2: bank(2)}) as server:
            loaded = plant(
                tmp_path / "y",
                device("a", server.port, 1),
                device("b", server.port, 2),
                hot_rule("a"),
            )
            async with serving(loaded, tmp_path, clock) as line:
                await line.is_good("a", "b")
                clock.step = step
                polls = server.requests
                await line.within(lambda: server.requests > polls + 20, "polled on")
                assert line.alarm() is None
                assert not line.bad_told("a")
                server.units[1].put(Table.HOLDING, TEMPERATURE, 90)
                await line.within(line.trip_is(TripState.VERIFIED), "the trip verified")
                clock.step = 0
                polls = server.requests
                await line.within(lambda: server.requests > polls + 20, "polled on")
                alarm = line.alarm()
                assert alarm is not None
                assert alarm.tripped

    asyncio.run(story())


def test_a_reload_keeps_the_trip_and_disturbs_no_neighbour(tmp_path: Path) -> None:
    async def story() -> None:
        async with (
            ModbusServer("127.0.0.1", 0, {1: bank(1)}) as server,
            ModbusServer("127.0.0.1", 0, {2: bank(2)}) as beside,
        ):
            parts = device("b", beside.port, 2), hot_rule("a")
            loaded = plant(tmp_path / "y", device("a", server.port), *parts)
            async with serving(loaded, tmp_path) as line:
                await line.is_good("a", "b")
                server.units[1].put(Table.HOLDING, TEMPERATURE, 90)
                await line.within(line.trip_is(TripState.VERIFIED), "the trip verified")
                kept = set(beside.connections)
                edited = plant(tmp_path / "y", device("a", server.port, interval="60ms"), *parts)
                line.machines.apply(edited.devices, edited.instances)
                await line.is_good("a")
                assert set(beside.connections) == kept
                server.units[1].put(Table.COIL, RUN, 1)
                await line.within(
                    lambda: server.units[1].get(Table.COIL, RUN) == (0,), "stopped again"
                )
                assert not line.bad_told("b")

    asyncio.run(story())
