"""What the face does over one connection: show all, say so, and follow what changes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing, suppress
from time import monotonic

import structlog

from twinbridge.adapters.scada_mqtt import payload
from twinbridge.adapters.scada_mqtt.alarms import ShownAlarms
from twinbridge.adapters.scada_mqtt.history import Backfill, Outages
from twinbridge.adapters.scada_mqtt.metrics import CONNECTED, RESYNCS
from twinbridge.adapters.scada_mqtt.outlet import Outlet
from twinbridge.adapters.scada_mqtt.shown import ShownTwins
from twinbridge.adapters.scada_mqtt.topics import Layout, Topics
from twinbridge.api.scada import PlainMqtt
from twinbridge.core.alarm import Alarm
from twinbridge.core.messages import Contact, Samples
from twinbridge.errors import Unreachable
from twinbridge.mqtt.connection import Connection
from twinbridge.ports import Change, DefinitionsChanged, DesiredChanged, FellBehind, Twins

log = structlog.get_logger()

ONLINE, OFFLINE = b"online", b"offline"
TICK = 0.05
"""Seconds between looks at what is due, when nothing changes."""
SLICE = 1000
"""Samples that are told before others of the loop have their turn."""
STEP = 64 * 1024
"""Bytes of what is due that are sent before others have their turn."""
GOOD_BYE = 0.8
"""Seconds in which a broker must have heard that we go."""


class Service:
    """`layout` is the one of the connection before."""

    def __init__(
        self,
        options: PlainMqtt,
        topics: Topics,
        twins: Twins,
        connection: Connection,
        layout: Layout,
    ) -> None:
        self._options = options
        self._topics = topics
        self._twins = twins
        self._connection = connection
        self.outlet = Outlet(connection)
        self.shown = ShownTwins(options, topics, twins, self.outlet, monotonic, layout)
        self._alarms = ShownAlarms(topics, twins, self.outlet)
        self._all_shown = asyncio.Event()
        self.online = False
        self.listening = False
        """Whether what comes may be a command: not before we have asked for commands."""

    async def run(self, retained: dict[str, str], outages: Outages) -> None:
        """Serve until the broker is lost. Raises Unreachable.

        `retained` is what the broker keeps from before, topic → node.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._connection.until_lost(), name="mqtt face connection")
                tasks.create_task(self._follow(retained), name="mqtt face twins")
                tasks.create_task(self._open(outages), name="mqtt face opening")
        except BaseExceptionGroup as group:
            lost, others = group.split(Unreachable)
            if lost is None or others is not None:
                raise
            raise Unreachable(str(lost.exceptions[0])) from None

    async def _open(self, outages: Outages) -> None:
        """Who sees `online` may trust what is retained."""
        await self._all_shown.wait()
        if self._options.commands == "Allow":
            await self._listen()
        await self._connection.publish(self._topics.status, ONLINE, retain=True)
        self.online = True
        CONNECTED.set(1)
        values = payload.Values(text_beyond=self._options.big_integers == "String")
        await Backfill(
            self._twins, outages, self.outlet, values, lambda: self.shown.layout.places
        ).run()

    async def _listen(self) -> None:
        filters = self._topics.commands()
        self.listening = True
        try:
            await self._connection.subscribe(*((name, 1) for name in filters), commands=True)
        except Unreachable as error:
            self._connection.check()
            log.error("no command is heard by MQTT", why=str(error))  # noqa: TRY400 - a refusal is no bug, its trace says nothing

    async def say_good_bye(self) -> None:
        """If the broker is there; else the will says it."""
        self.online = False
        CONNECTED.set(0)
        if self._connection.alive:
            with suppress(Unreachable, TimeoutError):
                async with asyncio.timeout(GOOD_BYE):
                    await self._connection.publish(self._topics.status, OFFLINE, retain=True)

    # What changes.

    async def _follow(self, retained: dict[str, str]) -> None:
        while True:
            try:
                self._look_anew()
                self._clear(retained)
                retained = {}
                # Nothing may be awaited in between: what is followed begins where we looked.
                async with aclosing(self._twins.follow(TICK)) as batches:
                    async for batch in batches:
                        await self._take(batch)
                        await self._settle()
                        self._all_shown.set()
            except FellBehind:
                RESYNCS.inc()
            else:
                return  # the agent ends

    def _look_anew(self) -> None:
        self.shown.define()
        self.shown.read_anew()
        self._alarms.show_all()
        self.shown.trip(self._alarms.tripped())

    def _clear(self, retained: dict[str, str]) -> None:
        """What a former run left, and is shown no longer."""
        alarms = frozenset(self._alarms.topics)
        for topic in self._topics.leftovers(retained, self.shown.layout, alarms, self._twins.node):
            self.outlet.send("clear", topic, b"", retain=True)

    async def _take(self, batch: Sequence[Change]) -> None:
        alarmed, told = False, 0
        for change in batch:
            match change:
                case Samples():
                    self.shown.take_samples(change)
                    told += len(change.samples)
                case DesiredChanged():
                    self.shown.take_desired(change)
                case Contact(device=device):
                    self.shown.show(device)
                case Alarm():
                    self._alarms.take(change)
                    alarmed = True
                case DefinitionsChanged(changed=changed):
                    self.shown.define(changed)
            if told > SLICE:
                told = 0
                await asyncio.sleep(0)
                self.outlet.look()
        if alarmed:
            self.shown.trip(self._alarms.tripped())

    async def _settle(self) -> None:
        """Send what is due, as far as the broker takes it."""
        more = True
        while more:
            self.outlet.look()
            self._alarms.step()
            more = self.shown.step(STEP)
            await asyncio.sleep(0)
