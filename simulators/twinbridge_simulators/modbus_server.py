"""A Modbus server at the level of frames, so that its faults act on the bytes of the wire.

It serves many units over one port, and takes thousands of requests a second: it is also the load
generator of the benchmarks.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import MutableMapping
from types import TracebackType
from typing import Self, cast

from typing_extensions import override

from twinbridge.errors import Unreachable
from twinbridge_simulators.background import Background
from twinbridge_simulators.fault_board import FaultBoard
from twinbridge_simulators.faults import SERVER_FAULTS, Fault, FaultKind
from twinbridge_simulators.framing import (
    Framing,
    Request,
    Unframed,
    cut_rtu,
    cut_tcp,
    wrap_rtu,
    wrap_tcp,
)
from twinbridge_simulators.pdu import exception, respond
from twinbridge_simulators.registers import ExceptionCode, RegisterBank

GARBAGE = random.Random(7).randbytes(24)  # noqa: S311 - noise, the same in every run
BROADCAST = 0
RETRY = 0.1
"""Seconds between tries to get a port back."""


class ModbusServer:
    """`async with` listens; `port` is the real one when 0 was given.

    An unknown unit answers 0x0B over TCP, as a gateway does, and is silent on RTU framing.
    Raises Unreachable when the address cannot be listened on.
    """

    def __init__(
        self,
        host: str,
        port: int,
        units: MutableMapping[int, RegisterBank],
        framing: Framing = Framing.TCP,
    ) -> None:
        self.host = host
        self.port = port
        self.units = units
        self.framing = framing
        self.board = FaultBoard()
        self.connections: set[_Connection] = set()
        self.requests = 0
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
        self._stop_listening()
        self._drop_connections()
        await self._background.__aexit__(kind, error, trace)

    def inject(self, fault: Fault) -> None:
        """From now on the fault strikes. REFUSE also drops the connections that stand."""
        self.board.add(fault)
        if fault.kind is FaultKind.REFUSE:
            self._stop_listening()
            self._drop_connections()
        if fault.kind is FaultKind.HALF_OPEN:
            for connection in self.connections:
                connection.mute()
        if fault.kind is FaultKind.ONE_CLIENT:
            self._drop_connections(keep=1)

    def clear(self, fault: Fault | None = None) -> None:
        """End one fault, or all. After REFUSE the port listens again within a moment."""
        for standing in [fault] if fault else list(self.board):
            self.board.remove(standing)
        if self._listener is None and not self.board.has(FaultKind.REFUSE):
            self._background.start(self._listen_again(), f"listen {self.host}:{self.port}")

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            listener = await loop.create_server(lambda: _Connection(self), self.host, self.port)
        except OSError as error:
            raise Unreachable(
                f"cannot listen on {self.host}:{self.port}: {error.strerror or error}"
            ) from error
        self._listener = listener
        self.port = listener.sockets[0].getsockname()[1]

    async def _listen_again(self) -> None:
        """Until the port can be had and may be opened."""
        while self._listener is None and not self.board.has(FaultKind.REFUSE):
            try:
                await self._listen()
            except Unreachable:
                await asyncio.sleep(RETRY)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _drop_connections(self, keep: int = 0) -> None:
        for connection in tuple(self.connections)[keep:]:
            connection.transport.abort()


class _Connection(asyncio.Protocol):
    """One client. Requests are answered as they come, also several in one segment."""

    __slots__ = ("_cut", "_mute", "_rest", "_server", "_wrap", "transport")
    transport: asyncio.Transport

    def __init__(self, server: ModbusServer) -> None:
        tcp = server.framing is Framing.TCP
        self._server = server
        self._cut = cut_tcp if tcp else cut_rtu
        self._wrap = wrap_tcp if tcp else wrap_rtu
        self._rest = b""
        self._mute = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        board = self._server.board
        full = board.has(FaultKind.ONE_CLIENT) and len(self._server.connections) > 0
        if full or board.has(FaultKind.REFUSE):
            self.transport.abort()
            return
        self._server.connections.add(self)
        if board.has(FaultKind.HALF_OPEN):
            self.mute()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)

    def mute(self) -> None:
        """The peer is gone without a word; this connection never answers again."""
        self._mute = True

    @override
    def data_received(self, data: bytes) -> None:
        buffer = self._rest + data if self._rest else data
        try:
            request, buffer = self._cut(buffer)
            while request is not None:
                self._take(request)
                request, buffer = self._cut(buffer) if buffer else (None, b"")
        except Unframed:
            self.transport.abort()
        self._rest = buffer

    def _take(self, request: Request) -> None:
        if self._mute:
            return
        server = self._server
        server.requests += 1
        fault = server.board.strike(request.unit, request.pdu) if server.board else None
        if fault is None or fault.kind in SERVER_FAULTS:
            self._answer(request)
        else:
            self._fail(request, fault)

    def _answer(self, request: Request) -> None:
        transaction, unit, pdu = request
        bank = self._server.units.get(unit)
        if bank is not None:
            self._send(self._wrap(transaction, unit, respond(bank, pdu)))
        elif self._server.framing is Framing.TCP:
            self._send(wrap_tcp(transaction, unit, exception(pdu[0], ExceptionCode.GATEWAY_TARGET)))
        elif unit == BROADCAST:
            for each in self._server.units.values():
                respond(each, pdu)

    def _send(self, frame: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(frame)

    def _fail(self, request: Request, fault: Fault) -> None:
        transaction, unit, pdu = request
        match fault.kind:
            case FaultKind.EXCEPTION:
                self._send(self._wrap(transaction, unit, exception(pdu[0], fault.code)))
            case FaultKind.SLOW | FaultKind.LATE:
                loop = asyncio.get_running_loop()
                loop.call_later(fault.seconds, self._answer, request)
            case FaultKind.GARBAGE:
                self._send(GARBAGE)
            case FaultKind.CLOSE:
                self.transport.abort()
            case FaultKind.WRONG_TRANSACTION:
                self._answer(request._replace(transaction=transaction ^ 0x5555))
            case FaultKind.WRONG_UNIT:
                self._send(self._wrap(transaction, unit ^ 0x7F, self._response(request)))
            case FaultKind.TRUNCATED:
                frame = self._wrap(transaction, unit, self._response(request))
                self._send(frame[: len(frame) // 2 + 1])
            case _:  # SILENT: the request is lost
                pass

    def _response(self, request: Request) -> bytes:
        bank = self._server.units.get(request.unit)
        if bank is None:
            return exception(request.pdu[0], ExceptionCode.GATEWAY_TARGET)
        return respond(bank, request.pdu)
