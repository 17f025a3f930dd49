"""The server as an independent client (pymodbus) and as raw bytes see it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from pymodbus import FramerType
from pymodbus.client import AsyncModbusTcpClient

from twinbridge.errors import InvalidInput, Unreachable
from twinbridge_simulators.faults import Fault, FaultKind, fault, parse_fault
from twinbridge_simulators.framing import Framing, crc16
from twinbridge_simulators.modbus_server import GARBAGE, ModbusServer
from twinbridge_simulators.registers import RegisterBank, Table

READ_TWO = bytes.fromhex("000100000006010300000002")
ANSWER = bytes.fromhex("00010000000701030400110022")


def bank() -> RegisterBank:
    made = RegisterBank({0: "Maker", 1: "Product", 2: "3.1"})
    made.put(Table.HOLDING, 0, 0x11, 0x22)
    made.put(Table.HOLDING, 10, 7)
    made.put(Table.INPUT, 0, *range(125))
    made.put(Table.COIL, 0, *[0, 1] * 10)
    made.put(Table.DISCRETE, 528, 1, 0, 1)
    return made


@asynccontextmanager
async def serving(framing: Framing = Framing.TCP) -> AsyncIterator[ModbusServer]:
    async with ModbusServer("127.0.0.1", 0, {1: bank(), 2: bank()}, framing) as server:
        yield server


@asynccontextmanager
async def client(
    server: ModbusServer, framer: FramerType = FramerType.SOCKET
) -> AsyncIterator[AsyncModbusTcpClient]:
    made = AsyncModbusTcpClient(
        server.host, port=server.port, framer=framer, timeout=2, retries=0, reconnect_delay=0
    )
    assert await made.connect()
    try:
        yield made
    finally:
        made.close()


class Raw:
    """A client that sees bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def ask(self, frame: bytes = READ_TWO) -> None:
        self.writer.write(frame)

    async def bytes(self, count: int = 13) -> bytes:
        async with asyncio.timeout(5):
            return await self.reader.readexactly(count)

    async def closed(self) -> bool:
        try:
            async with asyncio.timeout(5):
                return await self.reader.read() == b""
        except ConnectionError:
            return True

    async def silent(self) -> bool:
        """Nothing comes, although the same server answers another client meanwhile."""
        try:
            async with asyncio.timeout(0.15):
                return await self.reader.read(1) == b"never"
        except TimeoutError:
            return True


@asynccontextmanager
async def raw(server: ModbusServer) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()


def run(story: Callable[[ModbusServer], Awaitable[None]], framing: Framing = Framing.TCP) -> None:
    async def told() -> None:
        async with asyncio.timeout(20), serving(framing) as server:
            await story(server)

    asyncio.run(told())


@pytest.mark.parametrize(
    ("framing", "framer"),
    [(Framing.TCP, FramerType.SOCKET), (Framing.RTU, FramerType.RTU)],
)
def test_another_makers_client_reads_and_writes_with_every_function(
    framing: Framing, framer: FramerType
) -> None:
    async def story(server: ModbusServer) -> None:
        async with client(server, framer) as c:
            assert (await c.read_coils(0, count=20, device_id=1)).bits[:20] == [False, True] * 10
            assert (await c.read_discrete_inputs(528, count=3, device_id=1)).bits[:3] == [1, 0, 1]
            assert (await c.read_holding_registers(0, count=2, device_id=1)).registers == [17, 34]
            inputs = await c.read_input_registers(0, count=125, device_id=1)
            assert inputs.registers == list(range(125))
            await c.write_coil(0, True, device_id=2)
            await c.write_coils(3, [False, True, True], device_id=2)
            assert (await c.read_coils(0, count=6, device_id=2)).bits[:6] == [1, 1, 0, 0, 1, 1]
            await c.write_register(0, 0xFFFF, device_id=2)
            await c.write_registers(0, [5, 6], device_id=2)
            await c.mask_write_register(address=1, and_mask=0xFFFE, or_mask=9, device_id=2)
            both = await c.readwrite_registers(
                read_address=0, read_count=2, write_address=10, values=[99], device_id=2
            )
            assert both.registers == [5, 7]
            assert server.units[2].get(Table.HOLDING, 10) == (99,)
            assert server.units[1].get(Table.HOLDING, 0, 2) == (17, 34)
            about = await c.read_device_information(device_id=1)
            assert about.information == {0: b"Maker", 1: b"Product", 2: b"3.1"}

    run(story, framing)


