"""The two clocks, and waiting on one of them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Protocol

_TIMESYNC = Path("/run/systemd/timesync")


class Clock(Protocol):
    """Wall time for people and records, monotonic time for every interval; both in ns."""

    def wall(self) -> int: ...

    def mono(self) -> int: ...


class SystemClock:
    def wall(self) -> int:
        return time.time_ns()

    def mono(self) -> int:
        return time.monotonic_ns()


def clock_synced() -> bool:
    """As systemd-timesyncd says it; a box without it is taken at its word."""
    return not _TIMESYNC.exists() or (_TIMESYNC / "synchronized").exists()


class Doorbell:
    """Lets one task sleep until a deadline or until somebody rings, whichever comes first.

    Far cheaper than `asyncio.wait_for(event.wait())`: one future and one timer, no task. A ring
    while nobody waits is kept for the next wait.
    """

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None
        self._rung = False

    def ring(self) -> None:
        self._rung = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, seconds: float | None) -> None:
        """Return after `seconds` (None: never) or when rung."""
        if not self._rung:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = None if seconds is None else loop.call_later(max(0.0, seconds), self._wake)
            try:
                await self._waiter
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()
        self._rung = False
