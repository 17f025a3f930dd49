"""One edge node and its hub: in which order things go down and up, and what waits for what.

After each return of the link: definitions, then what they desire, then alarms, then status, then
what was buffered (DOMAIN §7).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

import orjson
import structlog

from twinbridge.api.wire import Json, timestamp
from twinbridge.app.agent import Agent
from twinbridge.app.metrics import HUB_RIVAL
from twinbridge.app.supervise import Backoff
from twinbridge.app.sync.definitions import Definitions, generation
from twinbridge.app.sync.journal import JournalToHub
from twinbridge.app.sync.status import (
    Conditions,
    accepted,
    device_status,
    not_accepted,
    rule_status,
    stretched,
)
from twinbridge.app.sync.writer import Status, StatusWriter
from twinbridge.core.alarm import Alarm
from twinbridge.core.messages import Contact, DesiredState, Samples
from twinbridge.core.model import SECOND
from twinbridge.errors import HubRefused, HubUnavailable
from twinbridge.ports import Change, DefinitionsChanged, DesiredChanged, FellBehind, Hub, Ref

log = structlog.get_logger()

HEARTBEAT = 20.0
"""Seconds between renewals of the Lease."""
LEASE = 60
"""Seconds for which it stands."""
LOOK = 0.1
"""Seconds between looks whether the hub is there."""
EVENTS_FIRST = 5.0
"""Seconds for which status waits for what the journal has for the hub: a hub that takes no Events,
or takes them slowly, still gets it.
"""
BACKLOG_AFTER = 30.0
"""Seconds for which what was buffered waits for status."""
SETTLE = 0.3
"""Seconds after a return of the link that are left to definitions."""
NODE_LOOK = 2.0
"""Seconds between looks whether the node itself has trouble."""
NODE_STATUS_EVERY = 60 * SECOND
"""The EdgeNode's figures are told so often; its conditions at once."""