@pytest.mark.parametrize(
    ("request_pdu", "code"),
    [
        ("0300020001", 2),  # not defined
        ("0300010002", 2),  # runs out of what is defined
        ("0300000000", 3),  # none at all
        ("030000007e", 3),  # 126
        ("01000007d1", 3),  # 2001 bits
        ("0500001234", 3),  # neither on nor off
        ("100000000203000100", 3),  # byte count does not fit
        ("0300", 3),  # too short
        ("0700", 1),  # no such function
        ("2b0e0500", 3),  # no such access
    ],
)
def test_a_wrong_request_gets_the_exception_that_the_standard_names(
    request_pdu: str, code: int
) -> None:
    async def story(server: ModbusServer) -> None:
        pdu = bytes.fromhex(request_pdu)
        async with raw(server) as r:
            r.ask(struct.pack(">HHHB", 9, 0, len(pdu) + 1, 1) + pdu)
            assert await r.bytes(9) == struct.pack(">HHHBBB", 9, 0, 3, 1, pdu[0] | 0x80, code)

    run(story)


def test_requests_may_come_in_pieces_and_several_at_once() -> None:
    async def story(server: ModbusServer) -> None:
        async with raw(server) as r:
            r.ask(READ_TWO[:5])
            await asyncio.sleep(0)
            r.ask(READ_TWO[5:] + READ_TWO + READ_TWO[:1])
            assert await r.bytes(26) == ANSWER * 2
            r.ask(READ_TWO[1:])
            assert await r.bytes() == ANSWER

    run(story)


def test_an_unknown_unit_is_a_target_that_the_gateway_cannot_reach() -> None:
    async def story(server: ModbusServer) -> None:
        async with client(server) as c:
            answer = await c.read_holding_registers(0, count=1, device_id=77)
            assert answer.exception_code == 0x0B

    run(story)


def test_what_is_no_modbus_ends_the_connection() -> None:
    async def story(server: ModbusServer) -> None:
        async with raw(server) as r:
            r.ask(b"GET / HTTP/1.1\r\n\r\n")
            assert await r.closed()

    run(story)


def test_a_broadcast_on_a_serial_line_reaches_every_unit_and_is_not_answered() -> None:
    async def story(server: ModbusServer) -> None:
        write = bytes.fromhex("000600000063")
        ask = bytes.fromhex("010300000001")
        async with raw(server) as r:
            r.ask(write + crc16(write))
            r.ask(ask + crc16(ask))
            assert (await r.bytes(7))[:5] == bytes.fromhex("0103020063")
            assert server.units[2].get(Table.HOLDING, 0) == (0x63,)

    run(story, Framing.RTU)


def test_an_exception_strikes_only_the_register_that_it_names() -> None:
    async def story(server: ModbusServer) -> None:
        server.inject(fault("exception", table="holding", address=1, code=4, unit=1))
        async with client(server) as c:
            hit = await c.read_holding_registers(0, count=2, device_id=1)
            assert hit.exception_code == 4
            assert not (await c.read_holding_registers(0, count=1, device_id=1)).isError()
            assert not (await c.read_holding_registers(0, count=2, device_id=2)).isError()
            server.clear()
            assert not (await c.read_holding_registers(0, count=2, device_id=1)).isError()

    run(story)


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (FaultKind.GARBAGE, GARBAGE),
        (FaultKind.WRONG_TRANSACTION, bytes.fromhex("5554") + ANSWER[2:]),
        (FaultKind.WRONG_UNIT, ANSWER[:6] + b"\x7e" + ANSWER[7:]),
        (FaultKind.TRUNCATED, ANSWER[:7]),
    ],
)
def test_a_fault_puts_exactly_these_bytes_on_the_wire(kind: FaultKind, answer: bytes) -> None:
    async def story(server: ModbusServer) -> None:
        server.inject(fault(kind, times=1))
        async with raw(server) as r:
            r.ask()
            assert await r.bytes(len(answer)) == answer
            r.ask()
            assert await r.bytes() == ANSWER, "its one time is used up"

    run(story)


def test_silence_is_of_one_unit_and_ends_when_the_fault_is_cleared() -> None:
    async def story(server: ModbusServer) -> None:
        silent = fault("silent", unit=1)
        server.inject(silent)
        async with raw(server) as r, raw(server) as other:
            r.ask()
            assert await r.silent()
            other.ask(READ_TWO[:6] + b"\x02" + READ_TWO[7:])
            assert len(await other.bytes()) == 13
            server.clear(silent)
            r.ask()
            assert await r.bytes() == ANSWER

    run(story)


