"""The bus within one process: machines and agent on one event loop."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from typing_extensions import override

from twinbridge.core.messages import Event, Request, Samples
from twinbridge.core.model import Sample
from twinbridge.errors import Unreachable
from twinbridge.ports import Bus

QUEUE_LIMIT = 10_000
"""Events that wait for one subscriber before older samples are coalesced."""

Handler = Callable[[Request], Awaitable[None]]


class Subscription(AsyncIterator[Sequence[Event]]):
    """One reader's queue. It ends when nobody refers to it any more."""

    def __init__(self, limit: int) -> None:
        self.coalesced = 0
        self._limit = limit
        self._patience = limit
        self._queue: list[Event] = []
        self._wake: asyncio.Future[None] | None = None

    @override
    async def __anext__(self) -> Sequence[Event]:
        """Everything since the last call, at least one event."""
        while not self._queue:
            self._wake = asyncio.get_running_loop().create_future()
            try:
                await self._wake
            finally:
                self._wake = None
        batch, self._queue = self._queue, []
        self._patience = self._limit
        return batch

    def put(self, event: Event) -> None:
        self._queue.append(event)
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
        elif len(self._queue) > self._patience:
            self._coalesce()

    def _coalesce(self) -> None:
        """Keep of each property the newest sample, and all that is no sample, in order."""
        seen: set[tuple[str, str]] = set()
        kept: list[Event] = []
        for event in reversed(self._queue):
            newest = self._newest(event, seen) if isinstance(event, Samples) else event
            if newest is not None:
                kept.append(newest)
        kept.reverse()
        self._queue = kept
        # What is left cannot be dropped; looking at it again for every event would be quadratic.
        self._patience = max(self._limit, 2 * len(kept))

    def _newest(self, event: Samples, seen: set[tuple[str, str]]) -> Samples | None:
        kept: list[tuple[str, Sample]] = []
        for name, sample in reversed(event.samples):
            if (event.device, name) not in seen:
                seen.add((event.device, name))
                kept.append((name, sample))
        self.coalesced += len(event.samples) - len(kept)
        return Samples(event.device, tuple(reversed(kept))) if kept else None


class MemoryBus(Bus):
    def __init__(self, *, queue_limit: int = QUEUE_LIMIT) -> None:
        self._limit = queue_limit
        self._subscriptions: list[weakref.ref[Subscription]] = []
        self._handler: Handler | None = None

    @property
    def coalesced(self) -> int:
        """Samples that a slow reader never saw, since a newer one came."""
        return sum(subscription.coalesced for subscription in self._alive())

    @property
    def subscribers(self) -> int:
        return len(self._alive())

    @override
    def publish(self, event: Event) -> None:
        for reference in self._subscriptions:
            subscription = reference()
            if subscription is not None:
                subscription.put(event)

    @override
    def subscribe(self) -> Subscription:
        subscription = Subscription(self._limit)
        self._subscriptions.append(weakref.ref(subscription, self._forget))
        return subscription

    @override
    async def request(self, request: Request) -> None:
        """Raises Unreachable while nobody serves, else what the handler raises."""
        if self._handler is None:
            raise Unreachable("no driver process serves this bus yet; try again shortly")
        await self._handler(request)

    @override
    def serve(self, handler: Handler) -> None:
        """From now on `handler` answers; an earlier one is replaced."""
        self._handler = handler

    def _alive(self) -> list[Subscription]:
        found = (reference() for reference in self._subscriptions)
        return [subscription for subscription in found if subscription is not None]

    def _forget(self, gone: weakref.ref[Subscription]) -> None:
        self._subscriptions = [ref for ref in self._subscriptions if ref is not gone]
