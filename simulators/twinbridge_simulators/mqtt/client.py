"""One device's connection to a broker; it comes back by itself for as long as it is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from twinbridge_simulators.mqtt.packets import (
    Kind,
    Malformed,
    Message,
    Packet,
    cut,
    packet,
    parse_publish,
    publish,
    text,
)

VERSION = 4
KEEPALIVE = 10
PING_EVERY = 3.0
RETRY = 0.2
PATIENCE = 5.0
MOST_UNSENT = 1024 * 1024
"""Bytes; what is told while a broker does not read is lost."""


class MqttClient:
    """`run` keeps it connected. `connected` is called after each connect, `received` per message.

    What is published while there is no connection is lost, as with a sensor that keeps nothing.
    """

    def __init__(
        self,
        host: str,
        port: Callable[[], int],
        client_id: str,
        *,
        user: tuple[str, str] | None = None,
        will: Message | None = None,
    ) -> None:
        self.connected: Callable[[], None] = _nothing
        self.received: Callable[[Message], None] = _ignore
        self.subscriptions: Sequence[str] = ()
        self._host = host
        self._port = port
        self._client_id = client_id
        self._user = user
        self._will = will
        self._writer: asyncio.StreamWriter | None = None
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._number = 0

    def go(self) -> None:
        """Leave without a word, so that the broker tells the will; stay away."""
        self._wanted.clear()
        if self._writer is not None:
            self._writer.transport.abort()

    def come_back(self) -> None:
        self._wanted.set()

    def publish(self, message: Message) -> None:
        writer = self._writer
        if writer is None or writer.transport.get_write_buffer_size() > MOST_UNSENT:
            return
        self._number = self._number % 0xFFFF + 1
        writer.write(publish(message, VERSION, self._number))

    async def run(self) -> None:
        """For ever; on cancellation it says goodbye."""
        while True:
            await self._wanted.wait()
            with suppress(OSError, Malformed, asyncio.IncompleteReadError, TimeoutError):
                await self._connection()
            await asyncio.sleep(RETRY)

    async def _connection(self) -> None:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(self._host, self._port())
        try:
            writer.write(self._connect())
            async with asyncio.timeout(PATIENCE):
                rest = await self._welcome(reader)
            self._writer = writer
            self._begin(writer)
            await self._listen(reader, writer, rest)
        except asyncio.CancelledError:
            writer.write(packet(Kind.DISCONNECT))
            raise
        finally:
            self._writer = None
            writer.close()

    def _connect(self) -> bytes:
        flags, tail = 0x02, text(self._client_id)
        if self._will is not None:
            flags |= 0x04 | self._will.qos << 3 | self._will.retain << 5
            tail += text(self._will.topic)
            tail += len(self._will.payload).to_bytes(2, "big") + self._will.payload
        if self._user is not None:
            flags |= 0xC0
            tail += text(self._user[0]) + text(self._user[1])
        head = text("MQTT") + bytes((VERSION, flags)) + KEEPALIVE.to_bytes(2, "big")
        return packet(Kind.CONNECT, head + tail)

    async def _welcome(self, reader: asyncio.StreamReader) -> bytes:
        """What came after the CONNACK. Raises Malformed when the broker does not want us."""
        buffer = b""
        while True:
            got, buffer = cut(buffer)
            if got is not None:
                if got.kind != Kind.CONNACK or got.body[1:2] != b"\0":
                    raise Malformed("refused")
                return buffer
            buffer += await _some(reader)

    def _begin(self, writer: asyncio.StreamWriter) -> None:
        if self.subscriptions:
            wanted = b"".join(text(pattern) + b"\x01" for pattern in self.subscriptions)
            writer.write(packet(Kind.SUBSCRIBE, b"\0\x01" + wanted, 2))
        self.connected()

    async def _listen(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, buffer: bytes
    ) -> None:
        loop = asyncio.get_running_loop()
        heard = loop.time()
        while loop.time() - heard < KEEPALIVE:
            got, buffer = cut(buffer)
            while got is not None:
                self._take(got, writer)
                got, buffer = cut(buffer)
            try:
                async with asyncio.timeout(PING_EVERY):
                    buffer += await _some(reader)
                heard = loop.time()
            except TimeoutError:
                writer.write(packet(Kind.PINGREQ))

    def _take(self, got: Packet, writer: asyncio.StreamWriter) -> None:
        if got.kind != Kind.PUBLISH:
            return
        message, number = parse_publish(got, VERSION)
        if message.qos:
            writer.write(packet(Kind.PUBACK, number.to_bytes(2, "big")))
        self.received(message)


async def _some(reader: asyncio.StreamReader) -> bytes:
    """Raises ConnectionResetError at the end."""
    part = await reader.read(65536)
    if not part:
        raise ConnectionResetError
    return part


def _nothing() -> None:
    """Nobody wants to know."""


def _ignore(_message: Message) -> None:
    """Nobody listens."""
