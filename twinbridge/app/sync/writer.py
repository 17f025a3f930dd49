"""When which status is written: seldom, at once for what matters, and fair under the cap."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
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
SAVED = 60.0
"""Seconds of the cap that may be saved up: a first sync, or a cell that goes dark, is told at
once. In the mean of a minute the cap holds.
"""
RESERVE = 1.0
"""Seconds of the cap that values which merely move leave to what is urgent."""
RETRY_REFUSED = 60.0
"""Seconds before a status that the hub refused is tried again as it then is."""
DEBT = 10.0
"""Seconds of silence, at most, after more bytes than there should be: a first sync is not paid for
by an hour.
"""
NEVER = float("-inf")


class Status(NamedTuple):
    """`told` is what counts as a difference: not a time that alone moves on."""

    uid: str
    content: Json
    told: object


@dataclass(slots=True, eq=False)
class _Written:
    told: object = None
    uid: str = ""
    at: float = NEVER
    """Monotonic seconds."""


class StatusWriter:
    """`status` gives what a resource's status is now, or None where it is nothing of ours.

    Nothing is written while the gate is shut. `per_second` writes are never exceeded in the mean;
    what merely moves also waits while the hub's traffic is above `bytes_per_second`. `on_written`
    hears when (monotonic ns) a write began, and the generation that it found.
    """

    def __init__(
        self,
        status: Callable[[Ref], Status | None],
        clock: Clock,
        gate: asyncio.Event,
        *,
        interval: float = 10.0,
        per_second: float = 20.0,
        bytes_per_second: float = 45_000.0,
        on_written: Callable[[Ref, int, int], Awaitable[None]] | None = None,
    ) -> None:
        self._status = status
        self._clock = clock
        self._gate = gate
        self._on_written = on_written
        self.interval = interval
        self.per_second = per_second
        self.bytes_per_second = bytes_per_second
        self._urgent: OrderedDict[Ref, None] = OrderedDict()
        self._changed: dict[Ref, int] = {}
        self._order: list[tuple[float, int, Ref]] = []
        """A heap of what changed, who was written longest ago first. An entry whose number is not
        that of `_changed` is of before, and left out when it comes up.
        """
        self._numbers = count()
        self._written: dict[Ref, _Written] = {}
        self._in_flight: set[Ref] = set()
        self._tokens = self._most
        self._filled = self._now()
        self._hub: Hub | None = None
        self._traffic = 0
        """Of the hub, as it was last looked at."""
        self._bytes = SAVED * bytes_per_second
        """What may still be sent and heard; below 0 values that merely move wait."""
        self._bell = Doorbell()
        self._held_until = 0.0
        self._backoff = Backoff(0.5, 15.0)

    def _now(self) -> float:
        return self._clock.mono() / SECOND

    @property
    def _most(self) -> float:
        return max(1.0, SAVED * self.per_second)

    def touch(self, refs: Iterable[Ref], *, urgent: bool = False) -> None:
        """What these say may differ now."""
        if any([self._is_new(ref, urgent=urgent) for ref in refs]):  # noqa: C419 - each is queued
            self._bell.ring()

    def _is_new(self, ref: Ref, *, urgent: bool) -> bool:
        if ref in self._urgent or (ref in self._changed and not urgent):
            return False
        if urgent:
            self._changed.pop(ref, None)
            self._urgent[ref] = None
        else:
            self._changed[ref] = next(self._numbers)
            if ref not in self._in_flight:
                self._put_in_order(ref)
        return True

    def _put_in_order(self, ref: Ref) -> None:
        heappush(self._order, (self._last(ref), self._changed[ref], ref))

    def _last(self, ref: Ref) -> float:
        written = self._written.get(ref)
        return NEVER if written is None else written.at

    def forget(self, ref: Ref) -> None:
        """It is gone."""
        self._urgent.pop(ref, None)
        self._changed.pop(ref, None)
        self._written.pop(ref, None)

    @property
    def waiting(self) -> int:
        return len(self._urgent) + len(self._changed)

    @property
    def cycle(self) -> float:
        """Seconds between two statuses of one resource that changes all the time, as it is now."""
        first = self._first_changed()
        return self.interval if first is None else self.interval + self._late(first)

    def _late(self, ref: Ref) -> float:
        last = self._last(ref)
        return 0.0 if last == NEVER else max(0.0, self._now() - last - self.interval)

    @property
    def idle(self) -> bool:
        """Whether all is written that is due at once."""
        return not self._urgent and not self._in_flight

    async def run(self, hub: Hub) -> None:
        """Write until cancelled."""
        self._hub, self._traffic = hub, hub.traffic
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._gate.wait()
                wait = self._until_next()
                if wait is None or wait > 0:
                    await self._bell.wait(wait)
                    continue
                ref, urgent = self._take()
                status = self._new_status(ref)
                if status is None:
                    await asyncio.sleep(0)  # so may thousands be, once the link is back
                    continue
                self._tokens -= 1
                self._in_flight.add(ref)
                work = self._write(hub, ref, status, urgent=urgent)
                tasks.create_task(work, name=f"status of {ref.name}")

    def _until_next(self) -> float | None:
        """Seconds until a write may begin; 0 for now, None for when something changes."""
        now = self._now()
        self._save_up(now - self._filled)
        self._filled = now
        if len(self._in_flight) >= AT_ONCE:
            return None
        needed, due = 1.0, self._held_until
        if self._first_urgent() is None:
            changed = self._first_changed()
            if changed is None:
                return None
            needed += min(RESERVE * self.per_second, self._most - 1)
            due = max(due, self._last(changed) + self.interval)
            due = max(due, now - self._bytes / self.bytes_per_second)
        return max(0.0, due - now, (needed - self._tokens) / self.per_second)

    def _save_up(self, seconds: float) -> None:
        self._tokens = min(self._most, self._tokens + seconds * self.per_second)
        traffic = self._hub.traffic if self._hub is not None else 0
        saved = self._bytes + seconds * self.bytes_per_second - (traffic - self._traffic)
        self._traffic = traffic
        most, least = SAVED * self.bytes_per_second, -DEBT * self.bytes_per_second
        self._bytes = max(least, min(most, saved))

    def _first_urgent(self) -> Ref | None:
        return next((ref for ref in self._urgent if ref not in self._in_flight), None)

    def _first_changed(self) -> Ref | None:
        while self._order:
            _, number, ref = self._order[0]
            if self._changed.get(ref) == number:
                return ref
            heappop(self._order)
        return None

    def _take(self) -> tuple[Ref, bool]:
        """After `_until_next` said 0."""
        ref = self._first_urgent()
        if ref is not None:
            del self._urgent[ref]
            return ref, True
        _, _, ref = heappop(self._order)
        del self._changed[ref]
        HUB_CYCLE.set(self.interval + self._late(ref))
        return ref, False

    def _new_status(self, ref: Ref) -> Status | None:
        """None where the hub has it just so."""
        status = self._status(ref)
        written = self._written.get(ref)
        if status is None or (
            written is not None and (status.told, status.uid) == (written.told, written.uid)
        ):
            return None
        return status

    async def _write(self, hub: Hub, ref: Ref, status: Status, *, urgent: bool) -> None:
        written, began = self._written.setdefault(ref, _Written()), self._clock.mono()
        try:
            generation = await hub.apply_status(ref, status.uid, status.content)
        except HubUnavailable as error:
            self._hold(error.retry_after or 0.0)
            written.told = None  # the hub may have it, though its answer was lost
            self.touch([ref], urgent=urgent)
        except HubRefused as error:
            HUB_WRITES.labels("refused").inc()
            log.warning("the hub refuses a status", resource="/".join(ref), why=str(error))
            written.at = self._now() + RETRY_REFUSED
            self.touch([ref])
        except UnknownName:
            HUB_WRITES.labels("gone").inc()
        else:
            HUB_WRITES.labels("written").inc()
            self._backoff.reset()
            written.told, written.uid, written.at = status.told, status.uid, self._now()
            if self._on_written is not None:
                await self._on_written(ref, began, generation)
        finally:
            self._in_flight.discard(ref)
            if ref in self._changed:
                self._put_in_order(ref)
            self._bell.ring()

    def _hold(self, asked: float) -> None:
        """Those that were in flight together fail together: that is one failure."""
        now = self._now()
        if now >= self._held_until:
            self._held_until = now + max(asked, self._backoff.next())
        else:
            self._held_until = max(self._held_until, now + asked)
