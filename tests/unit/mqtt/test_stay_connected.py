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


def test_a_part_of_several_tasks_comes_back_each_time_that_one_of_them_loses_the_broker() -> None:
    async def story() -> None:
        tries, served = 0, asyncio.Event()

        async def lose() -> None:
            raise Unreachable("the broker is gone")

        async def serve() -> None:
            nonlocal tries
            tries += 1
            if tries == 3:
                served.set()
                await asyncio.Event().wait()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(lose(), name="broker")
                tasks.create_task(asyncio.Event().wait(), name="work")

        task = asyncio.create_task(stay_connected("part", serve, longest=0.01), name="part")
        async with asyncio.timeout(10):
            await served.wait()
        assert not task.done()
        task.cancel()
        await asyncio.wait([task], timeout=5)
        assert task.cancelled()

    asyncio.run(story())