def test_a_late_answer_comes_after_the_answers_to_later_requests() -> None:
    async def story(server: ModbusServer) -> None:
        server.inject(fault("late", delay=0.1))
        async with raw(server) as r:
            r.ask()
            r.ask(b"\x00\x02" + READ_TWO[2:])
            assert (await r.bytes())[:2] == b"\x00\x02"
            assert (await r.bytes())[:2] == b"\x00\x01"

    run(story)


def test_a_slow_machine_answers_all_the_same_and_in_order() -> None:
    async def story(server: ModbusServer) -> None:
        server.inject(fault("slow", delay=0.05))
        async with raw(server) as r:
            r.ask(READ_TWO + b"\x00\x02" + READ_TWO[2:])
            assert [(await r.bytes())[1] for _answer in range(2)] == [1, 2]

    run(story)


def test_close_ends_the_connection_in_the_middle_of_a_request() -> None:
    async def story(server: ModbusServer) -> None:
        server.inject(fault("close"))
        async with raw(server) as r:
            r.ask()
            assert await r.closed()

    run(story)


def test_refuse_drops_all_clients_and_takes_no_new_one_until_it_is_cleared() -> None:
    async def story(server: ModbusServer) -> None:
        async with raw(server) as r:
            server.inject(fault("refuse"))
            assert await r.closed()
        with suppress(ConnectionError):
            async with raw(server) as r:
                assert await r.closed()
        server.clear()
        async with asyncio.timeout(5):
            while True:
                try:
                    async with raw(server) as r:
                        r.ask()
                        assert await r.bytes() == ANSWER
                    break
                except ConnectionError:
                    await asyncio.sleep(0.01)

    run(story)


def test_a_machine_of_one_client_turns_the_second_away() -> None:
    async def story(server: ModbusServer) -> None:
        server.inject(fault("one-client"))
        async with raw(server) as first:
            first.ask()
            assert await first.bytes() == ANSWER
            async with raw(server) as second:
                assert await second.closed()
            first.ask()
            assert await first.bytes() == ANSWER

    run(story)


def test_half_open_connections_stay_mute_and_new_ones_answer_once_it_is_cleared() -> None:
    async def story(server: ModbusServer) -> None:
        async with raw(server) as old:
            old.ask()
            await old.bytes()
            server.inject(fault("half-open"))
            async with raw(server) as made_meanwhile:
                made_meanwhile.ask()
                assert await made_meanwhile.silent()
            server.clear()
            old.ask()
            assert await old.silent()
            async with raw(server) as new:
                new.ask()
                assert await new.bytes() == ANSWER

    run(story)


def test_a_frozen_register_keeps_its_value_though_the_write_is_acknowledged() -> None:
    async def story(server: ModbusServer) -> None:
        server.units[1].freeze(Table.HOLDING, 0)
        async with client(server) as c:
            assert not (await c.write_registers(0, [1, 2], device_id=1)).isError()
            assert (await c.read_holding_registers(0, count=2, device_id=1)).registers == [17, 2]
            server.units[1].thaw()
            await c.write_register(0, 1, device_id=1)
            assert (await c.read_holding_registers(0, count=1, device_id=1)).registers == [1]

    run(story)


def test_a_port_in_use_is_said_with_its_address() -> None:
    async def story(server: ModbusServer) -> None:
        with pytest.raises(Unreachable, match=rf"127\.0\.0\.1:{server.port}"):
            async with ModbusServer("127.0.0.1", server.port, {}):
                pass

    run(story)


def test_a_fault_is_written_as_machine_kind_and_where() -> None:
    machine, found = parse_fault("pump-1=exception,code=4,table=input,address=7")
    assert machine == "pump-1"
    assert found == fault("exception", code=4, table="input", address=7)
    assert isinstance(found, Fault)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("pump-1", "MACHINE=KIND"),
        ("pump-1=melt", "overheat"),
        ("pump-1=slow,delay=soon", "delay"),
        ("pump-1=exception,adress=4", "adress"),
        ("=slow", "MACHINE=KIND"),
    ],
)
def test_a_wrong_fault_says_what_is_wrong(text: str, named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        parse_fault(text)
