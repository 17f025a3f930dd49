"""A small MQTT broker, 3.1.1 and 5, in the loop of the simulation: nothing to install or start.

QoS 0 and 1 (2 is taken from publishers and granted as 1), retained messages, wills, sessions that
outlast their connection. Anybody may connect. All is synchronous: a packet is done with as it
comes, so there are no tasks to wait for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, cast

from typing_extensions import override

from twinbridge.errors import Unreachable
from twinbridge_simulators.background import Background
from twinbridge_simulators.mqtt.packets import (
    V5,
    Fields,
    Kind,
    Malformed,
    Message,
    Packet,
    cut,
    matches,
    packet,
    parse_publish,
    publish,
    text,
    varint,
)

VERSIONS = {4, V5}
UNACCEPTABLE_VERSION = 1
MOST_WAITING = 1000
"""Messages of QoS 1 that a session may hold; beyond it the oldest are lost."""
MOST_UNSENT = 8 * 1024 * 1024
"""Bytes; a client that reads more slowly loses messages of QoS 0."""
GRACE = 1.5
"""Times its keep-alive, after which a silent client is gone (MQTT 3.1.1, 3.1.2.10)."""
RETRY = 0.1
"""Seconds between tries to get the port back."""


@dataclass(slots=True, eq=False)
class Session:
    """What the broker knows of a client. `waiting`: QoS 1, not acknowledged, by identifier."""

    subscriptions: dict[str, int] = field(default_factory=dict)
    waiting: dict[int, Message] = field(default_factory=dict)
    backlog: deque[Message] = field(default_factory=lambda: deque(maxlen=MOST_WAITING))
    received: set[int] = field(default_factory=set)
    connection: _Connection | None = None
    lasting: bool = False
    number: int = 0

    def granted(self, topic: str) -> int | None:
        """The highest QoS of the subscriptions that take the topic in; None if none does."""
        return max((q for f, q in self.subscriptions.items() if matches(f, topic)), default=None)

    def hold(self, message: Message) -> int:
        """A fresh packet identifier for a message that waits for its acknowledgement."""
        while True:
            self.number = self.number % 0xFFFF + 1
            if self.number not in self.waiting:
                break
        while len(self.waiting) >= MOST_WAITING:
            del self.waiting[next(iter(self.waiting))]
        self.waiting[self.number] = message
        return self.number


class MqttBroker:
    """`async with` listens; `port` is the real one when 0 was given. Raises Unreachable."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.retained: dict[str, Message] = {}
        self.sessions: dict[str, Session] = {}
        self.connections: set[_Connection] = set()
        self.messages = 0
        self.closed = False
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
        """The port is closed and every connection dropped; no will is told, as in a crash."""
        self.closed = True
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for connection in tuple(self.connections):
            connection.will = None
            connection.transport.abort()

    def open_again(self, after: float = 0.0) -> None:
        """Listen on the same port again, as soon as it can be had."""
        self.closed = False
        self._background.start(self._listen_again(after), f"broker {self.host}:{self.port}")

    def restart(self, after: float = 0.0) -> None:
        """As a broker without a disk: retained messages and sessions are forgotten."""
        self.close()
        self.retained.clear()
        self.sessions.clear()
        self.open_again(after)

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

    async def _listen_again(self, after: float) -> None:
        await asyncio.sleep(after)
        while self._listener is None and not self.closed:
            try:
                await self._listen()
            except Unreachable:
                await asyncio.sleep(RETRY)

    def publish(self, message: Message) -> None:
        """To all that subscribed to its topic; a retained one without payload is forgotten."""
        self.messages += 1
        if message.retain and message.payload:
            self.retained[message.topic] = message
        elif message.retain:
            self.retained.pop(message.topic, None)
        for session in tuple(self.sessions.values()):
            granted = session.granted(message.topic)
            if granted is not None:
                _deliver(session, message, min(granted, message.qos), retain=False)

    def session(self, client: str, *, clean: bool) -> tuple[Session, bool]:
        """The client's session, and whether there was one; its old connection is dropped."""
        old = self.sessions.get(client)
        if old is not None and old.connection is not None:
            old.connection.transport.abort()
            old.connection.leave()
            old = self.sessions.get(client)
        if old is not None and not clean:
            return old, True
        self.sessions[client] = Session()
        return self.sessions[client], False


def _deliver(session: Session, message: Message, qos: int, *, retain: bool) -> None:
    qos = min(qos, 1)
    message = message._replace(qos=qos, retain=retain)
    connection = session.connection
    if connection is None:
        if qos:
            session.backlog.append(message)
        return
    if qos:
        connection.send(publish(message, connection.version, session.hold(message)))
    elif connection.transport.get_write_buffer_size() < MOST_UNSENT:
        connection.send(publish(message, connection.version))


