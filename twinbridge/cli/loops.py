"""Event loops, and one in a thread of its own: machines share no loop with web requests."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")

SWITCH_SECONDS = 0.0005
"""How long a thread that is ready waits at most for one that computes (Python's own: 5 ms)."""


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The loop of uvloop where it exists, else asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


CANCELLED_WITHIN = 1.0
"""Seconds that what still runs at the end has to take its cancellation."""


class LoopThread:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it there and wait for it here; a cancelled wait cancels it."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))


@asynccontextmanager
async def loop_thread(name: str) -> AsyncIterator[LoopThread]:
    """The loop runs until the block ends; what was called is finished or cancelled by then."""
    sys.setswitchinterval(SWITCH_SECONDS)
    loop = (loop_factory() or asyncio.new_event_loop)()
    thread = threading.Thread(target=_run, args=(loop,), name=name, daemon=True)
    thread.start()
    try:
        yield LoopThread(loop)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(thread.join)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        if pending := asyncio.all_tasks(loop):
            for task in pending:
                task.cancel()
            loop.run_until_complete(asyncio.wait(pending, timeout=CANCELLED_WITHIN))
    finally:
        loop.close()
