"""Random schedules against a hub in memory: many of them, each in a blink.

`TWINBRIDGE_SCHEDULES` says how many.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sync_campaign import Schedule, Told

from twinbridge.app.sync import sync
from twinbridge.ports import Hub, Ref
from twinbridge.testing.fake_hub import FakeHub

SCHEDULES = int(os.environ.get("TWINBRIDGE_SCHEDULES", "40"))


class InMemory:
    def __init__(self) -> None:
        self.hub = FakeHub("edge-1")

    @property
    def faults(self) -> Iterable[Callable[[random.Random], Awaitable[None]]]:
        return self.cut, self.slow

    @property
    def heard(self) -> bool:
        return self.hub.connected

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Hub]:
        yield self.hub

    async def put(self, document: Mapping[str, Any]) -> None:
        self.hub.put(document)

    async def delete(self, ref: Ref) -> None:
        self.hub.delete(ref)

    async def cut(self, _: random.Random) -> None:
        self.hub.cut()

    async def slow(self, chance: random.Random) -> None:
        self.hub.latency = chance.choice((0.005, 0.02))

    async def mend(self) -> None:
        self.hub.mend()
        self.hub.latency = 0.0

    async def told(self) -> Told:
        statuses = {ref.name: one for ref, one in self.hub.statuses.items() if ref.kind == "Device"}
        return Told(statuses, [e.message for e in self.hub.events.values() if e.reason == "Alarm"])


@pytest.mark.parametrize("seed", range(SCHEDULES))
def test_whatever_happens_hub_and_edge_agree_afterwards_and_nothing_is_lost_or_doubled(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "SETTLE", 0.01)
    monkeypatch.setattr(sync, "LOOK", 0.005)
    asyncio.run(Schedule(seed, tmp_path, InMemory()).run())
