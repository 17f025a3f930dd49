"""An agent pod's end of the bus: what drivers say, once each; what is asked of them, answered."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import NoReturn

import structlog
from typing_extensions import override

from twinbridge.adapters.agent_store import AgentStore
from twinbridge.adapters.bus_memory import MemoryBus, Subscription
from twinbridge.adapters.bus_mqtt.encoding import (
    AgentStatus,
    Answer,
    Asked,
    DriverStatus,
    Malformed,
    decode_answer,
    decode_frame,
    decode_handover,
    decode_status,
    encode_agent,
    encode_asked,
)
from twinbridge.adapters.bus_mqtt.metrics import (
    CONNECTED,
    FRAMES_IN,
    GAPS,
    HOP,
    RECORDS,
    REFUSED,
    REPEATED,
)
from twinbridge.adapters.bus_mqtt.topics import Topics
from twinbridge.adapters.driver_store import Record
from twinbridge.adapters.state_sqlite import boot_id
from twinbridge.api.broker import Broker, Will
from twinbridge.core.messages import Event, Request, SetMode, TellAll
from twinbridge.core.model import SECOND
from twinbridge.errors import StoreUnavailable, TwinBridgeError, UnknownName, Unreachable
from twinbridge.mqtt.connection import Connection, Message, connected, stay_connected
from twinbridge.ports import AgentBus

log = structlog.get_logger()

OLD = 10 * SECOND
SILENT = 3.0
"""Seconds without a word of a driver after which its devices are lost; it speaks every second."""
ANSWER_WITHIN = 5.0
ASK_AGAIN = 1.0
TELL_AGAIN = 1.0
"""Seconds between two questions to a driver for everything it knows."""
ASSERT_AGAIN = 1.0
FRAMES_TIMED = 1000
HANDOVERS = 1000
"""Messages with records that wait for the disk; a driver has one on its way."""


@dataclass(slots=True)
class Owner:
    """A driver process, by its owner id. Times of the loop's clock, s."""

    status: DriverStatus = field(default_factory=lambda: DriverStatus(online=False))
    frame_boot: str = ""
    frame: int = 0
    heard: float = 0.0
    lost: bool = True
    asked_all: float = float("-inf")


@dataclass(slots=True)
class _Open:
    """A request that waits for its answer."""

    asked: Asked
    of: frozenset[str]
    everybody: bool
    result: asyncio.Future[None]
    unknown: dict[str, TwinBridgeError] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)


class _Timed(AsyncIterator[Sequence[Event]]):
    """Who asks for the next batch has taken the one before: then its way is over."""

    def __init__(self, batches: Subscription, sent: deque[int]) -> None:
        self._batches = batches
        self._sent = sent

    @override
    async def __anext__(self) -> Sequence[Event]:
        now = time.time_ns()
        while self._sent:
            age = now - self._sent.popleft()
            if 0 <= age < OLD:  # what an outage has held says nothing of the way
                HOP.observe(age / SECOND)
        return await anext(self._batches)


