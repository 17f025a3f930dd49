"""A wire tap between a Sparkplug node and its broker: every MQTT 3.1.1 packet, both ways."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeAlias

from twinbridge_simulators.mqtt.packets import Fields, Kind, Message, Packet, cut, parse_publish

V311: Final = 4
"""The protocol level of MQTT 3.1.1."""
OPENED: Final = "OPENED"
CLOSED: Final = "CLOSED"
MARK: Final = "MARK"
HEARD: Final = "HEARD"


@dataclass(frozen=True, slots=True)
class Connect:
    """MQTT 3.1.1, 3.1. `keepalive`: s."""

    level: int
    client: str
    clean: bool
    keepalive: int
    will: Message | None


Filters: TypeAlias = tuple[tuple[str, int], ...]
Content: TypeAlias = Connect | Message | Filters | str | bytes


@dataclass(frozen=True, slots=True)
class Seen:
    """One packet, or what happened beside the packets.

    `kind` is that of a packet; OPENED and CLOSED for the connection of a session; HEARD for what
    a host got from the broker; MARK for what the storyteller does next.
    """

    kind: str
    session: int
    """Counts the connections, from 1; 0 for what belongs to none."""
    up: bool
    """From the node to the broker."""
    at: int
    """UTC ms."""
    content: Content


class Wire:
    """`async with Wire(port) as wire:` listens on 127.0.0.1:`wire.port`; `seen` is in order."""

    def __init__(self, broker: int) -> None:
        self.seen: list[Seen] = []
        self.port = 0
        self._broker = broker
        self._sessions = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        async with asyncio.timeout(5):
            while self._open:  # noqa: ASYNC110 - connections end by themselves once they are cut
                await asyncio.sleep(0.01)

    def cut(self) -> None:
        """Neither side is told more than that the connection is gone."""
        for writer in tuple(self._open):
            writer.transport.abort()

    def note(self, kind: str, content: Content, session: int = 0, *, up: bool = False) -> None:
        self.seen.append(Seen(kind, session, up, time.time_ns() // 1_000_000, content))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.CancelledError):
            self._sessions += 1
            await self._serve(self._sessions, reader, writer)

    async def _serve(
        self, session: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self._broker)
        self.note(OPENED, "", session)
        self._open |= {writer, to_broker}
        try:
            async with asyncio.TaskGroup() as pumps:
                up, down = self._noting(session, up=True), self._noting(session, up=False)
                pumps.create_task(_pump(reader, to_broker, up), name="up")
                pumps.create_task(_pump(from_broker, writer, down), name="down")
        except* OSError:
            pass  # one side went away: so does the other
        finally:
            self.note(CLOSED, "", session)
            for one in (writer, to_broker):
                one.transport.abort()
                self._open.discard(one)

    def _noting(self, session: int, *, up: bool) -> Callable[[Packet], None]:
        def noted(packet: Packet) -> None:
            self.note(Kind(packet.kind).name, _content(packet), session, up=up)

        return noted


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, noted: Callable[[Packet], None]
) -> None:
    buffer = b""
    while chunk := await reader.read(65536):
        buffer += chunk
        while True:
            packet, buffer = cut(buffer)
            if packet is None:
                break
            noted(packet)
        writer.write(chunk)
        await writer.drain()
    raise ConnectionResetError("closed")


def _content(packet: Packet) -> Content:
    match packet.kind:
        case Kind.CONNECT:
            return _connect(packet.body)
        case Kind.PUBLISH:
            return parse_publish(packet, V311)[0]
        case Kind.SUBSCRIBE:
            return _filters(packet.body)
    return packet.body


def _connect(body: bytes) -> Connect:
    fields = Fields(body)
    assert fields.text() == "MQTT"
    level, flags, keepalive = fields.number(), fields.number(), fields.number(2)
    assert not flags & 1, "a bit that is reserved"
    client, will = fields.text(), None
    if flags & 4:
        will = Message(fields.text(), fields.binary(), flags >> 3 & 3, bool(flags & 0x20))
    return Connect(level, client, bool(flags & 2), keepalive, will)


def _filters(body: bytes) -> Filters:
    fields = Fields(body, 2)
    found = []
    while fields.more:
        found.append((fields.text(), fields.number()))
    return tuple(found)
