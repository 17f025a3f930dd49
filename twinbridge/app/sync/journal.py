"""Alarms, trips and refusals as Kubernetes Events: each once, in order, however long it takes.

The journal on the agent's disk is the queue; what is kept beside it is only how far the hub has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, NamedTuple

import structlog

from twinbridge.app.metrics import HUB_EVENTS
from twinbridge.app.supervise import Backoff
from twinbridge.core.messages import Audit
from twinbridge.errors import HubRefused, HubUnavailable, StoreUnavailable, UnknownName
from twinbridge.ports import Hub, HubEvent, Ref, SyncStore

log = structlog.get_logger()

CURSOR = "hub.journal"
PAGE = 200
LOOK_EVERY = 1.0
"""Seconds between looks when nobody says that there is something."""
LONGEST_MESSAGE = 1024
"""Characters that Kubernetes takes."""
TRIES = 5
"""Of an event that the hub refuses, before it goes on to the next."""


class _Told(NamedTuple):
    kind: str
    reason: str


_EVENTS: Final[Mapping[str, _Told]] = {
    "alarm": _Told("Warning", "Alarm"),
    "alarm.cleared": _Told("Normal", "AlarmCleared"),
    "trip": _Told("Warning", "Tripped"),
    "trip.verified": _Told("Normal", "TripVerified"),
    "trip.failed": _Told("Warning", "TripFailed"),
    "trip.would": _Told("Warning", "WouldTrip"),
    "reset": _Told("Normal", "TripReset"),
    "desired.refused": _Told("Warning", "DesiredRefused"),
    "write.refused": _Told("Warning", "WriteRefused"),
    "definition.refused": _Told("Warning", "NotAccepted"),
    "mode": _Told("Normal", "ModeChanged"),
    "clock.step": _Told("Warning", "ClockStepped"),
}


def event_of(number: int, record: Audit, origin: str) -> HubEvent | None:
    """What the hub shows of a record, if anything; `origin` names the journal."""
    told = _EVENTS.get(record.kind)
    if told is None:
        return None
    regarding = _regarding(record)
    name = f"{regarding.name[:200]}.{origin[:12]}.{number:x}"
    said = _message(record)[:LONGEST_MESSAGE]
    return HubEvent(name, regarding, told.kind, told.reason, said, record.wall)


def _regarding(record: Audit) -> Ref:
    """Of `rule:device:time`, an alarm; `rule:device`, an instance; `device/property`; or a name."""
    subject = record.subject
    if record.kind == "mode":
        return Ref("Rule", subject)
    if record.kind == "clock.step":
        return Ref("EdgeNode", subject)
    if record.kind == "definition.refused":
        kind, _, name = subject.partition("/")
        return Ref(kind, name)
    parts = subject.split(":")
    if len(parts) > 1:
        return Ref("Device", parts[1])
    return Ref("Device", subject.partition("/")[0])


def _message(record: Audit) -> str:
    detail = record.detail
    said = detail.get("message") or detail.get("why")
    if record.kind == "trip":
        inputs = "; ".join(_input(found) for found in _list(detail.get("inputs")))
        writes = ", ".join(_write(found) for found in _list(detail.get("writes")))
        said = f"{inputs}: writes {writes}"
    elif record.kind == "reset":
        said = f"by {record.origin}: {detail.get('reason', '')}"
    elif record.kind == "mode":
        said = f"{detail.get('old')} -> {detail.get('new')} by {record.origin}"
    place = f"{record.subject}: " if record.subject else ""
    return f"{place}{said or record.kind}"


def _list(found: object) -> list[object]:
    return list(found) if isinstance(found, list | tuple) else []


def _input(found: object) -> str:
    parts = _list(found)
    return " ".join(str(part) for part in parts)


def _write(found: object) -> str:
    parts = [str(part) for part in _list(found)]
    return f"{'/'.join(parts[:-1])} = {parts[-1]}" if parts else ""


class JournalToHub:
    """`origin` names the journal for ever, so that an event has one name."""

    def __init__(self, store: SyncStore, origin: str, gate: asyncio.Event) -> None:
        """Nothing is told while the gate is shut."""
        self._store = store
        self._origin = origin
        self._gate = gate
        self._rung = asyncio.Event()
        self.caught_up = False
        self.trouble = ""
        """Why the hub has not got the next, or ''."""

    def ring(self) -> None:
        """There may be something new."""
        self._rung.set()

    async def begin(self) -> None:
        """A journal that never had a hub begins at its present end, not years ago. A disk that
        takes nothing keeps no machine from starting: then it begins once the disk does.
        """
        try:
            await self._cursor()
        except StoreUnavailable as error:
            log.warning("the journal cannot be read for the hub", why=str(error))

    async def _cursor(self) -> int:
        found = await self._store.note(CURSOR)
        if not found:
            found = str(await self._store.journal_end())
            await self._store.put_note(CURSOR, found)
        return int(found)

    async def run(self, hub: Hub) -> None:
        """Never returns."""
        backoff = Backoff(0.2, 15.0)
        while True:
            wait: float | None = None
            await self._gate.wait()
            try:
                self.caught_up = not await self.step(hub)
                backoff.reset()
                self.trouble = ""
            except HubUnavailable as error:
                wait = max(error.retry_after or 0.0, backoff.next())
                self._wait_for(str(error))
            except StoreUnavailable as error:
                log.warning("the journal cannot be read for the hub", why=str(error))
                wait = backoff.next()
            if wait is not None:
                await asyncio.sleep(wait)
            elif self.caught_up:
                await self._wait()

    def _wait_for(self, why: str) -> None:
        if why != self.trouble:
            log.warning("events wait for the hub", why=why)
        self.caught_up, self.trouble = False, why

    async def _wait(self) -> None:
        self._rung.clear()
        try:
            async with asyncio.timeout(LOOK_EVERY):
                await self._rung.wait()
        except TimeoutError:
            pass

    async def step(self, hub: Hub) -> bool:
        """Tell a page; whether there was one. Raises HubUnavailable, StoreUnavailable."""
        cursor = await self._cursor()
        records = await self._store.journal(cursor, PAGE)
        try:
            for number, record in records:
                event = event_of(number, record, self._origin)
                if event is not None:
                    await self._tell(hub, event)
                cursor = number
        finally:
            if records:
                await self._store.put_note(CURSOR, str(cursor))
        return bool(records)

    async def _tell(self, hub: Hub, event: HubEvent) -> None:
        for left in reversed(range(TRIES)):
            try:
                await hub.record(event)
            except UnknownName:
                HUB_EVENTS.labels("gone").inc()
                return
            except HubRefused as error:
                if not left:
                    HUB_EVENTS.labels("refused").inc()
                    log.warning("the hub refuses an event", event=event.name, why=str(error))
            else:
                HUB_EVENTS.labels("told").inc()
                return