class Backlog(Protocol):
    """What was buffered and goes up last. `trouble` says why it does not, or ''."""

    @property
    def trouble(self) -> str: ...

    def hold(self) -> None: ...

    def release(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """Seconds, and per second over all resources of the node: writes; bytes both ways."""

    interval: float = 10.0
    per_second: float = 20.0
    bytes_per_second: float = 45_000.0


class Gates:
    """What may go on now. `claimed`: the node is ours; the others open one after the other."""

    def __init__(self) -> None:
        self.claimed = asyncio.Event()
        self.alarms = asyncio.Event()
        self.status = asyncio.Event()

    def shut(self) -> None:
        self.alarms.clear()
        self.status.clear()


class HubSync:
    """`figures` gives what else the EdgeNode's status shows: version, drivers, outbox."""

    def __init__(
        self,
        agent: Agent,
        definitions: Definitions,
        journal: JournalToHub,
        gates: Gates,
        holder: str,
        figures: Callable[[], Json],
        options: SyncOptions,
        backlog: Backlog | None = None,
    ) -> None:
        self._agent = agent
        self._definitions = definitions
        self._journal = journal
        self._gates = gates
        self._holder = holder
        self._figures = figures
        self._backlog = backlog
        self._conditions = Conditions()
        self._node = Ref("EdgeNode", agent.node)
        self._shown: tuple[int, Json] = (0, {})
        self._ahead = 0
        self.rival = ""
        """Who else holds the Lease of this node."""
        self.writer = StatusWriter(
            self._status,
            agent.clock,
            gates.status,
            interval=options.interval,
            per_second=options.per_second,
            bytes_per_second=options.bytes_per_second,
            on_written=self._written,
        )

    async def _written(self, ref: Ref, began: int, generation: int) -> None:
        if ref.kind == "Device":
            await self._agent.desired.wishes.told(ref.name, began, generation)

    def taken(self, refs: Iterable[Ref]) -> None:
        """The hub's definitions of these were looked at."""
        found = [ref for ref in refs if ref.kind != "DeviceModel"]
        self.writer.touch((ref for ref in found if ref in self._definitions.documents), urgent=True)
        for ref in found:
            if ref not in self._definitions.documents:
                self.writer.forget(ref)
                self._conditions.forget((ref.kind, ref.name))
        if any(ref.kind == "DeviceModel" for ref in refs):
            self._touch_all()

    async def run(self, hub: Hub) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._claim(hub), name="hub lease")
            tasks.create_task(self._definitions.follow(hub), name="hub definitions")
            tasks.create_task(self._journal.run(hub), name="hub events")
            tasks.create_task(self.writer.run(hub), name="hub status")
            tasks.create_task(self._follow(), name="hub changes")
            tasks.create_task(self._in_order(hub), name="hub order")
            tasks.create_task(self._watch_node(), name="hub node")

    # The order.

    async def _in_order(self, hub: Hub) -> None:
        while True:
            self._gates.shut()
            await self._definitions.up_to_date.wait()
            await self._until(lambda: hub.connected and self._gates.claimed.is_set())
            if self._backlog is not None:  # its engines may be there while the hub is not
                self._backlog.hold()
            await asyncio.sleep(SETTLE)
            self._touch_all()
            self._gates.alarms.set()
            self._journal.ring()
            await self._until(lambda: self._journal.caught_up or not hub.connected, EVENTS_FIRST)
            self._gates.status.set()
            await self._until(lambda: self.writer.idle or not hub.connected, BACKLOG_AFTER)
            if self._backlog is not None:
                self._backlog.release()
            await self._until(lambda: not hub.connected or not self._gates.claimed.is_set())

    async def _until(self, holds: Callable[[], bool], seconds: float | None = None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not holds():  # noqa: ASYNC110 - the hub says whether it is there, not when it changes
                    await asyncio.sleep(LOOK)

    # The heartbeat.

    async def _claim(self, hub: Hub) -> None:
        """One process speaks for a node: the one that holds its Lease."""
        backoff = Backoff(0.5, HEARTBEAT)
        while True:
            wait = HEARTBEAT
            try:
                self._held_by(await hub.renew(self._holder, LEASE))
                self._ahead = hub.clock_ahead
                self._agent.desired.wishes.behind = max(0, self._ahead)
                backoff.reset()
            except HubUnavailable as error:
                wait = max(error.retry_after or 0.0, backoff.next())
            except HubRefused as error:
                # Without the right to Leases there is none, and nobody to be told apart from.
                log.warning("the hub refuses the heartbeat", why=str(error))
                self._held_by(self._holder)
            self.writer.touch([self._node])
            await asyncio.sleep(wait)

    def _held_by(self, holder: str) -> None:
        rival = "" if holder == self._holder else holder
        if rival and rival != self.rival:
            log.error(
                "another process holds this node at the hub: nothing is taken from there, and"
                " nothing told, until its Lease ends; give one of the two another --node",
                node=self._agent.node,
                holder=rival,
            )
        self.rival = rival
        HUB_RIVAL.set(bool(rival))
        if rival:
            self._gates.claimed.clear()
            self._gates.shut()
        else:
            self._gates.claimed.set()

    # What changes here.

    async def _follow(self) -> None:
        while True:
            try:
                async for batch in self._agent.events.follow(None):
                    for event in batch:
                        self._note(event.change)
            except FellBehind:
                self._touch_all()
            else:
                return

    def _note(self, change: Change) -> None:
        match change:
            case Samples(device=device):
                self._touch(device)
            case DesiredChanged(device=device, view=view):
                self._touch(
                    device, urgent=view is None or view["state"] != DesiredState.PENDING.value
                )
            case Contact(device=device):
                self._touch(device, urgent=True)
            case Alarm():
                self._journal.ring()
                for device in {change.device, *(held for held, _, _ in change.holds)}:
                    self._touch(device, urgent=bool(change.holds))
                self._touch(change.rule, "Rule", urgent=bool(change.holds))
            case DefinitionsChanged(changed=changed):
                for device in changed:
                    self._touch(device, urgent=True)
                self.writer.touch(ref for ref in self._definitions.documents if ref.kind == "Rule")

    def _touch(self, name: str, kind: str = "Device", *, urgent: bool = False) -> None:
        ref = Ref(kind, name)
        if ref in self._definitions.documents:
            self.writer.touch((ref,), urgent=urgent)

    def _touch_all(self) -> None:
        self.writer.touch(ref for ref in self._definitions.documents if ref.kind != "DeviceModel")

    # What the status of a resource is.

    def _status(self, ref: Ref) -> Status | None:
        document = self._definitions.documents.get(ref)
        if document is None:
            return None
        if ref == self._node:
            content = self._node_status(generation(document))
        elif ref.kind == "Device":
            content = self._device_status(ref, generation(document))
        elif ref.kind == "Rule":
            first = self._accepted(ref, generation(document))
            content = rule_status(
                self._agent, ref.name, generation(document), self._conditions, first
            )
        else:
            return None
        return Status(_uid(document), content, _digest(content))

    def _accepted(self, ref: Ref, counted: int) -> Json:
        return accepted(
            self._conditions,
            (ref.kind, ref.name),
            self._definitions.problems.get(ref) or self._agent.problems.get("/".join(ref), ""),
            counted,
            self._agent.clock.wall(),
            runs=ref in self._definitions.sound,
        )

    def _device_status(self, ref: Ref, counted: int) -> Json:
        first = self._accepted(ref, counted)
        spec = self._agent.devices.get(ref.name)
        if spec is None:
            return {"observedGeneration": counted, "conditions": [first]}
        return device_status(self._agent, spec, self._conditions, first)

    def _node_status(self, counted: int) -> Json:
        now = self._agent.clock.wall()
        at, figures = self._shown
        if now - at >= NODE_STATUS_EVERY:
            figures = {**self._figures(), "lastContact": timestamp(now)}
            self._shown = (now, figures)
        connected = self._conditions.condition(
            ("EdgeNode", self._agent.node),
            "Connected",
            holds=True,
            reason="Heard",
            message="",
            generation=counted,
            now=now,
        )
        late, waits = self._late, self._waits
        syncing = self._conditions.condition(
            ("EdgeNode", self._agent.node),
            "Syncing",
            holds=not late and not waits,
            reason="StatusStretched" if late else "TelemetryWaits" if waits else "KeepsUp",
            message="; ".join(filter(None, (late, waits))),
            generation=counted,
            now=now,
        )
        message = "; ".join(
            filter(None, (late, waits, self._clock, self._unknown, self._events, self._unsound))
        )
        content = {**figures, "observedGeneration": counted, "conditions": [connected, syncing]}
        return {**content, "message": message} if message else content

    async def _watch_node(self) -> None:
        """What keeps it from telling in time is a condition: told at once."""
        told = False, False
        while True:
            await asyncio.sleep(NODE_LOOK)
            found = bool(self._late), bool(self._waits)
            self.writer.touch([self._node], urgent=found != told)
            told = found

    @property
    def _late(self) -> str:
        writer = self.writer
        return stretched(writer.cycle, writer.interval, writer.per_second, writer.bytes_per_second)

    @property
    def _waits(self) -> str:
        return self._backlog.trouble if self._backlog is not None else ""

    @property
    def _unknown(self) -> str:
        missing = ", ".join(sorted(self._definitions.missing))
        return f"the hub does not show {missing}: what was known of it stays" if missing else ""

    @property
    def _clock(self) -> str:
        away = "behind" if self._ahead > 0 else "ahead of"
        return (
            f"its clock is {abs(self._ahead) / SECOND:.0f} s {away} the hub's"
            if self._ahead
            else ""
        )

    @property
    def _events(self) -> str:
        return f"Events wait: {self._journal.trouble}" if self._journal.trouble else ""

    @property
    def _unsound(self) -> str:
        return not_accepted(ref for ref, problem in self._definitions.problems.items() if problem)


def _digest(content: Mapping[str, object]) -> bytes:
    told = {key: value for key, value in content.items() if key != "lastContact"}
    return blake2b(orjson.dumps(told, default=str), digest_size=16).digest()


def _uid(document: Mapping[str, object]) -> str:
    metadata = document.get("metadata")
    return str(metadata.get("uid", "")) if isinstance(metadata, dict) else ""
