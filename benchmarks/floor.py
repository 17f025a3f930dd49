"""What the same work costs at least: a bare pymodbus + uvloop loop that decodes with struct.

Reads the blocks that TwinBridge reads, at the same interval, on as many connections; keeps the
values of the last poll and nothing else. With `--armed` the first devices' HOT register is read
every `--trip-interval`, and coil RUN written the moment it is above the limit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import signal
import struct
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress

import uvloop
from load_generator import HOT, RUN
from pymodbus.client import AsyncModbusTcpClient

LIMIT = 500
BLOCK = 125


class Floor:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.values: dict[int, list[tuple[int, ...]]] = defaultdict(list)
        self.polls = 0
        self.late = 0

    async def every(
        self, interval: float, offset: float, step: Callable[[], Awaitable[None]]
    ) -> None:
        """Await `step()` on a fixed grid; count what begins late as TwinBridge does."""
        loop = asyncio.get_running_loop()
        due = loop.time() + offset
        allowed = max(interval / 10, 0.020)
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            if loop.time() - due > allowed:
                self.late += 1
            await step()
            due = max(due + interval, loop.time())

    async def serve_device(self, number: int, port: int, unit: int) -> None:
        client = AsyncModbusTcpClient("127.0.0.1", port=port, timeout=0.5, retries=0)
        await client.connect()
        registers = self.options.registers
        blocks = [(at, min(BLOCK, registers - at)) for at in range(0, registers, BLOCK)]

        async def poll() -> None:
            values = []
            for address, count in blocks:
                answer = await client.read_input_registers(address, count=count, device_id=unit)
                packed = struct.pack(f">{count}H", *answer.registers)
                values.append(struct.unpack(f">{count}h", packed))
                self.polls += 1
            self.values[number] = values

        tripped = False

        async def watch() -> None:
            nonlocal tripped
            answer = await client.read_input_registers(HOT, count=1, device_id=unit)
            hot = answer.registers[0] > LIMIT
            if hot and not tripped:
                await client.write_coil(RUN, False, device_id=unit)
            tripped = hot

        interval = self.options.interval / 1000
        offset = interval * number / self.options.devices
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.every(interval, offset, poll), name=f"poll {number}")
            if number < self.options.armed:
                fast = self.options.trip_interval / 1000
                tasks.create_task(self.every(fast, offset % fast, watch), name=f"watch {number}")

    async def run(self) -> None:
        """Until SIGTERM; a device that fails ends it all. SIGUSR1 asks for the counts."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)  # type: ignore[union-attr]  # it runs in one
        loop.add_signal_handler(signal.SIGUSR1, self.tell)
        shared = self.options.units_per_port
        with suppress(asyncio.CancelledError):
            async with asyncio.TaskGroup() as devices:
                for number in range(self.options.devices):
                    port, unit = self.options.ports[number // shared], number % shared + 1
                    work = self.serve_device(number, port, unit)
                    devices.create_task(work, name=f"device {number}")

    def tell(self) -> None:
        print(json.dumps({"polls": self.polls, "late": self.late}), flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=100)
    parser.add_argument("--registers", type=int, default=50)
    parser.add_argument("--interval", type=float, default=500, help="milliseconds")
    parser.add_argument("--units-per-port", type=int, default=1)
    parser.add_argument("--armed", type=int, default=0)
    parser.add_argument("--trip-interval", type=float, default=20, help="milliseconds")
    parser.add_argument("ports", type=int, nargs="+")
    return parser.parse_args()


def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvloop.run(Floor(parse_arguments()).run())


if __name__ == "__main__":
    main()
