"""The log of what changed, for those who follow it live.

A ring of bounded size serves any number of followers: each has only a cursor. One who falls
behind by more than the ring is dropped and must read anew; nobody else notices, and with no
follower an event costs one append.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple

from twinbridge.api.wire import Json, alarm_view, contact_view, samples_view
from twinbridge.app.clock import Doorbell
from twinbridge.core.alarm import Alarm
from twinbridge.core.messages import Contact, Samples
from twinbridge.ports import Change, DefinitionsChanged, DesiredChanged, FellBehind

RING = 4096
"""Events kept for those who come back: some seconds of a busy plant, hours of a quiet one."""
BATCH = 256


class LoggedEvent(NamedTuple):
    id: str
    change: Change

    @property
    def kind(self) -> str:
        """`twin`, `alarm`, `connection` or `definitions`."""
        if isinstance(self.change, Alarm):
            return "alarm"
        if isinstance(self.change, DefinitionsChanged):
            return "definitions"
        return "connection" if isinstance(self.change, Contact) else "twin"

    @property
    def device(self) -> str:
        """'' for what concerns the whole edge node."""
        return "" if isinstance(self.change, DefinitionsChanged) else self.change.device

    def view(self, now: int) -> Json:
        """As JSON; `now` is UTC ns."""
        change = self.change
        if isinstance(change, Samples):
            return samples_view(change.device, change.samples)
        if isinstance(change, DesiredChanged):
            desired = {change.property: {"desired": change.view}}
            return {"device": change.device, "properties": desired}
        if isinstance(change, Contact):
            return contact_view(change)
        if isinstance(change, DefinitionsChanged):
            return {"changed": list(change.changed), "removed": list(change.removed)}
        return alarm_view(change, now)


class EventLog:
    def __init__(self, size: int = RING) -> None:
        self._boot = secrets.token_hex(4)
        self._ring: list[Change] = []
        self._size = size
        self._last = 0
        """How many events there have been; event n is at (n - 1) % size."""
        self._bells: set[Doorbell] = set()
        self._closed = False

    @property
    def followers(self) -> int:
        return len(self._bells)

    def append(self, change: Change) -> None:
        if len(self._ring) < self._size:
            self._ring.append(change)
        else:
            self._ring[self._last % self._size] = change
        self._last += 1
        for bell in self._bells:
            bell.ring()

    def close(self) -> None:
        """End every `follow`."""
        self._closed = True
        for bell in self._bells:
            bell.ring()

    @property
    def last_id(self) -> str:
        return self._id(self._last)

    def resumable(self, event_id: str) -> bool:
        """Whether everything after that event is still kept."""
        return self._position(event_id) is not None

    async def follow(
        self, after: str | None = None, heartbeat: float = 15.0
    ) -> AsyncGenerator[Sequence[LoggedEvent], None]:
        """Everything after the event with that id (None: from now), in order, in batches.

        An empty batch comes after `heartbeat` seconds without an event. Raises FellBehind when
        something that was not yet delivered is gone.
        """
        cursor = self._last if after is None else self._position(after)
        if cursor is None:
            raise FellBehind(after)
        bell = Doorbell()
        self._bells.add(bell)
        try:
            while not self._closed:
                if cursor == self._last:
                    await bell.wait(heartbeat)
                batch = self._after(cursor)
                cursor += len(batch)
                yield batch
        finally:
            self._bells.discard(bell)

    def _after(self, cursor: int) -> list[LoggedEvent]:
        if cursor < self._last - len(self._ring):
            raise FellBehind(self._id(cursor))
        wanted = range(cursor, min(cursor + BATCH, self._last))
        return [LoggedEvent(self._id(n + 1), self._ring[n % self._size]) for n in wanted]

    def _id(self, position: int) -> str:
        return f"{self._boot}-{position}"

    def _position(self, event_id: str) -> int | None:
        boot, _, number = event_id.partition("-")
        if boot != self._boot or not (number.isascii() and number.isdigit()):
            return None
        position = int(number) if len(number) < 19 else self._last + 1  # noqa: PLR2004 - 64 bit
        return position if self._last - len(self._ring) <= position <= self._last else None
