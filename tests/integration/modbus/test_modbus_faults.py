"""What a device, or something that pretends to be one, may do to the link."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from frame_server import Asked, FrameServer, frame_server
from modbus_rig import connection, opened, point, run, scan, values, word

from twinbridge.core.model import Quality, Reason
from twinbridge.errors import (
    DeviceBusy,
    DeviceError,
    DeviceFault,
    LinkLost,
    NoResponse,
    WriteRejected,
)
from twinbridge.ports import UNCHANGED
from twinbridge_modbus import link as link_module

if TYPE_CHECKING:
    from collections.abc import Callable

Fault = Any


def first_only(act: Callable[[Asked], object]) -> Fault:
    """A fault of the very first request."""

    async def fault(asked: Asked, _writer: asyncio.StreamWriter) -> object:
        return act(asked) if asked.number == 1 else NotImplemented

    return fault


def test_a_late_answer_never_becomes_another_points_value() -> None:
    late = asyncio.Event()

    async def fault(asked: Asked, writer: asyncio.StreamWriter) -> object:
        if asked.number == 1:
            return None
        if asked.number == 2 and not late.is_set():
            late.set()
            # the answer to the first request comes before that to the second
            writer.write(asked.frame(b"\x03\x02\x00\x6f", tid=asked.tid - 1))
        return NotImplemented

    async def test() -> None:
        async with frame_server(FrameServer({0: 111, 500: 222}, fault)) as server:
            wire = connection(server.port)
            a, b = word("a", 0, wire), word("b", 500, wire)
            async with opened(wire) as link:
                first, second = link.plan([a, b])
                with pytest.raises(NoResponse):
                    await link.read(first)
                assert [r.value for r in (await link.read(second)).readings] == [222]
                assert [r.value for r in (await link.read(first)).readings] == [111]
            assert server.connections == 2

    run(test())


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda a: a.frame(b"\x03\x02\0\1", tid=a.tid + 1), id="wrong transaction"),
        pytest.param(lambda a: a.frame(b"\x03\x02\0\1", unit=a.unit + 1), id="wrong unit"),
        pytest.param(lambda a: a.frame(b"\x04\x02\0\1"), id="wrong function"),
        pytest.param(lambda a: a.frame(b"\x84\x02"), id="exception of another function"),
        pytest.param(lambda a: a.frame(b"\x03\x01\0"), id="short byte count"),
        pytest.param(lambda a: a.frame(b"\x03\x04\0\1\0\2"), id="long byte count"),
        pytest.param(lambda a: a.frame(b"\x03\x02\0"), id="cut short"),
        pytest.param(lambda a: a.frame(b"\x03"), id="no byte count"),
        pytest.param(lambda _: b"\xde\xad\xbe\xef" * 5, id="garbage"),
        pytest.param(lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n", id="another protocol"),
        pytest.param(lambda _: None, id="silence"),
    ],
)
def test_a_wrong_answer_is_no_value_and_the_next_read_is_right(spoil: Fault) -> None:
    async def test() -> None:
        async with frame_server(FrameServer({0: 7}, first_only(spoil))) as server:
            wire = connection(server.port)
            async with opened(wire) as link:
                (request,) = link.plan([word("a", 0, wire)])
                with pytest.raises(NoResponse):
                    await link.read(request)
                assert [r.value for r in (await link.read(request)).readings] == [7]
            assert server.connections == 2

    run(test())


def test_a_connection_that_ends_during_a_request_is_lost() -> None:
    def close(_: Asked) -> object:
        raise ConnectionError

    async def test() -> None:
        async with frame_server(FrameServer({0: 7}, first_only(close))) as server:
            wire = connection(server.port)
            async with opened(wire) as link:
                with pytest.raises(LinkLost):
                    await scan(link, [word("a", 0, wire)])

    run(test())


def test_an_answer_in_single_bytes_is_put_together() -> None:
    async def fault(asked: Asked, writer: asyncio.StreamWriter) -> object:
        for byte in asked.frame(b"\x03\x02\x00\x2a"):
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(0)
        return None

    async def test() -> None:
        async with frame_server(FrameServer(fault=fault)) as server:
            wire = connection(server.port)
            async with opened(wire) as link:
                assert await values(link, [word("a", 0, wire)]) == {"a": 42}

    run(test())


def test_an_endpoint_that_refuses_is_lost_and_named() -> None:
    async def test() -> None:
        async with frame_server(FrameServer()) as server:
            port = server.port
        with pytest.raises(LinkLost, match=f"127.0.0.1:{port}"):
            async with opened(connection(port)):
                pass

    run(test())


def test_a_silent_unit_fails_alone_behind_its_gateway() -> None:
    async def fault(asked: Asked, _writer: asyncio.StreamWriter) -> object:
        return None if asked.unit == 2 else NotImplemented

    async def test() -> None:
        async with frame_server(FrameServer({0: 7}, fault)) as server:
            one, two = connection(server.port, unit=1), connection(server.port, unit=2)
            async with opened(one) as link:
                alive, dead = link.plan([word("a", 0, one), word("b", 0, two)])
                for _ in range(2):
                    with pytest.raises(NoResponse, match="unit 2"):
                        await link.read(dead)
                    await link.read(alive)
                assert (await link.read(alive)) is UNCHANGED

    run(test())


@pytest.mark.parametrize(
    ("code", "error", "text"),
    [
        (0x04, DeviceFault, "server device failure (04)"),
        (0x05, DeviceBusy, "acknowledged"),
        (0x06, DeviceBusy, "busy (06)"),
        (0x08, DeviceFault, "memory parity error (08)"),
        (0x0A, NoResponse, "gateway: path unavailable (0A)"),
        (0x0B, NoResponse, "gateway: target device failed to respond (0B)"),
        (0x63, DeviceFault, "exception (63)"),
    ],
)
def test_an_exception_is_said_and_the_connection_kept(
    code: int, error: type[DeviceError], text: str
) -> None:
    async def test() -> None:
        fault = first_only(lambda a: a.refused(code))
        async with frame_server(FrameServer({0: 7}, fault)) as server:
            wire = connection(server.port)
            async with opened(wire) as link:
                (request,) = link.plan([word("a", 0, wire)])
                with pytest.raises(error) as raised:
                    await link.read(request)
                assert text in str(raised.value)
                assert len((await link.read(request)).readings) == 1
            assert server.connections == 1

    run(test())


def refusing(*addresses: int, code: int = 2) -> Fault:
    """Registers that the device does not have."""

    async def fault(asked: Asked, _writer: asyncio.StreamWriter) -> object:
        wanted = range(asked.address, asked.address + (asked.count if asked.pdu[0] < 5 else 1))
        hit = any(a in wanted for a in addresses)
        return asked.refused(code) if hit else NotImplemented

    return fault


@pytest.mark.parametrize("code", [1, 2, 3])
def test_only_the_point_that_is_refused_turns_bad(code: int) -> None:
    async def test() -> None:
        server = FrameServer({n: n for n in range(10)}, refusing(6, code=code))
        async with frame_server(server):
            wire = connection(server.port)
            points = [word(f"p{n}", n, wire) for n in range(10)]
            async with opened(wire) as link:
                (request,) = link.plan(points)
                found = await link.read(request)
                assert found.replan
                by_name = {r.point.spec.name: r for r in found.readings}
                assert len(by_name) == 10
                bad = by_name.pop("p6")
                assert (bad.quality, bad.reason) == (Quality.BAD, Reason.NOT_READ)
                assert f"(0{code})" in bad.message
                assert {n: r.value for n, r in by_name.items()} == {
                    f"p{n}": n for n in range(10) if n != 6
                }
                before = len(server.asked)
                again = await scan(link, points)
                assert again["p6"].quality is Quality.BAD
                assert all(r.quality is Quality.GOOD for n, r in again.items() if n != "p6")
                # two blocks around the bad register, which itself is left alone
                assert len(server.asked) - before == 2
            assert server.connections == 1

    run(test())


def test_a_refused_gap_is_never_crossed_again() -> None:
    async def test() -> None:
        server = FrameServer({0: 1, 4: 2}, refusing(2))
        async with frame_server(server):
            wire = connection(server.port)
            points = [word("a", 0, wire), word("b", 4, wire)]
            async with opened(wire) as link:
                assert await values(link, points) == {"a": 1, "b": 2}
                before = len(server.asked)
                assert await values(link, points) == {"a": 1, "b": 2}
                assert [a.address for a in server.asked[before:]] == [0, 4]

    run(test())


def test_a_refused_point_is_asked_again_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(link_module, "monotonic", lambda: clock[0])

    async def test() -> None:
        server = FrameServer({0: 1, 1: 2}, refusing(1))
        async with frame_server(server):
            wire = connection(server.port)
            points = [word("a", 0, wire), word("b", 1, wire)]
            async with opened(wire) as link:
                assert (await values(link, points))["b"] is None
                server.fault = None
                assert (await values(link, points))["b"] is None
                clock[0] += 61
                assert (await values(link, points))["b"] == 2
                (request,) = link.plan(points)
                assert list(request.points) == points

    run(test())


def test_a_device_that_refuses_everything_ends_with_every_point_bad() -> None:
    async def test() -> None:
        server = FrameServer(fault=refusing(*range(100)))
        async with frame_server(server):
            wire = connection(server.port)
            points = [word(f"p{n}", n, wire) for n in range(40)]
            async with opened(wire) as link:
                for _ in range(20):
                    found = await scan(link, points)
                    assert len(found) == 40
                    assert all(r.quality is Quality.BAD for r in found.values())
                before = len(server.asked)
                await scan(link, points)
                assert len(server.asked) == before

    run(test())


def test_unchanged_registers_are_confirmed_and_only_changes_are_told() -> None:
    async def test() -> None:
        async with frame_server(FrameServer({n: n for n in range(50)})) as server:
            wire = connection(server.port)
            points = [word(f"p{n}", n, wire) for n in range(50)]
            async with opened(wire) as link:
                (request,) = link.plan(points)
                assert len((await link.read(request)).readings) == 50
                assert await link.read(request) is UNCHANGED
                server.registers[17] = 1000
                changed = (await link.read(request)).readings
                assert [(r.point.spec.name, r.value) for r in changed] == [("p17", 1000)]

    run(test())


def test_a_bad_value_is_told_each_time_until_it_is_good() -> None:
    async def test() -> None:
        async with frame_server(FrameServer({0: 0x8000, 1: 5})) as server:
            wire = connection(server.port)
            bad = point("a", "int", wire, address=0, encoding="int16", invalidValues=[0x8000])
            async with opened(wire) as link:
                (request,) = link.plan([bad, word("b", 1, wire)])
                await link.read(request)
                for _ in range(2):
                    (only,) = (await link.read(request)).readings
                    assert (only.point, only.reason) == (bad, Reason.OUT_OF_RANGE)
                server.registers[0] = 3
                (only,) = (await link.read(request)).readings
                assert (only.point, only.value) == (bad, 3)
                assert await link.read(request) is UNCHANGED

    run(test())


def test_a_scale_factor_that_changes_changes_its_value() -> None:
    async def test() -> None:
        async with frame_server(FrameServer({0: 1234, 300: 0xFFFE, 5: 0xFFFF})) as server:
            wire = connection(server.port)
            far = point(
                "far", "float", wire, address=0, encoding="int16", scaleFactor={"address": 300}
            )
            near = point(
                "near", "float", wire, address=0, encoding="int16", scaleFactor={"address": 5}
            )
            async with opened(wire) as link:
                assert await values(link, [far]) == {"far": 12.34}
                (request,) = link.plan([near])
                assert [r.value for r in (await link.read(request)).readings] == [123.4]
                server.registers[5] = 1
                assert [r.value for r in (await link.read(request)).readings] == [12340.0]
                await link.write(far, 0.5)
            assert server.registers[0] == 50

    run(test())


def test_after_an_error_a_success_tells_everything_again() -> None:
    async def test() -> None:
        async with frame_server(FrameServer({0: 7})) as server:
            wire = connection(server.port)
            async with opened(wire) as link:
                (request,) = link.plan([word("a", 0, wire)])
                await link.read(request)

                async def fault(asked: Asked, _writer: asyncio.StreamWriter) -> object:
                    return asked.refused(4)

                server.fault = fault
                with pytest.raises(DeviceFault):
                    await link.read(request)
                server.fault = None
                assert [r.value for r in (await link.read(request)).readings] == [7]

    run(test())


def test_a_cancelled_read_leaves_the_link_sound() -> None:
    reached = asyncio.Event()

    async def fault(asked: Asked, _writer: asyncio.StreamWriter) -> object:
        if asked.number == 1:
            reached.set()
            return None
        return NotImplemented

    async def test() -> None:
        async with frame_server(FrameServer({0: 7}, fault)) as server:
            wire = connection(server.port)
            async with opened(wire) as link:
                (request,) = link.plan([word("a", 0, wire)])
                async with asyncio.TaskGroup() as group:
                    reading = group.create_task(link.read(request), name="read")
                    await reached.wait()
                    reading.cancel()
                assert [r.value for r in (await link.read(request)).readings] == [7]

    run(test())


@pytest.mark.parametrize("code", [1, 2, 3])
def test_a_refused_write_is_rejected_and_not_repeated(code: int) -> None:
    async def test() -> None:
        server = FrameServer(fault=refusing(0, code=code))
        async with frame_server(server):
            wire = connection(server.port)
            async with opened(wire) as link:
                with pytest.raises(WriteRejected, match=rf"\(0{code}\)"):
                    await link.write(word("a", 0, wire), 1)
            assert len(server.asked) == 1

    run(test())


@pytest.mark.parametrize(("pulse", "asked"), [(False, 4), (True, 1)])
def test_a_busy_device_is_asked_again_but_never_for_a_pulse(
    *, pulse: bool, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "BUSY_PAUSE", 0.0)

    async def busy(asked: Asked, _writer: asyncio.StreamWriter) -> object:
        return asked.refused(6)

    async def test() -> None:
        async with frame_server(FrameServer(fault=busy)) as server:
            wire = connection(server.port)
            async with opened(wire) as link:
                with pytest.raises(DeviceBusy):
                    await link.write(word("a", 0, wire, pulse=pulse), 1)
            assert len(server.asked) == asked

    run(test())


def test_a_write_that_is_not_echoed_is_no_success() -> None:
    async def test() -> None:
        fault = first_only(lambda a: a.frame(b"\x06\0\0\0\x63"))
        async with frame_server(FrameServer(fault=fault)) as server:
            wire = connection(server.port)
            async with opened(wire) as link:
                with pytest.raises(NoResponse, match="not acknowledged"):
                    await link.write(word("a", 0, wire), 1)

    run(test())


@pytest.mark.parametrize(("mask", "functions"), [(True, [22]), (False, [3, 6])])
def test_a_bit_is_written_alone(*, mask: bool, functions: list[int]) -> None:
    async def test() -> None:
        async with frame_server(FrameServer({0: 0b1010})) as server:
            wire = connection(server.port, maskWrite=mask)
            async with opened(wire) as link:
                await link.write(point("run", "bool", wire, address=0, bit=0), True)
            assert server.registers[0] == 0b1011
            assert [a.pdu[0] for a in server.asked] == functions

    run(test())


@pytest.mark.parametrize(
    ("function", "code"), [(None, 6), ("single", 6), ("multiple", 16), ("readWrite", 23)]
)
def test_the_function_that_the_address_names_writes(function: str | None, code: int) -> None:
    async def test() -> None:
        async with frame_server(FrameServer()) as server:
            wire = connection(server.port)
            more = {"writeFunction": function} if function else {}
            async with opened(wire) as link:
                await link.write(word("a", 3, wire, **more), 77)
            assert server.registers[3] == 77
            assert [a.pdu[0] for a in server.asked] == [code]

    run(test())


def test_a_value_that_does_not_fit_is_rejected_before_the_wire() -> None:
    async def test() -> None:
        async with frame_server(FrameServer()) as server:
            wire = connection(server.port)
            async with opened(wire) as link:
                with pytest.raises(WriteRejected, match="0 to 65535"):
                    await link.write(word("a", 0, wire), 70000)
            assert server.asked == []

    run(test())


def test_a_device_for_a_single_client_is_left_free_between_polls() -> None:
    async def test() -> None:
        left = asyncio.Event()

        class Watched(FrameServer):
            async def serve(self, r: asyncio.StreamReader, w: asyncio.StreamWriter) -> None:
                await super().serve(r, w)
                left.set()

        async with frame_server(Watched({0: 7})) as server:
            wire = connection(server.port, closeAfterPoll=True)
            async with opened(wire) as link:
                assert await values(link, [word("a", 0, wire)]) == {"a": 7}
                await left.wait()
                assert await values(link, [word("a", 0, wire)]) == {"a": 7}
            assert server.connections == 2

    run(test())


def test_a_peer_that_closed_while_idle_is_connected_to_again() -> None:
    async def test() -> None:
        closed = asyncio.Event()

        async def fault(asked: Asked, writer: asyncio.StreamWriter) -> object:
            if asked.number == 1:
                writer.write(asked.frame(b"\x03\x02\0\7"))
                await writer.drain()
                writer.close()
                closed.set()
                return None
            return NotImplemented

        async with frame_server(FrameServer({0: 7}, fault)) as server:
            wire = connection(server.port)
            async with opened(wire) as link:
                (request,) = link.plan([word("a", 0, wire)])
                await link.read(request)
                await closed.wait()
                await asyncio.sleep(0.05)
                assert await link.read(request) is UNCHANGED
            assert server.connections == 2

    run(test())
