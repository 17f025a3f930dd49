"""A link or a PLC that misbehaves: it alone turns bad, nothing is mixed up, and it comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from line import bank, device, mark, plant, serving

from twinbridge.testing.proxy import FaultProxy, flip_bits
from twinbridge_simulators.faults import Fault, FaultKind, fault
from twinbridge_simulators.modbus_server import ModbusServer

FAULTS: dict[str, Fault] = {
    "silent": fault(FaultKind.SILENT),
    "late": fault(FaultKind.LATE, delay=0.25, times=10_000),
    "garbage": fault(FaultKind.GARBAGE),
    "close": fault(FaultKind.CLOSE),
    "wrong transaction": fault(FaultKind.WRONG_TRANSACTION),
    "wrong unit": fault(FaultKind.WRONG_UNIT),
    "truncated": fault(FaultKind.TRUNCATED),
    "refused": fault(FaultKind.REFUSE),
    "half-open": fault(FaultKind.HALF_OPEN),
    **{
        f"exception {code:02X}": fault(FaultKind.EXCEPTION, code=code)
        for code in (0x04, 0x06, 0x0A, 0x0B)
    },
}


@pytest.mark.parametrize("broken", FAULTS.values(), ids=FAULTS)
def test_a_plc_in_trouble_turns_bad_alone_and_comes_back(broken: Fault, tmp_path: Path) -> None:
    async def story() -> None:
        async with (
            ModbusServer("127.0.0.1", 0, {1: bank(1)}) as sick,
            ModbusServer("127.0.0.1", 0, {2: bank(2)}) as well,
        ):
            loaded = plant(tmp_path / "y", device("a", sick.port, 1), device("b", well.port, 2))
            async with serving(loaded, tmp_path) as line:
                await line.is_good("a", "b")
                sick.inject(broken)
                await line.is_lost("a")
                polls = well.requests
                await line.within(lambda: well.requests > polls + 5, "the neighbour is polled on")
                sick.clear()
                await line.is_good("a")
                assert not line.bad_told("b")
                line.assert_nothing_mixed_up({"a": 1, "b": 2})

    asyncio.run(story())


@pytest.mark.parametrize("kind", [FaultKind.SILENT, FaultKind.WRONG_TRANSACTION, FaultKind.LATE])
def test_a_unit_in_trouble_does_not_take_its_gateway_with_it(
    kind: FaultKind, tmp_path: Path
) -> None:
    async def story() -> None:
        async with ModbusServer("127.0.0.1", 0, {1: bank(1), 2: bank(2)}) as gateway:
            loaded = plant(
                tmp_path / "y", device("a", gateway.port, 1), device("b", gateway.port, 2)
            )
            async with serving(loaded, tmp_path) as line:
                await line.is_good("a", "b")
                gateway.inject(fault(kind, unit=1, delay=0.25, times=10_000))
                await line.is_lost("a")
                before = line.machines.devices["b"].last_contact
                await line.within(
                    lambda: line.machines.devices["b"].last_contact > before, "b polled on"
                )
                assert not line.bad_told("b")
                line.assert_nothing_mixed_up({"a": 1, "b": 2})

    asyncio.run(story())


def test_a_plc_that_is_absent_at_start_is_good_once_it_is_there(tmp_path: Path) -> None:
    async def story() -> None:
        async with (
            ModbusServer("127.0.0.1", 0, {1: bank(1)}) as server,
            FaultProxy("127.0.0.1", server.port) as proxy,
        ):
            proxy.refuse()
            async with serving(plant(tmp_path / "y", device("a", proxy.port)), tmp_path) as line:
                await line.is_lost("a")
                await proxy.listen()
                await line.is_good("a")
                assert line.told("a")["r20"] == {mark(1, 20)}

    asyncio.run(story())


def half_open(proxy: FaultProxy) -> None:
    proxy.faults.half_open = True


def cut_in_frames(proxy: FaultProxy) -> None:
    proxy.faults.close_mid_frame = 5


def vanish(proxy: FaultProxy) -> None:
    proxy.refuse()
    proxy.cut()


def too_slow(proxy: FaultProxy) -> None:
    proxy.faults.delay = 0.4


@pytest.mark.parametrize("spoil", [half_open, cut_in_frames, vanish, too_slow])
def test_a_bad_cable_loses_its_device_until_it_is_mended(
    spoil: Callable[[FaultProxy], None], tmp_path: Path
) -> None:
    async def story() -> None:
        async with (
            ModbusServer("127.0.0.1", 0, {1: bank(1), 2: bank(2)}) as server,
            FaultProxy("127.0.0.1", server.port) as proxy,
        ):
            loaded = plant(tmp_path / "y", device("a", proxy.port), device("b", server.port, 2))
            async with serving(loaded, tmp_path) as line:
                await line.is_good("a", "b")
                spoil(proxy)
                await line.is_lost("a")
                proxy.faults.half_open = False
                proxy.faults.close_mid_frame = None
                proxy.faults.delay = 0
                await proxy.listen()
                await line.is_good("a")
                assert not line.bad_told("b")
                line.assert_nothing_mixed_up({"a": 1, "b": 2})

    asyncio.run(story())


def test_noise_between_answers_is_never_a_value(tmp_path: Path) -> None:
    noise = bytes.fromhex("00010000000b010308ffffffffffffffff")

    async def story() -> None:
        async with (
            ModbusServer("127.0.0.1", 0, {1: bank(1)}) as server,
            FaultProxy("127.0.0.1", server.port) as proxy,
        ):
            loaded = plant(tmp_path / "y", device("a", proxy.port))
            async with serving(loaded, tmp_path) as line:
                await line.is_good("a")
                for _ in range(20):
                    proxy.inject(noise)
                    polls = server.requests
                    await line.within(lambda n=polls: server.requests > n, "polled on")
                await line.is_good("a")
                line.assert_nothing_mixed_up({"a": 1})

    asyncio.run(story())


def test_flipped_bits_end_in_a_good_device_once_the_cable_is_sound(tmp_path: Path) -> None:
    """TCP has no checksum of Modbus: a flipped value bit is a value; the rest must hold."""

    async def story() -> None:
        async with (
            ModbusServer("127.0.0.1", 0, {1: bank(1), 2: bank(2)}) as server,
            FaultProxy("127.0.0.1", server.port) as proxy,
        ):
            loaded = plant(tmp_path / "y", device("a", proxy.port), device("b", server.port, 2))
            async with serving(loaded, tmp_path) as line:
                await line.is_good("a", "b")
                proxy.faults.garble = flip_bits(3)
                polls = server.requests
                await line.within(lambda: server.requests > polls + 50, "goes on")
                proxy.faults.garble = None
                await line.within(
                    lambda: (
                        line.good("a")
                        and line.machines.devices["a"].samples["r5"].value == mark(1, 5)
                    ),
                    "right again",
                )
                assert not line.bad_told("b")

    asyncio.run(story())


def test_a_plc_that_serves_one_client_only_is_polled_by_one(tmp_path: Path) -> None:
    async def story() -> None:
        async with ModbusServer("127.0.0.1", 0, {1: bank(1), 2: bank(2)}) as server:
            server.inject(fault(FaultKind.ONE_CLIENT))
            loaded = plant(tmp_path / "y", device("a", server.port), device("b", server.port, 2))
            async with serving(loaded, tmp_path) as line:
                await line.is_good("a", "b")
                assert len(server.connections) == 1

    asyncio.run(story())


@pytest.mark.parametrize("code", [1, 2, 3])
def test_one_register_that_is_refused_costs_its_property_only(code: int, tmp_path: Path) -> None:
    async def story() -> None:
        async with ModbusServer("127.0.0.1", 0, {1: bank(1)}) as server:
            loaded = plant(tmp_path / "y", device("a", server.port))
            async with serving(loaded, tmp_path) as line:
                await line.is_good("a")
                server.inject(fault(FaultKind.EXCEPTION, code=code, table="holding", address=20))
                samples = line.machines.devices["a"].samples
                await line.within(
                    lambda: [n for n, s in samples.items() if not s.good] == ["r20"], "r20 alone"
                )

    asyncio.run(story())
