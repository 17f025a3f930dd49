"""A driver pod's end of the bus: from the machines' own bus to the broker, and back.

The machines speak on a bus within their process, which never waits. What is alarm, audit or
outcome is put on disk here at once, whether the broker is there or not; of samples the newest
wait until it is.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import NoReturn

import structlog

from twinbridge.adapters.bus_memory import MemoryBus
from twinbridge.adapters.bus_mqtt.encoding import (
    AgentStatus,
    Answer,
    DriverStatus,
    Frame,
    Malformed,
    decode_agent,
    decode_frame,
    encode_answer,
    encode_frame,
    encode_status,
)
from twinbridge.adapters.bus_mqtt.handover import Handover
from twinbridge.adapters.bus_mqtt.metrics import CONNECTED, FRAMES_OUT, REFUSED, UNKEPT_LOST
from twinbridge.adapters.bus_mqtt.requests import Requests
from twinbridge.adapters.bus_mqtt.topics import Topics
from twinbridge.adapters.driver_store import DriverStore, Record
from twinbridge.api.broker import Broker, Will
from twinbridge.core.messages import AlarmChanged, Contact, Event, Samples, TellAll
from twinbridge.errors import StoreUnavailable, Unreachable
from twinbridge.mqtt.connection import Connection, Message, connected, stay_connected

log = structlog.get_logger()

HEARTBEAT = 1.0
"""Seconds after which a driver with nothing to say says that it lives."""
PATIENCE = 1.0
"""Seconds between tries while the disk takes no records."""
BACKLOG = 262_144
"""Bytes that may wait for the broker; beyond them samples are coalesced."""
UNKEPT_LIMIT = 10_000
LONGEST_WAIT = 2.0
"""Seconds between tries to reach the broker: less than a lease lasts."""
FAREWELL = 1.0
"""Seconds that a good-bye may take."""

Serve = Callable[[Connection], Awaitable[None]]


class DriverSide:
    """Run `keep` as long as the process lives, and `run` beside it.

    `on_definitions` gets each new portion as it came, `on_inputs` what other drivers tell of the
    devices named by `listen_to`. What `serve_also` gives has its turn on the same connection.
    """

    def __init__(
        self,
        broker: Broker,
        topics: Topics,
        protocol: str,
        owner: str,
        store: DriverStore,
        machines: MemoryBus,
        *,
        on_definitions: Callable[[bytes], None],
        on_inputs: Callable[[Sequence[Event]], None],
    ) -> None:
        self.boot = uuid.uuid4().hex
        self.connected = asyncio.Event()
        self.exports: frozenset[str] = frozenset()
        """Devices that rules in other processes read."""
        self._broker = broker
        self._topics = topics
        self._protocol = protocol
        self._owner = owner
        self._store = store
        self._machines = machines
        self._events = machines.subscribe()
        self._outgoing = MemoryBus()
        self._waiting = self._outgoing.subscribe()
        self._unkept: list[Record] = []
        self._kept_bell = asyncio.Event()
        self._on_definitions = on_definitions
        self._on_inputs = on_inputs
        self._handover = Handover(topics, owner, store)
        self._requests = Requests(owner, machines.request, self._answer)
        self._status = DriverStatus(online=True, protocol=protocol, boot=self.boot)
        self._foreign: frozenset[str] = frozenset()
        self._agent = ""
        self._frames = 0
        self._connection: Connection | None = None
        self._open: Connection | None = None
        """Where samples may be sent at once."""
        self._stuck = asyncio.Event()
        self._spoken = False
        self._also: Serve | None = None
        self._release: Serve | None = None
        self._hears: Callable[[Message], bool] = _nothing

    def serve_also(self, serve: Serve, hears: Callable[[Message], bool], release: Serve) -> None:
        """`release` comes last, on a graceful stop."""
        self._also, self._hears, self._release = serve, hears, release

    def tell_status(self, status: DriverStatus) -> None:
        """Say it now, and after each connect."""
        self._status = status
        if self._connection is not None and self._connection.alive:
            self._tell_status(self._connection)

    def listen_to(self, devices: frozenset[str]) -> None:
        """Follow these devices of other processes."""
        new, gone = devices - self._foreign, self._foreign - devices
        self._foreign = devices
        connection = self._connection
        if connection is not None and connection.alive:
            if new:
                connection.subscribe_soon(*((self._topics.input(d), 0) for d in sorted(new)))
            if gone:
                connection.unsubscribe(*(self._topics.input(d) for d in sorted(gone)))

    # What the machines say.

    async def keep(self) -> NoReturn:
        """Put on disk what must not be lost; line up the rest. Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(), name="bus machines")
            tasks.create_task(self._keep_records(), name="bus journal")
        raise AssertionError("its tasks never end")

    async def _listen(self) -> NoReturn:
        """Take what the machines say; waits for neither broker nor disk."""
        while True:
            batch = await anext(self._events)
            values: list[Samples | Contact] = []
            for event in batch:
                if isinstance(event, Samples | Contact):
                    values.append(event)
                else:
                    self._unkept.append(event)
            if values:
                self._tell(values, self._events.since)
            if self._unkept:
                self._kept_bell.set()

    async def _keep_records(self) -> NoReturn:
        while True:
            await self._kept_bell.wait()
            self._kept_bell.clear()
            while not await self._record():  # noqa: ASYNC110 - a disk tells nobody that it is well
                await asyncio.sleep(PATIENCE)

    async def _record(self) -> bool:
        """What waits is kept, all at once; False while the disk does not take it."""
        records, self._unkept = self._unkept, []
        new = [r for r in records if not (isinstance(r, AlarmChanged) and self._store.has(r.alarm))]
        try:
            if new:
                await self._store.record(*new)
        except StoreUnavailable as error:
            waiting = new + self._unkept
            self._unkept = waiting[:UNKEPT_LIMIT]
            UNKEPT_LOST.inc(len(waiting) - len(self._unkept))
            log.debug("records are not kept yet", count=len(waiting), why=str(error))
            return False
        return True

    def _tell(self, values: Sequence[Samples | Contact], since: int) -> None:
        """At once while the broker takes them, and nothing older waits; else they line up."""
        connection = self._open
        if connection is None or not connection.alive:
            for event in values:
                self._outgoing.publish(event)
            return
        self._send_frame(connection, values, since)
        if connection.backlog > BACKLOG:
            self._open = None
            self._stuck.set()

    async def drain(self) -> None:
        """On a graceful stop, after the machines have stopped: keep what they said last."""
        self._machines.publish(Contact("", connected=False, at=0))  # so that there is a batch
        last = await asyncio.wait_for(anext(self._events), PATIENCE)
        self._unkept += [event for event in last if not isinstance(event, Samples | Contact)]
        await self._record()

    # The broker.

    async def run(self) -> NoReturn:
        """Serve until cancelled; says good-bye then.

        Requests are done to their end whether the broker is there or not.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._requests.run(), name="bus requests")
            tasks.create_task(stay_connected("bus", self._serve, longest=LONGEST_WAIT), name="bus")
        raise AssertionError("its tasks never end")

    async def _serve(self) -> None:
        topics = self._topics
        gone = encode_status(DriverStatus(online=False, protocol=self._protocol))
        will = Will(topics.status(self._owner), gone, qos=1, retain=True)
        async with connected(self._broker, self._heard, will) as connection:
            self._connection = connection
            try:
                await connection.subscribe(
                    (topics.agent, 1),
                    (topics.definitions(self._protocol), 1),
                    (topics.requests, 1),
                    (topics.taken(self._owner), 0),
                    *((topics.input(device), 0) for device in sorted(self._foreign)),
                )
                self._tell_status(connection)
                CONNECTED.set(1)
                self.connected.set()
                await self._work(connection)
            finally:
                self._connection = None
                self.connected.clear()
                CONNECTED.set(0)
                if connection.alive:
                    await self._say_goodbye(connection, will)

    async def _say_goodbye(self, connection: Connection, will: Will) -> None:
        """Only on a graceful stop: an outage needs no words."""
        with suppress(Unreachable, TimeoutError):
            async with asyncio.timeout(FAREWELL):
                await connection.publish(will.topic, will.payload, retain=True)
                if self._release is not None:
                    await self._release(connection)

    async def _work(self, connection: Connection) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(connection.until_lost(), name="bus connection")
            tasks.create_task(self._send_frames(connection), name="bus samples")
            tasks.create_task(self._handover.serve(connection), name="bus records")
            tasks.create_task(self._tell_all(), name="bus greeting")
            if self._also is not None:
                tasks.create_task(_awaited(self._also, connection), name="bus leases")

    async def _tell_all(self) -> None:
        """What was on its way when the last connection broke may be lost."""
        with suppress(Unreachable):  # the machines have not started yet
            await self._machines.request(TellAll())

    def _tell_status(self, connection: Connection) -> None:
        topic = self._topics.status(self._owner)
        connection.publish_soon(topic, encode_status(self._status), retain=True)

    async def _send_frames(self, connection: Connection) -> NoReturn:
        """What has waited goes first; then `_tell` sends, and here is only said that we live."""
        try:
            while True:
                self._stuck.clear()
                await connection.drained(BACKLOG)
                waited = [e for e in self._waiting.taken() if isinstance(e, Samples | Contact)]
                if waited or not self._spoken:
                    self._send_frame(connection, waited, self._waiting.since if waited else 0)
                self._spoken = False
                if connection.backlog <= BACKLOG:
                    self._open = connection  # nothing waits: there was no turn of the loop since
                    await self._stuck_for(HEARTBEAT / 2)
        finally:
            self._open = None

    async def _stuck_for(self, seconds: float) -> None:
        """Until the broker takes no more, at most `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stuck.wait()

    def _send_frame(
        self, connection: Connection, events: Sequence[Samples | Contact], since: int
    ) -> None:
        self._frames += 1
        self._spoken = True
        frame = encode_frame(Frame(self.boot, self._frames, events, since))
        connection.send(self._topics.samples(self._owner), frame)
        FRAMES_OUT.inc()
        if self.exports:
            for event in events:
                if event.device in self.exports:
                    told = encode_frame(Frame(self.boot, 0, [event], since))
                    connection.send(self._topics.input(event.device), told)

    async def _answer(self, agent: str, answer: Answer) -> None:
        """One that does not reach the agent is asked for again."""
        connection = self._connection
        if connection is not None:
            with suppress(Unreachable):
                await connection.publish(self._topics.replies(agent), encode_answer(answer))

    # What comes.

    def _heard(self, message: Message) -> None:
        topics, topic = self._topics, message.topic
        if self._hears(message):
            return
        if topic == topics.requests:
            self._requests.heard(message.payload, retained=message.retained)
        elif topic == topics.taken(self._owner):
            self._handover.taken(message.payload)
        elif topic == topics.definitions(self._protocol):
            self._on_definitions(message.payload)
        elif topic == topics.agent:
            self._agent_says(message.payload)
        else:
            self._input(message.payload)

    def _agent_says(self, payload: bytes) -> None:
        try:
            status = decode_agent(payload) if payload else AgentStatus(False, "", "")
        except Malformed as error:
            REFUSED.labels("malformed agent status").inc()
            log.warning("the agent's status cannot be read", why=str(error))
            return
        if status.online:
            self._requests.expect(status.boot)
            if status.agent != self._agent:
                self._agent = status.agent
                self._store.forget_told()
        self._handover.agent_is(there=status.online)

    def _input(self, payload: bytes) -> None:
        try:
            frame = decode_frame(payload)
        except Malformed as error:
            REFUSED.labels("malformed input").inc()
            log.debug("an input cannot be read", why=str(error))
            return
        events = [event for event in frame.events if event.device in self._foreign]
        if events:
            self._on_inputs(events)


async def _awaited(serve: Serve, connection: Connection) -> None:
    await serve(connection)


def _nothing(message: Message) -> bool:
    del message
    return False
