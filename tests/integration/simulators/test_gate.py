"""The port before a simulated OPC UA server passes on every byte, from the first."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest
import uvloop

from twinbridge_simulators.opcua.gate import Gate

HELLO = b"HEL" + bytes(range(200))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(1000):
        writer.write(chunk)
    writer.close()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_a_client_says_as_it_connects_is_not_lost(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    def eager(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(HELLO)
            heard = b""
            while len(heard) < len(HELLO):
                heard += client.recv(1000)
            return heard

    async def scenario() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server, Gate("127.0.0.1", 0) as gate:
            gate.target = server.sockets[0].getsockname()[1]
            for _ in range(20):
                assert await asyncio.to_thread(eager, gate.port) == HELLO

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(scenario(), 30))


def test_a_silent_gate_passes_on_afterwards_what_was_said_meanwhile() -> None:
    async def scenario() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server, Gate("127.0.0.1", 0) as gate:
            gate.target = server.sockets[0].getsockname()[1]
            gate.silence(on=True)
            reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
            writer.write(HELLO)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.readexactly(1), 0.2)
            gate.silence(on=False)
            assert await asyncio.wait_for(reader.readexactly(len(HELLO)), 5) == HELLO
            writer.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(scenario(), 30))
