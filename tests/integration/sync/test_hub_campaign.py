"""The random schedules against the hub and the client that are shipped, over a line that breaks.

`TWINBRIDGE_SCHEDULES` says how many.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from edge_process import free_port
from hub_stage import Desk, desk
from sync_campaign import Schedule, Told

from twinbridge.adapters.hub_kube import open_hub
from twinbridge.adapters.hub_kube.limits import Limits
from twinbridge.app.sync import sync
from twinbridge.ports import Hub, Ref
from twinbridge.testing.hub import hub_running
from twinbridge.testing.proxy import FaultProxy

SCHEDULES = int(os.environ.get("TWINBRIDGE_SCHEDULES", "6"))
QUICK = Limits(request=1.0, connect=1.0, watch=1, silence=1.5, first_wait=0.01, longest_wait=0.1)


class Shipped:
    """The embedded hub behind the proxy; the people at it do not go over that line."""

    def __init__(self, state: Path, port: int, desk: Desk, proxy: FaultProxy) -> None:
        self._state = state
        self._port = port
        self._desk = desk
        self._proxy = proxy
        self._served = AsyncExitStack()
        self.heard = True

    async def start(self) -> None:
        await self._served.enter_async_context(hub_running(self._state, port=self._port))

    async def stop(self) -> None:
        await self._served.aclose()

    @property
    def faults(self) -> Iterable[Callable[[random.Random], Awaitable[None]]]:
        return self.cut, self.reset, self.pull, self.slow, self.start_anew

    def client(self) -> AbstractAsyncContextManager[Hub]:
        return open_hub(f"http://127.0.0.1:{self._proxy.port}", "edge-1", limits=QUICK)

    async def put(self, document: Mapping[str, Any]) -> None:
        await self._desk.put(document)

    async def delete(self, ref: Ref) -> None:
        await self._desk.delete(ref)

    async def cut(self, _: random.Random) -> None:
        self.heard = False
        self._proxy.refuse()
        self._proxy.cut()

    async def reset(self, _: random.Random) -> None:
        self._proxy.cut()

    async def pull(self, _: random.Random) -> None:
        """What is on its way is lost, and nobody says so."""
        self.heard = False
        self._proxy.faults.half_open = True

    async def slow(self, chance: random.Random) -> None:
        self._proxy.faults.latency = chance.choice((0.01, 0.05))
        self._proxy.faults.loss = 0.01

    async def start_anew(self, _: random.Random) -> None:
        await self.stop()
        await self.start()

    async def mend(self) -> None:
        faults = self._proxy.faults
        faults.half_open, faults.latency, faults.loss = False, 0.0, 0.0
        await self._proxy.listen()
        if not self.heard:
            self._proxy.cut()
        self.heard = True

    async def told(self) -> Told:
        names = ("pump-1", "pump-2")
        found = {name: await self._desk.get(Ref("Device", name)) for name in names}
        events = await self._desk.events()
        assert all(one["count"] == 1 for one in events)
        return Told(
            {name: one.get("status", {}) for name, one in found.items()},
            [one["message"] for one in events if one["reason"] == "Alarm"],
        )


@asynccontextmanager
async def shipped(folder: Path) -> AsyncIterator[Shipped]:
    port = free_port()
    async with desk(f"http://127.0.0.1:{port}") as people, FaultProxy("127.0.0.1", port) as proxy:
        side = Shipped(folder / "hub", port, people, proxy)
        await side.start()
        try:
            yield side
        finally:
            await side.stop()


@pytest.mark.parametrize("seed", range(SCHEDULES))
def test_whatever_happens_the_hub_and_the_edge_agree_afterwards(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "SETTLE", 0.01)
    monkeypatch.setattr(sync, "LOOK", 0.005)

    async def story() -> None:
        async with asyncio.timeout(60), shipped(tmp_path) as side:
            await Schedule(seed, tmp_path / "edge", side).run()

    asyncio.run(story())
