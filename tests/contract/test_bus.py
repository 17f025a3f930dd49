from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from bus_rig import Ends, both_ends
from mosquitto import Mosquitto

from twinbridge.adapters.bus_memory import MemoryBus
from twinbridge.errors import Unreachable
from twinbridge.testing.bus_contract import NEVER_LOST, RESET, BusContract, samples

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from twinbridge.ports import Bus


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("broker")) as mosquitto:
        yield mosquitto


class TestMqttBus(BusContract):
    """Two processes' ends in one, between them a real broker."""

    @pytest.fixture(autouse=True)
    def _with(self, broker: Mosquitto, tmp_path: Path) -> None:
        self._url, self._folder = broker.url, tmp_path

    def opened(self) -> AbstractAsyncContextManager[Ends]:
        return both_ends(self._folder, self._url, queue_limit=self.queue_limit)

    async def settled(self, bus: Bus) -> None:
        assert isinstance(bus, Ends)
        await bus.settled()


class TestMemoryBus(BusContract):
    @asynccontextmanager
    async def opened(self) -> AsyncIterator[MemoryBus]:
        yield MemoryBus(queue_limit=self.queue_limit)


def test_a_burst_is_one_batch() -> None:
    async def story() -> None:
        bus = MemoryBus()
        reader = bus.subscribe()
        for at in range(5):
            bus.publish(samples(at))
        assert await anext(reader) == [samples(at) for at in range(5)]

    asyncio.run(story())


def test_coalesced_samples_are_counted() -> None:
    async def story() -> None:
        bus = MemoryBus(queue_limit=10)
        reader = bus.subscribe()
        for at in range(1000):
            bus.publish(samples(at))
        assert bus.coalesced + len(await anext(reader)) == 1000

    asyncio.run(story())


def test_a_reader_that_has_gone_costs_nothing() -> None:
    async def story() -> None:
        bus = MemoryBus()
        bus.publish(samples(1))
        async with asyncio.timeout(5):
            reader = bus.subscribe()
            bus.publish(samples(1))
            async for _ in reader:
                break
        assert bus.subscribers == 1
        del reader
        assert bus.subscribers == 0

    asyncio.run(story())


def test_a_request_that_nobody_serves_is_refused() -> None:
    async def story() -> None:
        with pytest.raises(Unreachable, match="serves"):
            await MemoryBus().request(RESET)

    asyncio.run(story())


def test_samples_gather_and_other_news_does_not_wait() -> None:
    async def story() -> None:
        bus = MemoryBus(linger=3600)
        reader = bus.subscribe()
        waiting = asyncio.ensure_future(anext(reader))
        await asyncio.sleep(0)
        bus.publish(samples(1))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        bus.publish(NEVER_LOST[0])
        async with asyncio.timeout(30):
            assert await waiting == [samples(1), NEVER_LOST[0]]

    asyncio.run(story())
