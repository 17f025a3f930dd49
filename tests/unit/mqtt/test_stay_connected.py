"""Staying connected, and ending when told to."""

from __future__ import annotations

import asyncio

from twinbridge.errors import Unreachable
from twinbridge.mqtt.connection import stay_connected


def test_a_broker_that_is_lost_in_the_moment_of_a_stop_does_not_undo_the_stop() -> None:
    async def story() -> None:
        lost, serving = asyncio.Event(), asyncio.Event()

        async def until_lost() -> None:
            await lost.wait()
            raise Unreachable("the broker is gone")

        async def serve() -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(until_lost(), name="broker")
                serving.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(stay_connected("part", serve), name="part")
        await serving.wait()
        lost.set()
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=5)
        assert done
        assert task.cancelled()

    asyncio.run(story())
