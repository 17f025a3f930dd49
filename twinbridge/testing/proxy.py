"""A TCP proxy that breaks on command: what a bad cable, switch or gateway does to a link."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

CHUNK = 65536
CLOSE_SECONDS = 5.0
PIECES_PER_SECOND = 50

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


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


@dataclass(eq=False)
class _Connection:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    task: asyncio.Task[None] | None = field(default_factory=asyncio.current_task)

    def abort(self) -> None:
        """Reset both sides at once."""
        for writer in filter(None, (self.client, self.server)):
            peer = writer.get_extra_info("socket")
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
            pumps.create_task(self._upstream(from_client, connection.server), name="upstream")
            pumps.create_task(self._downstream(from_server, connection), name="downstream")

    async def _upstream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK):
            await self._pass(chunk, writer)
        raise ConnectionResetError("the client has closed")

    async def _downstream(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        while chunk := await reader.read(CHUNK):
            left = self.faults.close_mid_frame
            if left is not None and len(chunk) >= left:
                await self._pass(chunk[:left], connection.client)
                await _close(connection.client)
                raise ConnectionResetError("closed in the middle of a frame")
            if left is not None:
                self.faults.close_mid_frame = left - len(chunk)
            garble = self.faults.garble
            await self._pass(garble(chunk) if garble else chunk, connection.client)
        await _close(connection.client)
        raise ConnectionResetError("the server has closed")

    async def _pass(self, chunk: bytes, writer: asyncio.StreamWriter) -> None:
        if self.faults.half_open:
            return
        await asyncio.sleep(self.faults.delay + random.uniform(0, self.faults.jitter))  # noqa: S311 - no secret
        while chunk and not self.faults.half_open:
            rate = self.faults.throttle
            size = max(1, rate // PIECES_PER_SECOND) if rate else len(chunk)
            piece, chunk = chunk[:size], chunk[size:]
            writer.write(piece)
            await writer.drain()
            if rate:
                await asyncio.sleep(len(piece) / rate)


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
