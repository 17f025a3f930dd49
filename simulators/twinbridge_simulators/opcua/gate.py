"""The port of a server: connections are passed on to it, unless a fault stands in between."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self, cast

from typing_extensions import override

from twinbridge.errors import Unreachable
from twinbridge_simulators.background import Background

RETRY = 0.1
"""Seconds between tries to get the port back."""


class Gate:
    """`async with` listens at the public address; `target` is the port behind it, on loopback.

    Raises Unreachable when the address cannot be listened on.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.target = 0
        self.connections: set[_Half] = set()
        self._closed = False
        self._silent = False
        self._listener: asyncio.Server | None = None
        self._background = Background()

    async def __aenter__(self) -> Self:
        await self._listen()
        await self._background.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        await self._background.__aexit__(kind, error, trace)

    def close(self) -> None:
        """The port refuses, connections are reset."""
        self._closed = True
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.drop()

    def open_again(self) -> None:
        self._closed = False
        if self._listener is None:
            self._background.start(self._listen_again(), f"listen {self.host}:{self.port}")

    def drop(self) -> None:
        """Reset every connection; new ones are served."""
        for connection in tuple(self.connections):
            connection.transport.abort()

    def silence(self, *, on: bool) -> None:
        """Connections stay and nothing passes; what was said meanwhile passes afterwards."""
        self._silent = on
        for connection in tuple(self.connections):
            connection.pause(wanted=on)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            listener = await loop.create_server(lambda: _Client(self), self.host, self.port)
        except OSError as error:
            raise Unreachable(
                f"cannot listen on {self.host}:{self.port}: {error.strerror or error}"
            ) from error
        self._listener = listener
        self.port = listener.sockets[0].getsockname()[1]

    async def _listen_again(self) -> None:
        while self._listener is None and not self._closed:
            try:
                await self._listen()
            except Unreachable:
                await asyncio.sleep(RETRY)

    def accept(self, client: _Client) -> None:
        if self._closed:
            client.transport.abort()
            return
        client.transport.pause_reading()
        self._background.start(self._connect(client), "simulated connection")

    async def _connect(self, client: _Client) -> None:
        loop = asyncio.get_running_loop()
        try:
            _transport, server = await loop.create_connection(
                lambda: _Half(self), "127.0.0.1", self.target
            )
        except OSError:
            client.transport.abort()
            return
        server.join(client)
        client.join(server)
        for half in (client, server):
            half.pause(wanted=self._silent)


class _Half(asyncio.Protocol):
    """One side of a connection; what it hears goes to the other, no faster than that takes it."""

    transport: asyncio.Transport

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._other: _Half | None = None
        self._silenced = True
        self._clogged = False
        self._held: list[bytes] = []
        """What came before there was anybody to pass it on to; not every loop can pause by then."""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._gate.connections.add(self)

    def join(self, other: _Half) -> None:
        self._other = other
        if other.transport.is_closing():
            self.transport.abort()

    def pause(self, *, wanted: bool) -> None:
        self._silenced = wanted
        self._settle()

    def _settle(self) -> None:
        if self.transport.is_closing():
            return
        if self._silenced or self._clogged or self._other is None:
            self.transport.pause_reading()
        else:
            held, self._held = self._held, []
            if held and not self._other.transport.is_closing():
                self._other.transport.write(b"".join(held))
            self.transport.resume_reading()

    @override
    def data_received(self, data: bytes) -> None:
        if self._other is None or self._silenced:
            self._held.append(data)
        elif not self._other.transport.is_closing():
            self._other.transport.write(data)

    @override
    def pause_writing(self) -> None:
        self._clog(on=True)

    @override
    def resume_writing(self) -> None:
        self._clog(on=False)

    def _clog(self, *, on: bool) -> None:
        if self._other is not None:
            self._other._clogged = on  # noqa: SLF001 - the two are one connection
            self._other._settle()  # noqa: SLF001

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._gate.connections.discard(self)
        if self._other is not None:
            self._other.transport.close()


class _Client(_Half):
    """The side that came in by the public port."""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._gate.accept(self)
