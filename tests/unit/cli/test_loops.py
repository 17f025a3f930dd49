from __future__ import annotations

import asyncio
import threading

import pytest

from twinbridge.cli.loops import loop_thread


def test_work_runs_in_the_other_thread_and_its_outcome_comes_back() -> None:
    async def where() -> str:
        return threading.current_thread().name

    async def fail() -> None:
        raise LookupError("as it is")

    async def scenario() -> None:
        async with loop_thread("machines") as thread:
            assert await thread.call(where()) == "machines"
            with pytest.raises(LookupError, match="as it is"):
                await thread.call(fail())

    asyncio.run(scenario())


def test_what_still_runs_at_the_end_is_cancelled_and_nobody_waits_for_ever() -> None:
    cancelled = threading.Event()
    started = threading.Event()

    async def serve_for_ever() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def scenario() -> None:
        async with loop_thread("machines") as thread:
            waiting = asyncio.ensure_future(thread.call(serve_for_ever()))
            await asyncio.to_thread(started.wait, 30)
        async with asyncio.timeout(30):
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(scenario())
    assert cancelled.is_set()