class _Connection(asyncio.Protocol):
    """One client; what it sends is done with as it comes."""

    __slots__ = (
        "_broker",
        "_client",
        "_patience",
        "_rest",
        "_session",
        "_timer",
        "transport",
        "version",
        "will",
    )
    transport: asyncio.Transport

    def __init__(self, broker: MqttBroker) -> None:
        self._broker = broker
        self._client = ""
        self._patience = 0.0
        self._rest = b""
        self._session: Session | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.version = 4
        self.will: Message | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._broker.connections.add(self)
        self._watch(10.0)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._broker.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self.leave()

    def leave(self) -> None:
        """The client is gone; its will is told unless it said goodbye."""
        session, self._session = self._session, None
        if session is not None:
            session.connection = None
            if not session.lasting:
                self._broker.sessions.pop(self._client, None)
        will, self.will = self.will, None
        if will is not None:
            self._broker.publish(will)

    @override
    def data_received(self, data: bytes) -> None:
        buffer = self._rest + data if self._rest else data
        try:
            got, buffer = cut(buffer)
            while got is not None and not self.transport.is_closing():
                self._take(got)
                got, buffer = cut(buffer) if buffer else (None, b"")
        except Malformed:
            self.transport.abort()
        self._rest = buffer

    def send(self, raw: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(raw)

    def _watch(self, seconds: float) -> None:
        """Gone, if it says nothing for so long; 0: for ever."""
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(seconds, self.transport.abort) if seconds else None

    def _take(self, got: Packet) -> None:
        session = self._session
        if got.kind == Kind.CONNECT and session is None:
            self._connect(Fields(got.body))
            return
        if session is None:
            raise Malformed("not connected")
        self._watch(self._patience)
        match got.kind:
            case Kind.PUBLISH:
                self._publish(session, *parse_publish(got, self.version))
            case Kind.PUBACK:
                session.waiting.pop(Fields(got.body).number(2), None)
            case Kind.PUBREL:
                session.received.discard(Fields(got.body).number(2))
                self.send(packet(Kind.PUBCOMP, got.body[:2]))
            case Kind.SUBSCRIBE:
                self._subscribe(session, Fields(got.body))
            case Kind.UNSUBSCRIBE:
                self._unsubscribe(session, Fields(got.body))
            case Kind.PINGREQ:
                self.send(packet(Kind.PINGRESP))
            case Kind.DISCONNECT:
                self._disconnect(got.body)
            case _:
                raise Malformed(f"packet {got.kind}")

    def _connect(self, fields: Fields) -> None:
        name, version = fields.text(), fields.number()
        if name != "MQTT" or version not in VERSIONS:
            self.send(packet(Kind.CONNACK, bytes((0, UNACCEPTABLE_VERSION))))
            self.transport.close()
            return
        self.version = version
        flags, keepalive = fields.number(), fields.number(2)
        expiry = _session_expiry(fields.properties(version))
        client = fields.text()
        self._client = client or f"auto-{id(self)}"
        if flags & 0x04:
            will_properties = fields.properties(version)
            topic, payload = fields.text(), fields.binary()
            qos, retain = flags >> 3 & 3, bool(flags & 0x20)
            self.will = Message(topic, payload, qos, retain, _without_delay(will_properties))
        clean = bool(flags & 0x02)
        session, present = self._broker.session(self._client, clean=clean)
        session.connection, session.lasting = self, expiry > 0 if version == V5 else not clean
        self._session = session
        self._patience = keepalive * GRACE
        self._watch(self._patience)
        self._welcome(session, present=present, named=bool(client))

    def _welcome(self, session: Session, *, present: bool, named: bool) -> None:
        """CONNACK, then what the session has kept for the client."""
        properties = b"" if named else b"\x12" + text(self._client)
        tail = varint(len(properties)) + properties if self.version == V5 else b""
        self.send(packet(Kind.CONNACK, bytes((present, 0)) + tail))
        for number, message in session.waiting.items():
            self.send(publish(message, self.version, number, again=True))
        while session.backlog:
            _deliver(session, session.backlog.popleft(), 1, retain=False)

    def _publish(self, session: Session, message: Message, number: int) -> None:
        if message.qos == 1:
            self.send(packet(Kind.PUBACK, number.to_bytes(2, "big")))
        elif message.qos:
            self.send(packet(Kind.PUBREC, number.to_bytes(2, "big")))
            if number in session.received:
                return
            session.received.add(number)
        self._broker.publish(message)

    def _subscribe(self, session: Session, fields: Fields) -> None:
        number = fields.take(2)
        tail = b"\0" if fields.properties(self.version) or self.version == V5 else b""
        granted: list[tuple[str, int]] = []
        while fields.more:
            pattern, options = fields.text(), fields.number()
            granted.append((pattern, min(options & 3, 1)))
        session.subscriptions.update(granted)
        codes = bytes(qos for _, qos in granted)
        self.send(packet(Kind.SUBACK, number + tail + codes))
        for pattern, qos in granted:
            for message in tuple(self._broker.retained.values()):
                if matches(pattern, message.topic):
                    _deliver(session, message, min(qos, message.qos), retain=True)

    def _unsubscribe(self, session: Session, fields: Fields) -> None:
        number = fields.take(2)
        fields.properties(self.version)
        codes = bytearray()
        while fields.more:
            found = session.subscriptions.pop(fields.text(), None)
            codes.append(0x11 if found is None else 0)
        tail = b"\0" + bytes(codes) if self.version == V5 else b""
        self.send(packet(Kind.UNSUBACK, number + tail))

    def _disconnect(self, body: bytes) -> None:
        """A version 5 client may ask for its will all the same (reason 4)."""
        if not (self.version == V5 and body[:1] == b"\x04"):
            self.will = None
        self.transport.close()


def _session_expiry(properties: bytes) -> int:
    """Session Expiry Interval (0x11) where it comes first, as clients write it; else 0."""
    return int.from_bytes(properties[1:5], "big") if properties[:1] == b"\x11" else 0


def _without_delay(properties: bytes) -> bytes:
    """Will Delay Interval (0x18) is no property of a PUBLISH; the will is told at once."""
    return properties[5:] if properties[:1] == b"\x18" else properties
