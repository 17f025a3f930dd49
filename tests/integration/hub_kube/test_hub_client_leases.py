"""Who speaks for a node, told apart by the Lease at the hub that is shipped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from twinbridge.adapters.hub_kube import KubeHub, open_hub
from twinbridge.testing.hub import hub_running


def play(folder: Path, scene: Callable[[KubeHub, KubeHub], Awaitable[None]]) -> None:
    """With two processes that claim one node."""

    async def played() -> None:
        async with asyncio.timeout(20), hub_running(folder) as there, AsyncExitStack() as stack:
            first = await stack.enter_async_context(open_hub(there.url, "edge-1"))
            second = await stack.enter_async_context(open_hub(there.url, "edge-1"))
            await scene(first, second)

    asyncio.run(played())


def test_a_new_life_of_an_edge_goes_on_at_once(tmp_path: Path) -> None:
    async def scene(before: KubeHub, after: KubeHub) -> None:
        assert await before.renew("disk.life-1", 60) == "disk.life-1"
        assert await after.renew("disk.life-2", 60) == "disk.life-2"
        assert await after.renew("disk.life-2", 60) == "disk.life-2"

    play(tmp_path, scene)


def test_of_two_that_run_on_copies_of_one_disk_one_speaks(tmp_path: Path) -> None:
    async def scene(first: KubeHub, second: KubeHub) -> None:
        assert await first.renew("disk.life-1", 60) == "disk.life-1"
        assert await second.renew("disk.life-2", 60) == "disk.life-2"
        for _ in range(2):
            assert await first.renew("disk.life-1", 60) == "disk.life-2"
            assert await second.renew("disk.life-2", 60) == "disk.life-2"

    play(tmp_path, scene)


def test_who_was_silent_for_its_whole_time_is_followed(tmp_path: Path) -> None:
    async def scene(first: KubeHub, second: KubeHub) -> None:
        assert await first.renew("disk.life-1", 1) == "disk.life-1"
        assert await second.renew("other.life-1", 1) == "disk.life-1"
        while await second.renew("other.life-1", 60) != "other.life-1":  # noqa: ASYNC110 - time tells
            await asyncio.sleep(0.1)
        assert await first.renew("disk.life-1", 60) == "other.life-1"

    play(tmp_path, scene)
