"""What a client may ask in a time, and how much of its refusals the journal gets."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from twinbridge.ports import Actor, Twins

BURST = 200.0
PER_SECOND = 20.0
REFUSAL = 10.0
"""What a refused command costs beside an accepted one: a person or a program that is right most
of the time never notices."""
DIGEST_EVERY = 10.0
_MOST_KEYS = 4096


class Allowance:
    """Of commands for each device: a burst, then some a second."""

    def __init__(self, mono: Callable[[], float]) -> None:
        self._mono = mono
        self._left: dict[str, tuple[float, float]] = {}

    def spend(self, key: str, cost: float = 1.0) -> bool:
        """Whether there was something left."""
        now = self._mono()
        left, at = self._left.pop(key, (BURST, now))
        left = min(BURST, left + (now - at) * PER_SECOND)
        allowed = left >= 1.0
        self._left[key] = (max(0.0, left - cost) if allowed else left, now)
        if len(self._left) > _MOST_KEYS:
            del self._left[next(iter(self._left))]
        return allowed


class RefusalDigest:
    """Notes what was refused before the agent saw it: the first at once, then a summary now and
    then, since garbage at a thousand a second must not push other records out of sight.
    """

    def __init__(self, twins: Twins, actor: Actor) -> None:
        self._twins = twins
        self._actor = actor
        self._counts: Counter[str] = Counter()
        self._last: tuple[str, str] = ("", "")
        self._rung = asyncio.Event()

    def note(self, subject: str, status: str, why: str) -> None:
        self._counts[status] += 1
        self._last = (subject, why)
        self._rung.set()

    async def run(self) -> None:
        while True:
            await self._rung.wait()
            self._rung.clear()
            await self.tell()
            await asyncio.sleep(DIGEST_EVERY)

    async def tell(self) -> None:
        counts, self._counts = self._counts, Counter()
        if counts:
            subject, why = self._last
            detail = {"refused": dict(counts), "why": why}
            await self._twins.audit("mqtt.refused", subject, self._actor, detail)
