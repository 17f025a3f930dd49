"""The Sparkplug face: one session after the other."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Final

import structlog
from typing_extensions import override

from twinbridge.adapters.scada_sparkplug.bdseq import BirthDeathSequence
from twinbridge.adapters.scada_sparkplug.commands import CommandDesk
from twinbridge.adapters.scada_sparkplug.host import PrimaryHost
from twinbridge.adapters.scada_sparkplug.metrics import CONNECTED, CONNECTIONS, MESSAGES
from twinbridge.adapters.scada_sparkplug.node import Node
from twinbridge.adapters.scada_sparkplug.topics import Topics, Verb, clean, state
from twinbridge.api.broker import Will, parse_url
from twinbridge.api.scada import SparkplugB
from twinbridge.errors import Unreachable
from twinbridge.mqtt.connection import Connection, Message, connected, stay_connected
from twinbridge.mqtt.session import client_id
from twinbridge.ports import Actor, Face, FellBehind, Twins

log = structlog.get_logger()

ORIGIN: Final = "sparkplug"
GOOD_BYE: Final = 1.0
"""Seconds that a good-bye may take."""
_ROOM: Final = 256 * 1024
"""Bytes that may wait for a slow broker before more is said."""


class SparkplugFace(Face):
    """An edge node as `docs/reference/sparkplug.md` says. `state_dir` keeps bdSeq."""

    name = "sparkplug"

    def __init__(self, options: SparkplugB, twins: Twins, state_dir: Path) -> None:
        self._twins = twins
        topics = Topics(options.group, clean(options.node or twins.node))
        self._topics = topics
        broker = parse_url(options.broker)
        own = client_id(f"{broker.endpoint} {topics.of_node(Verb.NDEATH)}")
        self._broker = replace(
            broker,
            client_id=broker.client_id or own,
            version="3.1.1",
            called=f"{broker.endpoint} (Sparkplug)",
        )
        self._bd_seq = BirthDeathSequence(state_dir)
        self._host = PrimaryHost(awaited=options.primary_host is not None)
        self._state = state(options.primary_host) if options.primary_host else ""
        commanded = options.commands == "Allow"
        self._node = Node(topics, twins, monotonic, keep=options.keep_samples, writable=commanded)
        actor = Actor(f"{ORIGIN}:{options.primary_host or options.group}", ORIGIN, broker.endpoint)
        self._desk = CommandDesk(self._node, topics, twins, actor, monotonic, allowed=commanded)
        self._bell = asyncio.Event()
        """Rung when there may be something to say or to do."""
        self._connected = False

    @property
    @override
    def connected(self) -> bool:
        return self._connected

    @override
    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(), name="sparkplug changes")
            tasks.create_task(self._desk.run(), name="sparkplug desk")
            tasks.create_task(stay_connected("sparkplug face", self._serve), name="sparkplug face")

    async def _follow(self) -> None:
        """Also while there is no broker: what happens then is kept."""
        while True:
            try:
                async with aclosing(self._twins.follow()) as batches:
                    async for changes in batches:
                        self._node.take(changes)
                        self._bell.set()
            except FellBehind:
                self._node.fell_behind()
                self._bell.set()
            else:
                return

    async def _serve(self) -> None:
        """Connect, and serve until the broker or the host is lost. Raises Unreachable."""
        await asyncio.to_thread(self._bd_seq.reserve)
        self._host.session_began()
        async with connected(self._broker, self._hear, self._will) as connection:
            CONNECTIONS.inc()
            self._set_connected(there=True)
            try:
                await connection.subscribe(*self._filters())
                await self._until_lost(connection)
            finally:
                self._set_connected(there=False)
                self._node.end()
                await self._say_good_bye(connection)

    def _will(self) -> Will:
        """Of a CONNECT that is about to be sent: it has a number of its own."""
        topic, payload = self._node.death(self._bd_seq.use())
        return Will(topic, payload, qos=1, retain=False)

    def _filters(self) -> list[tuple[str, int]]:
        topics = [self._topics.of_node(Verb.NCMD), self._topics.of_device(Verb.DCMD, "+")]
        if self._state:
            topics.append(self._state)
        return [(topic, 1) for topic in topics]

    def _hear(self, message: Message) -> None:
        if message.topic == self._state:
            self._host.hear(message.payload)
        else:
            self._desk.hear(message)
        self._bell.set()

    async def _until_lost(self, connection: Connection) -> None:
        """Returns when the primary host has gone: the session begins anew then (5.5)."""
        async with asyncio.TaskGroup() as tasks:
            lost = tasks.create_task(connection.until_lost(), name="sparkplug broker")
            if not self._host.online:
                log.info("waiting for the primary host", topic=self._state)
            while not self._host.online:
                await self._rung(None)
            self._node.begin(self._bd_seq.last)
            while not self._host.left:
                said = self._node.say()
                for topic, payload in said:
                    connection.send(topic, payload)
                if said:
                    await connection.drained(_ROOM)
                    await asyncio.sleep(0)
                else:
                    await self._rung(self._node.due_in)
            lost.cancel()

    async def _rung(self, seconds: float | None) -> None:
        """Or after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._bell.wait()
        self._bell.clear()

    async def _say_good_bye(self, connection: Connection) -> None:
        """NDEATH, then DISCONNECT; a broker that does not take it in time speaks the will."""
        try:
            async with asyncio.timeout(GOOD_BYE):
                await connection.publish(*self._node.death(self._bd_seq.last))
                MESSAGES.labels(Verb.NDEATH).inc()
        except Unreachable:
            pass  # it has spoken the will, or will
        except TimeoutError:
            connection.drop()

    def _set_connected(self, *, there: bool) -> None:
        self._connected = there
        CONNECTED.set(there)
