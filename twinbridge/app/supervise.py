"""Keeps a task alive: the one place with a broad `except`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from twinbridge.app.metrics import RESTARTS

log = structlog.get_logger()


class Backoff:
    """Waiting times that double from `first` to `longest` seconds, each with ±20 % jitter."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._next = first

    def reset(self) -> None:
        self._next = self._first

    def next(self) -> float:
        """Seconds to wait before the next try, never more than `longest`."""
        wait = self._next * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, hides nothing
        self._next = min(self._next * 2, self._longest)
        return min(wait, self._longest)


async def supervise(
    name: str, run: Callable[[], Awaitable[None]], on_failure: Callable[[Exception], None]
) -> None:
    """Run it until it returns; when it raises, say so, tell the owner, and start it again."""
    backoff = Backoff(0.2, 10.0)
    while True:
        try:
            return await run()
        except Exception as error:
            log.exception("task failed, starting it again", task=name)
            RESTARTS.labels(name.split(" ", 1)[0]).inc()
            on_failure(error)
        await asyncio.sleep(backoff.next())
