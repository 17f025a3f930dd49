"""When which status is written: seldom, at once for what matters, and fair under the cap."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from twinbridge.api.wire import Json
from twinbridge.app.clock import Clock, Doorbell
from twinbridge.app.metrics import HUB_CYCLE, HUB_WRITES
from twinbridge.app.supervise import Backoff
from twinbridge.core.model import SECOND
from twinbridge.errors import HubRefused, HubUnavailable, UnknownName
from twinbridge.ports import Hub, Ref

log = structlog.get_logger()

AT_ONCE = 8
"""Writes in flight: a slow hub then still takes some of them each second."""
RETRY_REFUSED = 60.0
"""Seconds before a status that the hub refused is tried again as it then is."""


class Status(NamedTuple):
    """`told` is what counts as a difference: not a time that alone moves on."""

    uid: str
    content: Json
    told: object


@dataclass(slots=True, eq=False)
class _Written:
    told: object = None
    uid: str = ""
    at: float = float("-inf")
    """Monotonic seconds."""


class StatusWriter:
    """`status` gives what a resource's status is now, or None where it is nothing of ours.

    Nothing is written while the gate is shut.
    """

    def __init__(
        self,
        status: Callable[[Ref], Status | None],
        clock: Clock,
        gate: asyncio.Event,
        *,
        interval: float = 10.0,
        per_second: float = 20.0,
    ) -> None:
        self._status = status
        self._clock = clock
        self._gate = gate
        self.interval = interval
        self.per_second = per_second
        self._urgent: OrderedDict[Ref, None] = OrderedDict()
        self._changed: OrderedDict[Ref, None] = OrderedDict()
        self._written: dict[Ref, _Written] = {}
        self._in_flight: set[Ref] = set()
        self._tokens = per_second
        self._filled = self._now()
        self._bell = Doorbell()
        self._held_until = 0.0
        self._backoff = Backoff(0.5, 15.0)

    def _now(self) -> float:
        return self._clock.mono() / SECOND

    def touch(self, refs: Iterable[Ref], *, urgent: bool = False) -> None:
        """What these say may differ now."""
        queue = self._urgent if urgent else self._changed
        for ref in refs:
            if ref not in self._urgent:
                queue.setdefault(ref)
                if urgent:
                    self._changed.pop(ref, None)
        self._bell.ring()

    def forget(self, ref: Ref) -> None:
        """It is gone."""
        for queue in (self._urgent, self._changed, self._written):
            queue.pop(ref, None)

    @property
    def waiting(self) -> int:
        return len(self._urgent) + len(self._changed)

    @property
    def cycle(self) -> float:
        """Seconds between two statuses of one resource that changes all the time, as it is now."""
        now = self._now()
        first = next((ref for ref in self._changed if ref in self._written), None)
        late = 0.0 if first is None else now - self._due(first)
        return self.interval + max(0.0, late if late < float("inf") else 0.0)

    @property
    def idle(self) -> bool:
        """Whether all is written that is due at once."""
        return not self._urgent and not self._in_flight

    async def run(self, hub: Hub) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._gate.wait()
                wait = self._until_next()
                ref = None if wait else self._take()
                if ref is None:
                    await self._bell.wait(wait)
                    continue
                self._in_flight.add(ref)
                self._tokens -= 1
                tasks.create_task(self._write(hub, ref), name=f"status of {ref.name}")

    def _until_next(self) -> float | None:
        """Seconds until a write may begin; 0 for now, None for when something changes."""
        now = self._now()
        most = max(1.0, self.per_second)
        self._tokens = min(most, self._tokens + (now - self._filled) * self.per_second)
        self._filled = now
        if len(self._in_flight) >= AT_ONCE or not (self._urgent or self._changed):
            return None
        if self._held_until > now:
            return self._held_until - now
        if self._tokens < 1:
            return (1 - self._tokens) / self.per_second
        if any(ref not in self._in_flight for ref in self._urgent):
            return 0.0
        due = [self._due(ref) for ref in self._first(self._changed)]
        return max(0.0, min(due) - now) if due else None

    def _first(self, queue: OrderedDict[Ref, None]) -> list[Ref]:
        return [ref for ref in queue if ref not in self._in_flight]

    def _due(self, ref: Ref) -> float:
        written = self._written.get(ref)
        return float("-inf") if written is None else written.at + self.interval

    def _take(self) -> Ref | None:
        now = self._now()
        for ref in self._urgent:
            if ref not in self._in_flight:
                del self._urgent[ref]
                return ref
        for ref in self._changed:
            if ref not in self._in_flight and self._due(ref) <= now:
                del self._changed[ref]
                late = now - self._due(ref)
                HUB_CYCLE.set(self.interval + (late if late < float("inf") else 0.0))
                return ref
        return None

    async def _write(self, hub: Hub, ref: Ref) -> None:
        try:
            await self._write_now(hub, ref)
        except HubUnavailable as error:
            wait = max(error.retry_after or 0.0, self._backoff.next())
            self._held_until = self._now() + wait
            self.touch([ref], urgent=True)
        except HubRefused as error:
            HUB_WRITES.labels("refused").inc()
            log.warning("the hub refuses a status", resource="/".join(ref), why=str(error))
            self._written[ref].at = self._now() + RETRY_REFUSED
            self.touch([ref])
        except UnknownName:
            HUB_WRITES.labels("gone").inc()
        finally:
            self._in_flight.discard(ref)
            self._bell.ring()

    async def _write_now(self, hub: Hub, ref: Ref) -> None:
        status = self._status(ref)
        written = self._written.setdefault(ref, _Written())
        if status is None or (status.told == written.told and status.uid == written.uid):
            self._tokens += 1
            return
        await hub.apply_status(ref, status.uid, status.content)
        HUB_WRITES.labels("written").inc()
        self._backoff.reset()
        written.told, written.uid, written.at = status.told, status.uid, self._now()
