"""What was asked and not done, in the audit journal: everything counted, little written."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import NoReturn

from twinbridge.ports import Actor, Twins

PERIOD = 10.0
"""Seconds between two records."""


class Journal:
    """One record says what was refused and dropped since the one before, and what was the last."""

    def __init__(self, twins: Twins, actor: Actor, period: float = PERIOD) -> None:
        self._twins = twins
        self._actor = actor
        self._period = period
        self._counted: Counter[str] = Counter()
        self._last: dict[str, str] = {}
        self._bell = asyncio.Event()

    def note(self, what: str, topic: str, why: str) -> None:
        """`what` is one of few words."""
        self._counted[what] += 1
        self._last = {"topic": topic[:256], "why": why}
        self._bell.set()

    async def run(self) -> NoReturn:
        while True:
            await self._bell.wait()
            self._bell.clear()
            await self.write()
            await asyncio.sleep(self._period)

    async def write(self) -> None:
        """What was noted since the last record, if anything."""
        counted, self._counted = self._counted, Counter()
        if counted:
            detail = {"refused": dict(counted), "last": self._last}
            await self._twins.audit("kubeedge.refused", self._twins.node, self._actor, detail)
