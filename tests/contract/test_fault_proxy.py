from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import uvloop

from twinbridge.testing.proxy import Direction, FaultProxy, flip_bits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

WAIT_SECONDS = 20.0
SILENCE_SECONDS = 0.1


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, question: bytes) -> bytes:
        self.writer.write(question)
        return await self.reader.readexactly(len(question))

    async def silent(self) -> bool:
        try:
            await asyncio.wait_for(self.reader.read(1), SILENCE_SECONDS)
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def connected(proxy: FaultProxy) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65536):
        writer.write(chunk)
    writer.close()


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.005)


def play(
    story: Callable[[FaultProxy], Awaitable[None]],
    loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] = echo,
) -> None:
    """Tell a story about a proxy in front of a server that echoes."""

    async def told() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        try:
            async with FaultProxy(*server.sockets[0].getsockname()) as proxy:
                await story(proxy)
            assert proxy.connections == 0
        finally:
            server.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(told(), WAIT_SECONDS))


def test_a_sound_proxy_forwards_both_ways_and_counts() -> None:
    async def story(proxy: FaultProxy) -> None:
        async with connected(proxy) as client:
            assert await client.ask(b"x" * 200_000) == b"x" * 200_000
            assert proxy.connections == 1
        await until(lambda: proxy.connections == 0)
        assert proxy.accepted == 1

    play(story)


def test_a_cut_resets_clients_and_lets_them_come_back() -> None:
    async def story(proxy: FaultProxy) -> None:
        async with connected(proxy) as client:
            await client.ask(b"hello")
            proxy.cut()
            with pytest.raises(ConnectionResetError):
                await client.reader.readexactly(1)
        async with connected(proxy) as client:
            assert await client.ask(b"again") == b"again"

    play(story)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_server_that_resets_leaves_nothing_open(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def resetting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async def story(proxy: FaultProxy) -> None:
        async with connected(proxy) as client:
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await client.ask(b"?")
        await until(lambda: proxy.connections == 0)
        proxy.cut()

    play(story, loop, resetting)


def test_refusing_turns_new_clients_away_and_keeps_the_old_ones() -> None:
    async def story(proxy: FaultProxy) -> None:
        async with connected(proxy) as client:
            await client.ask(b"hello")
            proxy.refuse()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", proxy.port)
            assert await client.ask(b"still") == b"still"
        port = proxy.port
        await proxy.listen()
        assert proxy.port == port
        async with connected(proxy) as client:
            assert await client.ask(b"again") == b"again"

    play(story)


def test_a_half_open_connection_is_silent_and_stays() -> None:
    async def story(proxy: FaultProxy) -> None:
        async with connected(proxy) as client:
            await client.ask(b"hello")
            proxy.faults.half_open = True
            client.writer.write(b"lost")
            assert await client.silent()
            assert proxy.connections == 1
            proxy.faults.half_open = False
            assert await client.ask(b"found") == b"found"

    play(story)


def test_delay_and_throttle_lose_nothing() -> None:
    async def story(proxy: FaultProxy) -> None:
        proxy.faults.delay, proxy.faults.jitter = 0.02, 0.01
        proxy.faults.throttle = 2000
        loop = asyncio.get_running_loop()
        async with connected(proxy) as client:
            start = loop.time()
            assert await client.ask(bytes(range(100))) == bytes(range(100))
            # A lower bound only: both ways hold back, but the pieces of the one overlap the other.
            assert loop.time() - start >= 0.02 + 0.8 * 100 / 2000

    play(story)


def test_a_long_thin_line_loses_nothing_and_keeps_all_of_it_on_the_way() -> None:
    async def story(proxy: FaultProxy) -> None:
        proxy.faults.latency, proxy.faults.bandwidth = 0.2, 50_000
        proxy.faults.loss = 0.02
        loop = asyncio.get_running_loop()
        async with connected(proxy) as client:
            start = loop.time()
            for piece in range(10):  # were they told one after the other, it would take 4 s
                client.writer.write(bytes([piece]) * 1000)
                await asyncio.sleep(0.01)
            came = await client.reader.readexactly(10_000)
            assert came == b"".join(bytes([piece]) * 1000 for piece in range(10))
            assert loop.time() - start >= 0.4 + 0.8 * 10_000 / 50_000

    play(story)


def test_a_tap_sees_each_chunk_before_it_goes_on() -> None:
    async def story(proxy: FaultProxy) -> None:
        seen: list[tuple[Direction, bytes]] = []

        def tap(direction: Direction, chunk: bytes) -> None:
            seen.append((direction, chunk))
            proxy.faults.half_open = len(seen) == 3

        proxy.faults.tap = tap
        async with connected(proxy) as client:
            await client.ask(b"hello")
            client.writer.write(b"lost")
            assert await client.silent()
        assert seen == [
            (Direction.UP, b"hello"),
            (Direction.DOWN, b"hello"),
            (Direction.UP, b"lost"),
        ]

    play(story)


def test_garbage_is_one_bit_off_or_injected() -> None:
    async def story(proxy: FaultProxy) -> None:
        async with connected(proxy) as client:
            await client.ask(b"hello")
            proxy.faults.garble = flip_bits(1)
            answer = await client.ask(b"hello")
            difference = int.from_bytes(answer) ^ int.from_bytes(b"hello")
            assert difference.bit_count() == 1
            proxy.faults.garble = None
            proxy.inject(b"\xff\x00")
            assert await client.reader.readexactly(2) == b"\xff\x00"

    play(story)


def test_a_frame_is_cut_in_the_middle() -> None:
    async def story(proxy: FaultProxy) -> None:
        async with connected(proxy) as client:
            proxy.faults.close_mid_frame = 3
            client.writer.write(b"hello")
            assert await client.reader.read() == b"hel"

    play(story)


def test_one_client_only_turns_the_second_away() -> None:
    async def story(proxy: FaultProxy) -> None:
        proxy.faults.one_client_only = True
        async with connected(proxy) as first:
            await first.ask(b"hello")
            async with connected(proxy) as second:
                with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                    await second.reader.readexactly(1)
            assert await first.ask(b"still") == b"still"
            assert (proxy.connections, proxy.accepted) == (1, 2)

    play(story)


def test_a_server_that_is_absent_resets_the_client() -> None:
    async def told() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        target = server.sockets[0].getsockname()
        server.close()
        async with FaultProxy(*target) as proxy, connected(proxy) as client:
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await client.reader.readexactly(1)

    asyncio.run(asyncio.wait_for(told(), WAIT_SECONDS))
