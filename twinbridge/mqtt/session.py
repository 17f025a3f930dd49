"""One session with a broker, and the only file that sees paho.

paho gets no thread: its socket is driven from the event loop. It packs and unpacks packets and
keeps what is in flight; connecting, keep-alive and time limits are ours. A session serves one
connection and is never used again.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions
from typing_extensions import override

from twinbridge.api.broker import Broker, Will
from twinbridge.core.model import SECOND
from twinbridge.errors import LinkLost, NoResponse
from twinbridge.mqtt import faults
from twinbridge.mqtt.frames import frame_at, plain_message, plain_packet
from twinbridge.mqtt.wire import LARGE, BufferedSocket, dial

if TYPE_CHECKING:
    from paho.mqtt.client import ConnectFlags, DisconnectFlags, MQTTMessage
    from paho.mqtt.reasoncodes import ReasonCode

_PROCESS = uuid.uuid4().hex
_ID_DIGITS = 12
_OWN = "twinbridge"
_VERSIONS = {"3.1.1": MQTTProtocolVersion.MQTTv311, "5": MQTTProtocolVersion.MQTTv5}
SILENCES = 1.5
"""A broker that was silent for so many keep-alives is lost (MQTT 3.1.1, 3.1.2.10)."""

GATHER = 0.025
"""Seconds: when messages come faster than this they are read together, others at once."""
GATHER_URGENT = 0.001
"""The same where an input of a trip is among them."""


class Receiver(Protocol):
    """Who is told what comes; called within the loop, and only to take note."""

    def received(self, topic: str, payload: bytes, told: Told, *, retained: bool) -> None:
        """`told` is what MQTT 5 says beside the payload."""

    def granted(self, packet: int, codes: Sequence[int]) -> None:
        """The answer to `subscribe`, a code for each topic in its order."""

    def lost(self) -> None:
        """The session is over; `Session.check` raises why."""


@dataclass(frozen=True, slots=True)
class Told:
    """What MQTT 5 says beside a published payload. `expiry`: seconds, None for ever."""

    expiry: int | None = None
    response_topic: str = ""
    correlation: bytes = b""


NOTHING_MORE = Told()


class _Paho(Client):
    """paho on a socket that is connected already."""

    def __init__(self, broker: Broker, sock: BufferedSocket, will: Will | None) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=broker.client_id or client_id(broker.endpoint),
            protocol=_VERSIONS[broker.version],
            reconnect_on_failure=False,
        )
        self._ready = sock
        if will is not None:
            self.will_set(will.topic, will.payload, will.qos, will.retain)

    @override
    def _create_socket(self) -> Any:  # paho's type of a socket names only what it has itself
        return self._ready

    def ping(self) -> None:
        self._send_pingreq()


def client_id(endpoint: str) -> str:
    """One of this process and endpoint, of letters and digits that every broker takes."""
    digest = hashlib.sha256(f"{_PROCESS} {endpoint}".encode()).hexdigest()
    return f"{_OWN}{digest[:_ID_DIGITS]}"


class Session:
    """From CONNECT to DISCONNECT, or until it is lost."""

    def __init__(
        self, broker: Broker, sock: BufferedSocket, to: Receiver, will: Will | None = None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._broker = broker
        self._endpoint = broker.endpoint
        self._socket = sock
        self._number = sock.fileno()
        self._to = to
        self._keepalive = broker.keepalive / SECOND
        self._properties_follow = broker.version == "5"
        self._paho = _Paho(broker, sock, will)
        self._accepted: asyncio.Future[None] = self._loop.create_future()
        self._unacknowledged: dict[int, asyncio.Future[int]] = {}
        self._why = ""
        self._writing = False
        self._flushing = False
        self._passing = 0
        """Bytes to come of the packet that the client library reads."""
        self._timer: asyncio.TimerHandle | None = None
        self._ping_at = 0.0
        self._read_at = 0.0
        self.gather = GATHER
        self.heard = monotonic()
        """When the broker last said anything, s of the monotonic clock."""

    async def begin(self, password: str | None) -> None:
        """Raises LinkLost when the broker refuses."""
        paho = self._paho
        paho.on_connect = self._connected
        paho.on_disconnect = self._disconnected
        paho.on_message = self._message
        paho.on_subscribe = self._subscribed
        paho.on_publish = self._published
        if self._broker.username is not None:
            paho.username_pw_set(self._broker.username, password)
        self._socket.when_closed(self._unwatch)
        self._loop.add_reader(self._number, self._readable)
        paho.connect(self._broker.host, self._broker.port, round(self._keepalive))
        self._flush()
        await self._accepted
        self._tick()

    def check(self) -> None:
        """Raises LinkLost once the session is over."""
        if self._why:
            raise LinkLost(f"{self._endpoint}: {self._why}")

    def subscribe(self, topics: Sequence[tuple[str, int]], *, commands: bool = False) -> int:
        """Topics with their QoS; returns the packet's number. Raises LinkLost.

        `commands`: with MQTT 5, tell of each message whether it was published as retained, and
        nothing that we publish ourselves (3.8.3.1).
        """
        self.check()
        if commands and self._properties_follow:
            wanted = [
                (topic, SubscribeOptions(qos, noLocal=True, retainAsPublished=True))
                for topic, qos in topics
            ]
            code, packet = self._paho.subscribe(wanted)
        else:
            code, packet = self._paho.subscribe(list(topics))
        self._flush(code)
        self.check()
        return packet or 0

    def unsubscribe(self, topics: Sequence[str]) -> None:
        self.check()
        code, _ = self._paho.unsubscribe(list(topics))
        self._flush(code)

    @property
    def backlog(self) -> int:
        """Bytes that the system has not taken yet."""
        return self._socket.backlog

    def send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """With QoS 0; what is sent in one turn of the loop goes out together. Raises LinkLost."""
        self.check()
        self._socket.send(
            plain_packet(topic, payload, retain=retain, properties=self._properties_follow)
        )
        if not self._flushing and not self._writing:
            self._flushing = True
            self._loop.call_soon(self._flush_gathered)

    def publish_soon(
        self, topic: str, payload: bytes, told: Told = NOTHING_MORE, *, retain: bool = False
    ) -> asyncio.Future[int]:
        """With QoS 1; the future gets the acknowledgement's code, or LinkLost. Raises LinkLost."""
        self.check()
        properties = self._properties(told)
        sent = self._paho.publish(topic, payload, qos=1, retain=retain, properties=properties)
        acknowledged: asyncio.Future[int] = self._loop.create_future()
        self._unacknowledged[sent.mid] = acknowledged
        self._flush(sent.rc)
        self.check()
        return acknowledged

    async def publish(
        self,
        topic: str,
        payload: bytes,
        told: Told,
        timeout: float,  # noqa: ASYNC109 - bounds the acknowledgement
        *,
        retain: bool = False,
    ) -> int:
        """With QoS 1; returns the code of the acknowledgement.

        Raises NoResponse without one in time: then whether the broker has it is not known.
        """
        acknowledged = self.publish_soon(topic, payload, told, retain=retain)
        try:
            async with asyncio.timeout(timeout):
                return await acknowledged
        except TimeoutError as error:
            raise NoResponse(
                f"{self._endpoint}: the broker did not acknowledge a message in {timeout:g} s"
            ) from error

    def close(self) -> None:
        """Say good-bye if the broker is there, and let go of everything."""
        if not self._why:
            self._paho.disconnect()
            self._flush()
        self._lose("closed")

    def drop(self) -> None:
        """Let go without a word: the broker then speaks the will."""
        self._lose("closed")

    def _properties(self, told: Told) -> Properties | None:
        if not self._properties_follow or told == NOTHING_MORE:
            return None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's own
        if told.expiry is not None:
            properties.MessageExpiryInterval = told.expiry
        if told.response_topic:
            properties.ResponseTopic = told.response_topic
        if told.correlation:
            properties.CorrelationData = told.correlation
        return properties

    def _readable(self) -> None:
        try:
            open_still = self._socket.fill()
        except OSError as error:
            self._lose(f"the connection broke: {error}")
            return
        if not open_still:
            self._lose(f"the broker closed the connection{self._rival()}")
            return
        now = monotonic()
        self._take(now)
        if self._why:
            return
        if self._socket.pending:
            self._loop.call_soon(self._read_on)
        elif now - self._read_at < self.gather:
            self._loop.remove_reader(self._number)
            self._loop.call_later(self.gather, self._read_again)
        self._read_at = now

    def _read_again(self) -> None:
        if not self._why:
            self._loop.add_reader(self._number, self._readable)

    def _rival(self) -> str:
        """A broker ends the older of two sessions with one client id, mostly without a word."""
        name = self._broker.client_id
        ours = not name or name.startswith(_OWN)
        return "" if ours else f" (does another client use the client id {name}?)"

    def _read_on(self) -> None:
        if not self._why:
            self._readable()

    def _take(self, now: float) -> None:
        """Whole packets count as a sign of life; bytes alone may be anything."""
        code = 0
        try:
            while not code and not self._why and self._next_packet(now):
                code = self._hand_on(now)
        except Exception as error:  # noqa: BLE001 - a malformed packet raises whatever comes of it
            self._lose(f"what the broker sent is no MQTT: {error}")
        self._flush(code)

    def _next_packet(self, now: float) -> bool:
        """Take plain messages until another packet comes first; False when bytes are wanting."""
        wire, properties = self._socket, self._properties_follow
        held, received = wire.held, self._to.received
        while not self._passing:
            frame = frame_at(held, wire.at)
            if frame is None or (frame.end > len(held) and frame.end - frame.start <= LARGE):
                return False
            message = None
            if frame.plain and frame.end <= len(held):
                message = plain_message(held, frame, properties=properties)
            if message is None:
                self._passing = frame.end - frame.start
            else:
                wire.at = frame.end
                self.heard = now
                topic, payload = message
                received(topic, payload, NOTHING_MORE, retained=frame.retained)
        return wire.at < len(held)

    def _hand_on(self, now: float) -> int:
        """Let the library have what there is of the packet that is its own; returns its code."""
        wire = self._socket
        before = wire.at
        wire.deal(min(len(wire.held), before + self._passing))
        code = self._paho.loop_read()
        self._passing -= wire.at - before
        if not self._passing:
            self.heard = now
        return code

    def _flush(self, code: int = 0) -> None:
        """After whatever may have written: the loop sends what the socket did not take."""
        if code:
            self._lose(faults.failure(code))
        if self._why:
            return
        try:
            waiting = self._socket.flush()
        except OSError as error:
            self._lose(f"the connection broke: {error}")
            return
        if waiting and not self._writing:
            self._loop.add_writer(self._number, self._flush)
        elif self._writing and not waiting:
            self._loop.remove_writer(self._number)
        self._writing = waiting

    def _flush_gathered(self) -> None:
        self._flushing = False
        self._flush()

    def _tick(self) -> None:
        """Ask the broker twice per keep-alive; notice when it no longer answers."""
        if self._why:
            return
        now = monotonic()
        silent_at = self.heard + SILENCES * self._keepalive
        if now >= silent_at:
            self._lose(f"the broker was silent for {SILENCES * self._keepalive:g} s")
            return
        if now >= self._ping_at:
            self._paho.ping()
            self._flush()
            self._ping_at = now + self._keepalive / 2
        self._timer = self._loop.call_later(min(self._ping_at, silent_at) - now, self._tick)

    def _lose(self, why: str) -> None:
        if self._why:
            return
        self._why = why
        if self._timer is not None:
            self._timer.cancel()
        self._socket.close()
        error = LinkLost(f"{self._endpoint}: {why}")
        if not self._accepted.done():
            self._accepted.set_exception(error)
            self._accepted.exception()  # looked at, also when nobody waits for it any more
        for waiter in self._unacknowledged.values():
            if not waiter.done():
                waiter.set_exception(error)
                waiter.exception()  # as above
        self._to.lost()

    def _unwatch(self) -> None:
        self._loop.remove_reader(self._number)
        self._loop.remove_writer(self._number)

    def _connected(
        self,
        _c: Client,
        _u: object,
        _f: ConnectFlags,
        code: ReasonCode,
        said: Properties | None,
    ) -> None:
        if faults.refused(code.value):
            self._lose(f"the broker refuses the connection: {faults.connack(code.value)}")
            return
        given = getattr(said, "ServerKeepAlive", 0)
        if given:
            self._keepalive = min(self._keepalive, given)
        if not self._accepted.done():
            self._accepted.set_result(None)

    def _disconnected(
        self, _c: Client, _u: object, flags: DisconnectFlags, code: ReasonCode, _p: object
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._lose(f"the broker closed the connection: {faults.reason(code.value)}")

    def _message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return
        told, said = NOTHING_MORE, message.properties
        if said is not None and not said.isEmpty():  # type: ignore[no-untyped-call]  # paho's own
            told = Told(
                getattr(said, "MessageExpiryInterval", None),
                getattr(said, "ResponseTopic", ""),
                getattr(said, "CorrelationData", b""),
            )
        self._to.received(topic, bytes(message.payload), told, retained=message.retain)

    def _subscribed(
        self, _c: Client, _u: object, packet: int, codes: Sequence[ReasonCode], _p: object
    ) -> None:
        self._to.granted(packet, [code.value for code in codes])

    def _published(self, _c: Client, _u: object, packet: int, code: ReasonCode, _p: object) -> None:
        waiter = self._unacknowledged.pop(packet, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(code.value)


@asynccontextmanager
async def open_session(
    broker: Broker, to: Receiver, will: Will | Callable[[], Will] | None = None
) -> AsyncIterator[Session]:
    """Raises LinkLost when the broker is not reached, or refuses, within `timeout`.

    A will that is a function is asked for once the broker is reached, right before CONNECT.
    """
    session: Session | None = None
    try:
        async with asyncio.timeout(broker.timeout / SECOND):
            password = await asyncio.to_thread(_password, broker)
            sock = await dial(broker)
            session = Session(broker, sock, to, will() if callable(will) else will)
            await session.begin(password)
    except (OSError, ValueError) as error:
        if session is not None:
            session.close()
        raise LinkLost(f"{broker.endpoint}: {_words(broker, error)}") from error
    except BaseException:
        if session is not None:
            session.close()
        raise
    try:
        yield session
    finally:
        session.close()


def _password(broker: Broker) -> str | None:
    if broker.password_file is None:
        return None
    return Path(broker.password_file).read_text(encoding="utf-8").rstrip("\r\n")


def _words(broker: Broker, error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"the broker did not answer within {broker.timeout / SECOND:g} s"
    # The event loop puts its own words over the system's.
    called = isinstance(error, OSError) and str(error.strerror).startswith("Connect call failed")
    words = os.strerror(error.errno) if called and error.errno else str(error)  # type: ignore[attr-defined]  # an OSError
    return f"cannot connect: {words}"
