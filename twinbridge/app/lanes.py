"""What goes up next: what is of now, and beside it at half the time what waits since an outage."""

from __future__ import annotations

from time import monotonic
from typing import Final, Protocol

from twinbridge.ports import OutboxBatch, Sink

BATCH: Final = 5_000
"""Samples and records at once, of what waits too if the way is quick."""
SMALLEST: Final = 200
QUICK_SECONDS: Final = 0.1
SLOW_SECONDS: Final = 0.3
"""A batch of what waits takes less, or the next one is half of it: what is of now waits for it."""
LONGEST_PAUSE_SECONDS: Final = 5.0
ASK_AGAIN_SECONDS: Final = 60.0
"""A sink that took no late samples is asked again: what waits is less old by then."""


class Queue(Protocol):
    """As `forwarding.Source`."""

    async def read(self, sink: str, limit: int, after: int = 0) -> OutboxBatch | None: ...

    async def newest(self) -> int: ...


class Lanes:
    """Of one sink. Where it takes no late samples, all is one lane, in order.

    `backfill` False: what waits since an outage goes on waiting.
    """

    def __init__(self, queue: Queue, sink: Sink, *, backfill: bool = True) -> None:
        self._queue = queue
        self._sink = sink
        self._backfill = backfill
        self._edge: int | None = None
        """What is of now begins after this number while there are two lanes."""
        self._in_order_until = 0.0
        self._size = BATCH

    async def live(self) -> OutboxBatch | None:
        """What is of now, if it goes before what waits. Raises StoreUnavailable."""
        if self._edge is None:
            return None
        batch = await self._queue.read(self._sink.name, BATCH, self._edge)
        if batch is None or batch.live:
            return batch
        self._edge = await self._queue.newest()  # another outage: this waits too
        return None

    async def waiting(self) -> OutboxBatch | None:
        """The oldest of all; `live` says that nothing waits. Raises StoreUnavailable,
        HubUnavailable.
        """
        if not self._backfill and self._edge is not None:
            return None
        batch = await self._queue.read(self._sink.name, self._size)
        if batch is None or batch.live:
            self._edge, self._size = None, BATCH
        elif not self._backfill:
            self._edge = await self._queue.newest()
            return None
        elif self._edge is None and monotonic() >= self._in_order_until:
            if await self._sink.takes_late(batch.records[0].at):
                self._edge = await self._queue.newest()
            else:
                self._in_order_until = monotonic() + ASK_AGAIN_SECONDS
        return batch

    def pause_after(self, seconds: float) -> float:
        """The seconds that belong to others after a batch of what waited took so many."""
        if self._edge is None:
            return 0.0
        if seconds > SLOW_SECONDS:
            self._size = max(SMALLEST, self._size // 2)
        elif seconds < QUICK_SECONDS:
            self._size = min(BATCH, 2 * self._size)
        return min(seconds, LONGEST_PAUSE_SECONDS)
