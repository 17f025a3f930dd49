"""An OPC UA server that heats up on command, and a Modbus machine that is to be stopped for it.

Both in one process, on one clock. Reads lines: `heat`, `cool`. Prints `{"opcua": port, "modbus":
port}` first, then `{"latency_ms": …}` whenever the coil is written false after `heat`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from contextlib import suppress
from datetime import UTC
from time import perf_counter_ns

import uvloop
from asyncua import ua
from asyncua.server.server import Server
from rig import free_port

NAMESPACE = "urn:twinbridge:benchmark"
COLD, HOT = 20.0, 90.0
_WRITE_COIL = 5


class Machines:
    def __init__(self) -> None:
        self.heated = 0
        self.running = True
        self.node = ua.NodeId()
        self.server = Server()

    async def run(self) -> None:
        """Until SIGTERM."""
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        port = free_port()
        await self.server.init()
        self.server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
        self.server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        index = await self.server.register_namespace(NAMESPACE)
        self.node = ua.NodeId.from_string(f"ns={index};s=temperature")
        await self.server.nodes.objects.add_variable(self.node, "temperature", COLD)
        modbus = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        with suppress(asyncio.CancelledError):
            async with self.server, modbus:
                there = modbus.sockets[0].getsockname()[1]
                print(json.dumps({"opcua": port, "modbus": there}), flush=True)
                await self.obey()

    async def obey(self) -> None:
        commands = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        async for line in commands:
            hot = line.strip() == b"heat"
            self.running = True
            value = ua.DataValue(
                ua.Variant(HOT if hot else COLD, ua.VariantType.Double),
                SourceTimestamp=ua.DateTime.now(UTC),
            )
            self.heated = perf_counter_ns() if hot else 0
            await self.server.write_attribute_value(self.node, value)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Coil 0 over Modbus TCP: read by function 1, written by function 5."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readexactly(7)
                pdu = await reader.readexactly(int.from_bytes(head[4:6], "big") - 1)
                answer = pdu if pdu[0] == _WRITE_COIL else bytes((pdu[0], 1, self.running))
                if pdu[0] == _WRITE_COIL:
                    self.write(bool(pdu[3]))
                size = (len(answer) + 1).to_bytes(2, "big")
                writer.write(head[:4] + size + head[6:7] + answer)

    def write(self, value: bool) -> None:  # noqa: FBT001 - a coil has one value
        if self.heated and not value:
            taken = (perf_counter_ns() - self.heated) / 1e6
            self.heated = 0
            print(json.dumps({"latency_ms": taken}), flush=True)
        self.running = value


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    uvloop.run(Machines().run())
