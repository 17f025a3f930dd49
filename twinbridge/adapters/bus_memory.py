"""The bus within one process: machines and agent each on an event loop, in threads of their own.

Publishing takes a lock for a list append and wakes the reader's loop once per burst; it never
waits for the reader. A request runs on the loop that serves it.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress

from typing_extensions import override

from twinbridge.core.messages import Contact, Event, Request, Samples
from twinbridge.core.model import Sample
from twinbridge.errors import Unreachable
from twinbridge.ports import Bus

QUEUE_LIMIT = 10_000
"""Events that wait for one subscriber before older samples are coalesced."""

Handler = Callable[[Request], Awaitable[None]]


class Subscription(AsyncIterator[Sequence[Event]]):
    """One reader's queue. It ends when nobody refers to it any more."""

    def __init__(self, limit: int, linger: float) -> None:
        self.coalesced = 0
        self._linger = linger
        self._limit = limit
        self._patience = limit
        self._queue: list[Event] = []
        self._lock = threading.Lock()
        self._urgent = False
        self._wake: asyncio.Future[None] | None = None
        self._first = 0
        self.since = 0
        """UTC ns at which the first event of the last batch was published."""

    @override
    async def __anext__(self) -> Sequence[Event]:
        """Everything since the last call, at least one event."""
        while not (batch := self._take()):
            if self._wake is not None:
                try:
                    await self._wake
                finally:
                    self._wake = None
        return batch

    def taken(self) -> Sequence[Event]:
        """Everything since the last call, if there is anything; waits for nothing."""
        with self._lock:
            return self._emptied()

    def _take(self) -> list[Event]:
        """What waits; if nothing does, the next `put` will wake this reader's loop."""
        with self._lock:
            batch = self._emptied()
            if not batch:
                self._wake = asyncio.get_running_loop().create_future()
        return batch

    def _emptied(self) -> list[Event]:
        batch, self._queue = self._queue, []
        self.since = self._first
        self._patience = self._limit
        self._urgent = False
        return batch

    def put(self, event: Event) -> None:
        """May be called in any thread."""
        urgent = not isinstance(event, Samples | Contact)
        with self._lock:
            self._queue.append(event)
            first = len(self._queue) == 1
            if first:
                self._first = time.time_ns()
            elif len(self._queue) > self._patience:
                self._coalesce()
            if self._wake is not None:
                if urgent and not self._urgent:
                    _call(_set, self._wake)
                elif first:
                    _call(self._gather if self._linger else _set, self._wake)
            self._urgent |= urgent

    def _gather(self, wake: asyncio.Future[None]) -> None:
        """Let more come, for `linger` seconds or until something urgent has."""
        if not wake.done():
            wake.get_loop().call_later(self._linger, _set, wake)

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
    """`linger`: seconds that a reader lets samples gather; other news does not wait."""

    def __init__(self, *, queue_limit: int = QUEUE_LIMIT, linger: float = 0.0) -> None:
        self._limit = queue_limit
        self._linger = linger
        self._subscriptions: list[weakref.ref[Subscription]] = []
        self._served: tuple[asyncio.AbstractEventLoop, Handler] | None = None
        self._begun: set[asyncio.Future[None]] = set()

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
        subscription = Subscription(self._limit, self._linger)
        self._subscriptions.append(weakref.ref(subscription, self._forget))
        return subscription

    @override
    async def request(self, request: Request) -> None:
        """Raises Unreachable while nobody serves, else what the handler raises.

        What is begun is done, also when who asked has gone: half a reset would be none and one.
        """
        if self._served is None:
            raise Unreachable("no driver process serves this bus yet; try again shortly")
        loop, handler = self._served
        if loop is asyncio.get_running_loop():
            begun: asyncio.Future[None] = loop.create_task(_do(handler, request), name="request")
        elif loop.is_closed():
            raise Unreachable("the machines are being stopped")
        else:
            there = asyncio.run_coroutine_threadsafe(_do(handler, request), loop)
            begun = asyncio.wrap_future(there)
        self._begun.add(begun)
        begun.add_done_callback(self._ended)
        await asyncio.shield(begun)

    def _ended(self, request: asyncio.Future[None]) -> None:
        self._begun.discard(request)
        if not request.cancelled():
            request.exception()  # looked at, also when nobody waits for it any more

    @override
    def serve(self, handler: Handler) -> None:
        """From now on `handler` answers, on the calling loop; an earlier one is replaced."""
        self._served = asyncio.get_running_loop(), handler

    def _alive(self) -> list[Subscription]:
        found = (reference() for reference in self._subscriptions)
        return [subscription for subscription in found if subscription is not None]

    def _forget(self, gone: weakref.ref[Subscription]) -> None:
        self._subscriptions = [ref for ref in self._subscriptions if ref is not gone]


def _call(call: Callable[[asyncio.Future[None]], None], waiting: asyncio.Future[None]) -> None:
    """On the loop of the reader that waits: in its own thread at once, without waking it."""
    loop = waiting.get_loop()
    if asyncio._get_running_loop() is loop:  # noqa: SLF001 - documented, and meant for libraries
        call(waiting)
        return
    with suppress(RuntimeError):  # the reader's loop is closed
        loop.call_soon_threadsafe(call, waiting)


def _set(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


async def _do(handler: Handler, request: Request) -> None:
    await handler(request)
