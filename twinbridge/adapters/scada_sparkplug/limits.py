"""How much hosts may command in a time, and how much of what was refused the journal gets."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Generic, TypeVar

from twinbridge.ports import Actor, Twins

BURST: Final = 200.0
PER_SECOND: Final = 20.0
REFUSAL: Final = 10.0
"""What a command that the agent refuses costs beside one that it takes: both go to disk."""
PER_DEVICE: Final = 64
IN_ALL: Final = 512
TELL_EVERY: Final = 10.0
LAST: Final = 1.0
"""Seconds that the last record may take on a stop."""

Item = TypeVar("Item")


class Allowance:
    """Of commands for each device: a burst, then some a second. `mono`: s."""

    def __init__(self, mono: Callable[[], float]) -> None:
        self._mono = mono
        self._left: dict[str, tuple[float, float]] = {}

    def spend(self, device: str, cost: float = 1.0) -> bool:
        """Whether there was something left. Only for devices that there are."""
        now = self._mono()
        left, at = self._left.get(device, (BURST, now))
        left = min(BURST, left + (now - at) * PER_SECOND)
        allowed = left >= 1.0
        self._left[device] = (max(0.0, left - cost) if allowed else left, now)
        return allowed


class Waiting(Generic[Item]):
    """Commands in their order; no device takes the room of the others."""

    def __init__(self) -> None:
        self._items: deque[tuple[str, Item]] = deque()
        self._of: Counter[str] = Counter()
        self._some = asyncio.Event()

    def put(self, device: str, item: Item) -> bool:
        """False when there is no room: it is not taken."""
        if len(self._items) >= IN_ALL or self._of[device] >= PER_DEVICE:
            return False
        self._of[device] += 1
        self._items.append((device, item))
        self._some.set()
        return True

    async def take(self) -> Item:
        while not self._items:
            self._some.clear()
            await self._some.wait()
        device, item = self._items.popleft()
        self._of[device] -= 1
        if not self._of[device]:
            del self._of[device]
        return item


class Refusals:
    """Tells the journal of commands that the agent never saw: the first at once, then how many
    now and then, since garbage at a thousand a second must not push other records out of sight.
    """

    def __init__(self, twins: Twins, actor: Actor) -> None:
        self._twins = twins
        self._actor = actor
        self._count = 0
        self._last: tuple[str, str] = ("", "")
        self._some = asyncio.Event()

    def note(self, subject: str, why: str) -> None:
        self._count += 1
        self._last = (subject, why)
        self._some.set()

    async def run(self) -> None:
        try:
            while True:
                await self._some.wait()
                self._some.clear()
                await self.tell()
                await asyncio.sleep(TELL_EVERY)
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST):
                    await self.tell()

    async def tell(self) -> None:
        """What was noted since the last time."""
        count, self._count = self._count, 0
        if count:
            subject, why = self._last
            detail: dict[str, object] = {"refused": count, "why": why}
            await self._twins.audit("sparkplug.refused", subject, self._actor, detail)