class AgentSide(AgentBus):
    """Run `run` as long as the process lives.

    `knows` says whether a device is defined. `on_lost(devices, why)`: nothing more is heard of
    them; `on_served(devices)`: a driver, or a new start of it, serves them now; `on_problems`:
    why resources do not run there; `on_mode`: the drivers have taken a rule's mode.
    """

    def __init__(
        self,
        broker: Broker,
        topics: Topics,
        agent: str,
        store: AgentStore,
        *,
        version: str = "",
        queue_limit: int = 10_000,
        knows: Callable[[str], bool],
        on_lost: Callable[[Iterable[str], str], None],
        on_served: Callable[[Iterable[str]], None],
        on_problems: Callable[[str, Mapping[str, str]], None],
        on_mode: Callable[[SetMode], Awaitable[None]] | None = None,
    ) -> None:
        self.owners: dict[str, Owner] = {}
        self.connected = asyncio.Event()
        self._broker = broker
        self._topics = topics
        self._agent = agent
        self._boot = uuid.uuid4().hex
        self._version = version
        self._system = boot_id()
        self._store = store
        self._knows = knows
        self._on_lost = on_lost
        self._on_served = on_served
        self._on_problems = on_problems
        self._on_mode = on_mode
        self._inner = MemoryBus(queue_limit=queue_limit)
        self._numbers = count(1)
        self._open: dict[int, _Open] = {}
        self._sent: deque[int] = deque(maxlen=FRAMES_TIMED)
        """Of frames that the agent has not taken yet: when their first event was said, UTC ns."""
        self._portions: dict[str, bytes] = {}
        self._records: deque[tuple[str, Sequence[tuple[int, Record]]]] = deque()
        self._records_bell = asyncio.Event()
        self._told: dict[str, int] = {}
        """By driver: up to which record was told while the disk did not take it."""
        self._connection: Connection | None = None
        self._assert_at = 0.0
        there = AgentStatus(True, self._agent, self._boot, self._version)
        self._there = encode_agent(there)

    # For the agent.

    def subscribe(self) -> AsyncIterator[Sequence[Event]]:
        return _Timed(self._inner.subscribe(), self._sent)

    @property
    def coalesced(self) -> int:
        return self._inner.coalesced

    async def request(self, request: Request) -> None:
        """Of all drivers that are there; the first that knows what it is about decides.

        A rule's mode is asked of every driver: one that refuses is told.
        """
        of = frozenset(name for name, owner in self.owners.items() if not owner.lost)
        if not of or self._connection is None:
            raise Unreachable("no driver is there now; it is asked again when one is")
        asked = Asked(self._agent, self._boot, next(self._numbers), request, self._system)
        result: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open[asked.number] = _Open(asked, of, isinstance(request, SetMode), result)
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                await self._ask(asked, result)
        except TimeoutError:
            raise Unreachable(
                f"no driver answered within {ANSWER_WITHIN:g} s; asked: {', '.join(sorted(of))}"
            ) from None
        finally:
            del self._open[asked.number]
        if isinstance(request, SetMode) and self._on_mode is not None:
            await self._on_mode(request)

    async def _ask(self, asked: Asked, result: asyncio.Future[None]) -> None:
        """Until there is an answer: what a lost connection took with it is asked again."""
        payload = encode_asked(asked)
        while not result.done():
            connection = self._connection
            if connection is not None and connection.alive:
                connection.publish_soon(self._topics.requests, payload)
            await asyncio.wait([result], timeout=ASK_AGAIN)
        result.result()

    def define(self, portions: Mapping[str, bytes]) -> None:
        """What the drivers of each protocol need to know, retained by the broker."""
        changed = {p: body for p, body in portions.items() if self._portions.get(p) != body}
        self._portions = dict(portions)
        if self._connection is not None and self._connection.alive:
            self._publish_definitions(self._connection, changed)

    # The broker.

    async def run(self) -> NoReturn:
        """Serve until cancelled; says good-bye then."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._take_over(), name="bus records")
            tasks.create_task(self._watch(), name="bus silence")
            tasks.create_task(stay_connected("bus", self._serve), name="bus")
        raise AssertionError("its tasks never end")

    async def _serve(self) -> None:
        topics = self._topics
        gone = encode_agent(AgentStatus(False, self._agent, self._boot, self._version))
        will = Will(topics.agent, gone, qos=1, retain=True)
        async with connected(self._broker, self._heard, will) as connection:
            self._connection = connection
            try:
                await connection.subscribe(
                    (topics.status("+"), 1),
                    (topics.samples("+"), 0),
                    (topics.records("+"), 1),
                    (topics.replies(self._agent), 1),
                    (topics.agent, 1),
                )
                await connection.publish(topics.agent, self._there, retain=True)
                self._publish_definitions(connection, self._portions)
                for owner in self.owners.values():
                    owner.frame = 0  # frames have passed unheard
                self.connected.set()
                CONNECTED.set(1)
                await connection.until_lost()
            finally:
                self._connection = None
                self.connected.clear()
                CONNECTED.set(0)
                if connection.alive:
                    connection.publish_soon(topics.agent, gone, retain=True)

    def _publish_definitions(self, connection: Connection, portions: Mapping[str, bytes]) -> None:
        for protocol, body in portions.items():
            connection.publish_soon(self._topics.definitions(protocol), body, retain=True)

    # What comes.

    def _heard(self, message: Message) -> None:
        kind, _, owner = message.topic.removeprefix(self._topics.prefix).partition("/")
        try:
            match kind:
                case "samples":
                    self._take_frame(owner, message.payload)
                case "records":
                    self._queue_records(owner, message.payload)
                case "status":
                    self._take_status(owner, message.payload)
                case "replies":
                    self._take_answer(decode_answer(message.payload))
                case "agent":
                    self._hear_rival(message)
        except Malformed as error:
            REFUSED.labels(f"malformed {kind}").inc()
            log.debug("a message on the bus is refused", topic=message.topic, why=str(error))

    def _hear_rival(self, message: Message) -> None:
        """Drivers must know which agent is theirs: say it again when somebody says otherwise."""
        now = asyncio.get_running_loop().time()
        if message.retained or message.payload == self._there or now < self._assert_at:
            return
        self._assert_at = now + ASSERT_AGAIN
        log.error("another agent speaks for this node", said=message.payload[:200])
        REFUSED.labels("another agent").inc()
        if self._connection is not None and self._connection.alive:
            self._connection.publish_soon(self._topics.agent, self._there, retain=True)

    def _take_frame(self, name: str, payload: bytes) -> None:
        frame = decode_frame(payload)
        FRAMES_IN.inc()
        owner = self.owners.setdefault(name, Owner())
        owner.heard = asyncio.get_running_loop().time()
        if owner.lost:
            self._found(name, owner)
        if frame.boot != owner.frame_boot or frame.number != owner.frame + 1:
            self._gap(name, owner)
        owner.frame_boot, owner.frame = frame.boot, frame.number
        knows, publish = self._knows, self._inner.publish
        known = [event for event in frame.events if knows(event.device)]
        for event in known:
            publish(event)
        if known and frame.since:
            self._sent.append(frame.since)

    def _gap(self, name: str, owner: Owner) -> None:
        """Frames were missed: it is to tell everything again."""
        if owner.frame:
            GAPS.inc()
        if owner.heard - owner.asked_all >= TELL_AGAIN:
            owner.asked_all = owner.heard
            self._tell_all(owner.status.devices)
        else:
            owner.frame = 0  # the next frame is a gap again
        log.debug("a driver is to tell all", driver=name)

    def _tell_all(self, devices: tuple[str, ...]) -> None:
        connection = self._connection
        if connection is not None and connection.alive:
            asked = Asked(
                self._agent, self._boot, next(self._numbers), TellAll(devices), self._system
            )
            connection.publish_soon(self._topics.requests, encode_asked(asked))

    def _take_status(self, name: str, payload: bytes) -> None:
        if not payload:
            self.owners.pop(name, None)
            return
        status = decode_status(payload)
        owner = self.owners.setdefault(name, Owner())
        before, owner.status = owner.status, status
        if not status.online:
            owner.status = before
            self._lose(name, owner, "its driver has ended")
            return
        owner.heard = asyncio.get_running_loop().time()
        self._on_problems(name, dict(status.problems))
        new_start = status.boot != before.boot
        gone = set(before.devices) - set(status.devices)
        if taken_away := gone - self._served(name):
            self._on_lost(sorted(taken_away), "no driver serves it now")
        came = status.devices if new_start else set(status.devices) - set(before.devices)
        if owner.lost:
            owner.lost = False
            came = status.devices
        if came:
            self._on_served(sorted(came))

    def _served(self, but: str) -> set[str]:
        """Devices of all drivers that are there, but one."""
        return {
            device
            for name, owner in self.owners.items()
            if name != but and not owner.lost
            for device in owner.status.devices
        }

    def _found(self, name: str, owner: Owner) -> None:
        owner.lost = False
        owner.frame = 0
        log.info("driver is there", driver=name, protocol=owner.status.protocol)

    def _lose(self, name: str, owner: Owner, why: str) -> None:
        if owner.lost:
            return
        owner.lost = True
        lost = set(owner.status.devices) - self._served(name)
        log.warning("driver is lost", driver=name, protocol=owner.status.protocol, why=why)
        self._on_lost(sorted(lost), why)

    async def _watch(self) -> NoReturn:
        """A driver that is silent is lost, whatever the broker says of it."""
        while True:
            await asyncio.sleep(SILENT / 6)
            silent_since = asyncio.get_running_loop().time() - SILENT
            for name, owner in list(self.owners.items()):
                if not owner.lost and owner.heard < silent_since:
                    self._lose(name, owner, f"its driver has been silent for {SILENT:g} s")

    def _take_answer(self, answer: Answer) -> None:
        waiting = self._open.get(answer.number)
        if waiting is None or waiting.result.done():
            return
        error = answer.error
        if isinstance(error, UnknownName):
            waiting.unknown[answer.owner] = error
        elif error is not None:
            waiting.result.set_exception(error)
            return
        else:
            waiting.done.add(answer.owner)
        heard_of = waiting.done | waiting.unknown.keys()
        if waiting.done and (not waiting.everybody or heard_of >= waiting.of):
            waiting.result.set_result(None)
        elif heard_of >= waiting.of:
            waiting.result.set_exception(error or next(iter(waiting.unknown.values())))

    # Records.

    def _queue_records(self, owner: str, payload: bytes) -> None:
        if len(self._records) >= HANDOVERS:
            REFUSED.labels("too many records").inc()  # they come again
            return
        self._records.append((owner, decode_handover(payload)))
        self._records_bell.set()

    async def _take_over(self) -> NoReturn:
        while True:
            await self._records_bell.wait()
            self._records_bell.clear()
            while self._records:
                owner, records = self._records.popleft()
                await self._take_records(owner, records)

    async def _take_records(self, owner: str, records: Sequence[tuple[int, Record]]) -> None:
        if not records:
            return
        last = records[-1][0]
        told = self._told.get(owner, 0)
        try:
            new = await self._store.take_over(owner, records)
        except StoreUnavailable as error:
            log.error("records are not taken", driver=owner, why=str(error))  # noqa: TRY400 - a full disk is no bug, its trace says nothing
            # People must hear of a trip; that it is kept is not said.
            self._publish(record for number, record in records if number > told)
            self._told[owner] = max(told, last)
            return
        RECORDS.labels("in").inc(len(new))
        REPEATED.labels("record").inc(len(records) - len(new))
        untold = {id(record) for number, record in records if number > told}
        self._publish(record for record in new if id(record) in untold)
        connection = self._connection
        if connection is not None and connection.alive:
            connection.send(self._topics.taken(owner), b"%d" % last)

    def _publish(self, records: Iterable[Record]) -> None:
        for record in records:
            self._inner.publish(record)
