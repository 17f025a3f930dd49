"""A Modbus/TCP server on bare asyncio, whose every byte a test decides."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

Answer: TypeAlias = bytes | None


@dataclass
class Asked:
    """One request as it came. `number` counts over all connections from 1."""

    tid: int
    unit: int
    pdu: bytes
    number: int
    connection: int

    @property
    def address(self) -> int:
        return int.from_bytes(self.pdu[1:3], "big")

    @property
    def count(self) -> int:
        return int.from_bytes(self.pdu[3:5], "big")

    def frame(self, pdu: bytes, *, tid: int | None = None, unit: int | None = None) -> bytes:
        head = struct.pack(">HHH", self.tid if tid is None else tid, 0, len(pdu) + 1)
        return head + bytes((self.unit if unit is None else unit,)) + pdu

    def refused(self, code: int) -> bytes:
        return self.frame(bytes((self.pdu[0] | 0x80, code)))


@dataclass
class FrameServer:
    """Holds registers; `faults` are asked first and may answer anything instead.

    A fault returns bytes to send, None to stay silent, or raises ConnectionError to close.
    Returning NotImplemented leaves the answer to the registers.
    """

    registers: dict[int, int] = field(default_factory=dict)
    fault: Callable[[Asked, asyncio.StreamWriter], Awaitable[object]] | None = None
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = self.connections
        try:
            while True:
                tid, _, length, unit = struct.unpack(">HHHB", await reader.readexactly(7))
                pdu = await reader.readexactly(length - 1)
                asked = Asked(tid, unit, pdu, len(self.asked) + 1, connection)
                self.asked.append(asked)
                answer = await self.answer(asked, writer)
                if isinstance(answer, bytes):
                    writer.write(answer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def answer(self, asked: Asked, writer: asyncio.StreamWriter) -> object:
        if self.fault is not None:
            answer = await self.fault(asked, writer)
            if answer is not NotImplemented:
                return answer
        return asked.frame(self.honest(asked))

    def honest(self, asked: Asked) -> bytes:
        function = asked.pdu[0]
        if function in (3, 4):
            values = [self.registers.get(asked.address + i, 0) for i in range(asked.count)]
            return struct.pack(f">BB{asked.count}H", function, 2 * asked.count, *values)
        if function == 6:
            self.registers[asked.address] = asked.count
            return asked.pdu
        if function == 22:
            _, address, and_mask, or_mask = struct.unpack(">BHHH", asked.pdu)
            old = self.registers.get(address, 0)
            self.registers[address] = old & and_mask | or_mask & ~and_mask & 0xFFFF
            return asked.pdu
        if function == 23:
            _, first, count, at, many, _size = struct.unpack(">BHHHHB", asked.pdu[:10])
            for i, value in enumerate(struct.unpack(f">{many}H", asked.pdu[10:])):
                self.registers[at + i] = value
            values = [self.registers.get(first + i, 0) for i in range(count)]
            return struct.pack(f">BB{count}H", 23, 2 * count, *values)
        if function == 16:
            for i in range(asked.count):
                at = 6 + 2 * i
                self.registers[asked.address + i] = int.from_bytes(asked.pdu[at : at + 2], "big")
            return asked.pdu[:5]
        return bytes((function | 0x80, 1))


@asynccontextmanager
async def frame_server(server: FrameServer) -> AsyncIterator[FrameServer]:
    """Serves on a free port of the loopback."""
    listening = await asyncio.start_server(server.serve, "127.0.0.1", server.port)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
