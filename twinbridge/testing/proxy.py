"""A TCP proxy that breaks on command: what a bad cable, switch or gateway does to a link.

A satellite's line of 64 kbit/s with 1 % loss: `latency=2.0, bandwidth=8000, loss=0.01`.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Self, TypeAlias

CHUNK = 65536
CLOSE_SECONDS = 5.0
PIECES_PER_SECOND = 50
PACKET = 1448
"""Bytes of one packet."""
RETRANSMIT = 0.2
"""Seconds, beside a round trip, after which TCP sends again what was lost; doubling each time."""
ON_THE_WAY = 256
"""Chunks of one direction that a line with `latency` holds at most."""

Line: TypeAlias = asyncio.Queue[tuple[float, bytes]]
"""Chunks, and when they were sent."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Direction(StrEnum):
    UP = "up"
    """From the client to the server."""
    DOWN = "down"


@dataclass
class Faults:
    """Switches that may be turned at any time, also for open connections. Times in seconds."""

    half_open: bool = False
    """Swallow everything, both ways, and keep the sockets: a pulled cable."""
    delay: float = 0.0
    """Hold each chunk back this long, plus up to `jitter`."""
    jitter: float = 0.0
    throttle: int = 0
    """Bytes per second and direction; 0 = no limit."""
    garble: Callable[[bytes], bytes] | None = None
    """What the client gets in place of what the server sent."""
    close_mid_frame: int | None = None
    """Forward so many bytes more from the server, then close that connection."""
    one_client_only: bool = False
    """Close a second client at once, as small PLCs do."""
    latency: float = 0.0
    """Each chunk comes so much later; unlike with `delay`, those behind it are on the way, too."""
    bandwidth: int = 0
    """Bytes per second and direction of all connections together; 0 = no limit."""
    loss: float = 0.0
    """Chance that a packet is lost. Above TCP that is a silence until it was sent again; what is
    behind it waits."""
    tap: Callable[[Direction, bytes], None] | None = None
    """Shown each chunk right before it goes on; may turn any of these switches."""


@dataclass(eq=False)
class _Connection:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    task: asyncio.Task[None] | None = field(default_factory=asyncio.current_task)

    def abort(self) -> None:
        """Reset both sides at once."""
        for writer in filter(None, (self.client, self.server)):
            if (peer := writer.get_extra_info("socket")) is not None:  # None: it has just closed
                with suppress(OSError, ValueError):  # uvloop says the latter of a closed socket
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()


