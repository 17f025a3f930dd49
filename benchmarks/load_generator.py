"""Modbus TCP machines that cost next to nothing, so that they are never what is measured.

A bare asyncio Protocol per connection and frames packed ahead: most answers are a dict lookup,
two slices and a write. Run as a process of its own; commands come as JSON lines on stdin, events
go as JSON lines to stdout. Times are CLOCK_MONOTONIC nanoseconds, the same in every process.

Each unit has `registers` input registers from 0 on, a share of which changes every interval;
input register HOT, which a command heats and cools; and coil RUN, whose writes are reported.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import socket
import struct
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import uvloop

HOT = 1000
RUN = 0
HEATED = 1000

READ_INPUTS = 4
ON = 0xFF00
HEADER = 7
REQUEST = 12


def tell(**event: object) -> None:
    print(json.dumps(event), flush=True)


@dataclass(slots=True)
class Machine:
    """What of a unit can be changed from outside."""

    number: int
    hot: int = 0
    run: bool = True
    heated_at: int = 0

    def heat(self) -> None:
        self.hot, self.heated_at = HEATED, time.monotonic_ns()

    def cool(self) -> None:
        self.hot, self.heated_at = 0, 0

    def start(self) -> None:
        self.run = True

    def write_run(self, value: bool) -> None:  # noqa: FBT001 - a coil has no other argument
        now = time.monotonic_ns()
        first = self.run and not value and self.heated_at > 0
        self.run = value
        tell(
            event="write",
            device=self.number,
            value=value,
            hot=self.heated_at > 0,
            latency=now - self.heated_at if first else None,
            at=now,
        )


@dataclass(slots=True)
class Plant:
    """The changing registers of all machines: they all show the same values at the same time."""

    registers: int
    slices: int
    phase: int = 0
    answers: dict[bytes, Sequence[bytes]] = field(default_factory=dict)

    def tick(self) -> None:
        self.phase = (self.phase + 1) % (2 * self.slices)

    def register(self, number: int, phase: int) -> int:
        """Register `number` belongs to slice `number % slices`, which flips once a round."""
        flips = (phase - number % self.slices) // self.slices + 1
        return number * 10 + flips % 2

    def pack(self, request: bytes) -> Sequence[bytes]:
        """The answers to a read of input registers, without transaction id, one per phase."""
        _, _, unit, function, address, count = struct.unpack(">HHBBHH", request)
        if address + count > self.registers:
            refusal = struct.pack(">HHBBB", 0, 3, unit, function | 0x80, 2)
            return [refusal] * (2 * self.slices)
        head = struct.pack(">HHBBB", 0, 3 + 2 * count, unit, function, 2 * count)
        numbers = range(address, address + count)
        return [
            head + struct.pack(f">{count}H", *(self.register(n, phase) for n in numbers))
            for phase in range(2 * self.slices)
        ]


class Connection(asyncio.Protocol):
    """One client of one port, behind which there are one or more units."""

    def __init__(self, plant: Plant, machines: Sequence[Machine]) -> None:
        self.plant = plant
        self.machines = machines
        self.waiting = b""
        self.transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A stream's transport can write, though uvloop's does not derive from asyncio's.
        self.transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        if not self.waiting and len(data) == REQUEST:
            self.transport.write(data[:2] + self.answer(data[2:]))
            return
        self.waiting += data
        while len(self.waiting) >= HEADER:
            end = HEADER - 1 + int.from_bytes(self.waiting[4:6])
            if len(self.waiting) < end:
                return
            request, self.waiting = self.waiting[:end], self.waiting[end:]
            self.transport.write(request[:2] + self.answer(request[2:]))

    def answer(self, request: bytes) -> bytes:
        answers = self.plant.answers.get(request)
        if answers is None:
            unit, function, address = struct.unpack_from(">BBH", request, 4)
            if function != READ_INPUTS or address >= HOT:
                return self.answer_of_machine(self.machines[max(unit - 1, 0)], request)
            answers = self.plant.answers[request] = self.plant.pack(request)
        return answers[self.plant.phase]

    def answer_of_machine(self, machine: Machine, request: bytes) -> bytes:
        unit, function, address, argument = struct.unpack_from(">BBHH", request, 4)
        match function, address, argument:
            case (4, 1000, 1):  # HOT
                return struct.pack(">HHBBBH", 0, 5, unit, function, 2, machine.hot)
            case (1, 0, 1):  # RUN, here and below
                return struct.pack(">HHBBBB", 0, 4, unit, function, 1, machine.run)
            case (5, 0, _):
                machine.write_run(argument == ON)
                return request
            case (15, 0, 1):
                machine.write_run(bool(request[-1] & 1))
                return struct.pack(">HHBBHH", 0, 6, unit, function, address, argument)
        return struct.pack(">HHBBB", 0, 3, unit, function | 0x80, 2)


class Mute(asyncio.Protocol):
    """Accepts the connection and whatever is sent, and never says a word."""


async def serve_machines(options: argparse.Namespace, machines: Sequence[Machine]) -> list[int]:
    """One port for every `units_per_port` machines. Returns the ports, in order."""
    loop = asyncio.get_running_loop()
    plant = Plant(options.registers, max(1, round(1 / options.change)))
    ports = []
    for first in range(0, len(machines), options.units_per_port):
        behind = machines[first : first + options.units_per_port]
        server = await loop.create_server(partial(Connection, plant, behind), "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
    tick_for_ever(loop, plant, options.interval / 1000, loop.time())
    return ports


def tick_for_ever(
    loop: asyncio.AbstractEventLoop, plant: Plant, interval: float, due: float
) -> None:
    due += interval
    plant.tick()
    loop.call_at(due, tick_for_ever, loop, plant, interval, due)


async def open_dead_links(count: int, opened: AsyncExitStack) -> list[int]:
    """Ports of endpoints that are dead in three ways by turns: silent, refused, half open."""
    loop = asyncio.get_running_loop()
    ports = []
    for number in range(count):
        listener = opened.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        ports.append(listener.getsockname()[1])
        if number % 3 == 0:
            await loop.create_server(Mute, sock=listener)
        elif number % 3 == 2:
            listener.listen(0)  # the kernel completes one handshake; nobody ever accepts it
    return ports  # a socket that is bound but does not listen refuses


async def obey(machines: Sequence[Machine]) -> None:
    """Do what stdin says until it ends."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    async for line in lines:
        command = json.loads(line)
        machine = machines[command["device"]]
        getattr(machine, {"heat": "heat", "cool": "cool", "start": "start"}[command["do"]])()


async def serve(options: argparse.Namespace) -> None:
    machines = [Machine(number) for number in range(options.devices)]
    async with AsyncExitStack() as opened:
        ports = await serve_machines(options, machines)
        tell(event="ready", ports=ports, dead=await open_dead_links(options.dead, opened))
        await obey(machines)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=100)
    parser.add_argument("--registers", type=int, default=50)
    parser.add_argument("--interval", type=float, default=500, help="milliseconds")
    parser.add_argument("--change", type=float, default=0.1, help="share that changes per interval")
    parser.add_argument("--units-per-port", type=int, default=1)
    parser.add_argument("--dead", type=int, default=0, help="dead endpoints besides")
    return parser.parse_args()


def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with suppress(KeyboardInterrupt):
        uvloop.run(serve(parse_arguments()))


if __name__ == "__main__":
    main()