class FaultProxy:
    """`async with FaultProxy(host, port) as proxy:` listens on 127.0.0.1:`proxy.port`."""

    def __init__(self, target_host: str, target_port: int) -> None:
        self.faults = Faults()
        self.port = 0
        self.accepted = 0
        """Connections that clients made, also those closed since."""
        self._target = (target_host, target_port)
        self._listener: asyncio.Server | None = None
        self._open: set[_Connection] = set()
        self._line = dict.fromkeys(Direction, 0.0)
        """When the last byte that was put on the line leaves it, by the loop's time."""

    @property
    def connections(self) -> int:
        """Clients that are connected now."""
        return len(self._open)

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.refuse()
        tasks = [connection.task for connection in self._open if connection.task is not None]
        self.cut()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)

    async def listen(self) -> None:
        """Accept connections, on the same port as before a `refuse`."""
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = self._listener.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Refuse new connections (ECONNREFUSED); those that are open live on."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def cut(self) -> None:
        """Reset every open connection."""
        for connection in tuple(self._open):
            connection.abort()

    def inject(self, noise: bytes) -> None:
        """Send the clients something that the server never said."""
        for connection in self._open:
            connection.client.write(noise)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Only `__aexit__` cancels this; asyncio before 3.12 logs a cancelled handler as an error.
        with suppress(asyncio.CancelledError):
            await self._serve(reader, writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        connection = _Connection(writer)
        if self.faults.one_client_only and self._open:
            connection.abort()
            return
        self._open.add(connection)
        try:
            await self._forward(reader, connection)
        except* OSError:
            pass  # either side went away: so does the other
        finally:
            connection.abort()
            self._open.discard(connection)

    async def _forward(self, from_client: asyncio.StreamReader, connection: _Connection) -> None:
        from_server, connection.server = await asyncio.open_connection(*self._target)
        async with asyncio.TaskGroup() as pumps:
            up, down = Line(ON_THE_WAY), Line(ON_THE_WAY)
            pumps.create_task(self._send(from_client, up), name="upstream, sent")
            pumps.create_task(self._send(from_server, down), name="downstream, sent")
            pumps.create_task(self._upstream(up, connection.server), name="upstream")
            pumps.create_task(self._downstream(down, connection), name="downstream")

    async def _upstream(self, line: Line, writer: asyncio.StreamWriter) -> None:
        async for chunk in self._arriving(line):
            await self._pass(chunk, writer, Direction.UP)
        raise ConnectionResetError("the client has closed")

    async def _downstream(self, line: Line, connection: _Connection) -> None:
        async for chunk in self._arriving(line):
            left = self.faults.close_mid_frame
            if left is not None and len(chunk) >= left:
                await self._pass(chunk[:left], connection.client, Direction.DOWN)
                await _close(connection.client)
                raise ConnectionResetError("closed in the middle of a frame")
            if left is not None:
                self.faults.close_mid_frame = left - len(chunk)
            garble = self.faults.garble
            passed = garble(chunk) if garble else chunk
            await self._pass(passed, connection.client, Direction.DOWN)
        await _close(connection.client)
        raise ConnectionResetError("the server has closed")

    async def _send(self, reader: asyncio.StreamReader, line: Line) -> None:
        """Put what the sender says on the line; b'' is the end of it."""
        loop = asyncio.get_running_loop()
        chunk = b" "
        while chunk:
            chunk = await reader.read(CHUNK)
            await line.put((loop.time(), chunk))
            if not self.faults.latency:
                await line.join()  # a receiver that is slow slows its sender

    async def _arriving(self, line: Line) -> AsyncIterator[bytes]:
        """Chunks when they come out of the line."""
        loop = asyncio.get_running_loop()
        while True:
            sent, chunk = await line.get()
            await asyncio.sleep(max(0.0, sent + self.faults.latency - loop.time()))
            if not chunk:
                return
            yield chunk
            line.task_done()

    async def _pass(self, chunk: bytes, writer: asyncio.StreamWriter, direction: Direction) -> None:
        faults = self.faults
        if faults.tap is not None:
            faults.tap(direction, chunk)
        if faults.half_open:
            return
        await asyncio.sleep(faults.delay + random.uniform(0, faults.jitter))  # noqa: S311 - no secret
        while chunk and not faults.half_open:
            rate = faults.throttle or faults.bandwidth
            size = max(1, rate // PIECES_PER_SECOND) if rate else PACKET if faults.loss else CHUNK
            piece, chunk = chunk[:size], chunk[size:]
            await self._line_is_free(len(piece), direction)
            await self._sent_again(len(piece))
            writer.write(piece)
            await writer.drain()
            if faults.throttle:
                await asyncio.sleep(len(piece) / faults.throttle)

    async def _line_is_free(self, size: int, direction: Direction) -> None:
        """Once so many bytes have gone over what all connections share."""
        if self.faults.bandwidth:
            now = asyncio.get_running_loop().time()
            gone = max(now, self._line[direction]) + size / self.faults.bandwidth
            self._line[direction] = gone
            await asyncio.sleep(gone - now)

    async def _sent_again(self, size: int) -> None:
        wait = RETRANSMIT + 2 * self.faults.latency
        while random.random() < self.faults.loss * min(1.0, size / PACKET):  # noqa: S311 - no secret
            await asyncio.sleep(wait)
            wait *= 2


def flip_bits(seed: int = 0) -> Callable[[bytes], bytes]:
    """A `garble` that turns one bit of every chunk, the same ones for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - no secret

    def garble(chunk: bytes) -> bytes:
        broken = bytearray(chunk)
        broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
        return bytes(broken)

    return garble


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close in order, so that the other side gets what was written before."""
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
