"""Both ends of the MQTT bus in one process, around a real broker: driver side and agent side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from twinbridge.adapters.agent_store import AgentStore
from twinbridge.adapters.bus_memory import MemoryBus, Subscription
from twinbridge.adapters.bus_mqtt.agent_side import AgentSide
from twinbridge.adapters.bus_mqtt.driver_side import DriverSide
from twinbridge.adapters.bus_mqtt.topics import Topics
from twinbridge.adapters.driver_store import DriverStore
from twinbridge.adapters.store_sqlite import open_store_of
from twinbridge.api.broker import parse_url
from twinbridge.core.messages import Event, Request, Samples, TellAll
from twinbridge.core.model import Quality, Reason, Sample

NODE = "edge-1"


class Ends:
    """A Bus that is two processes' worth: what is published goes over the broker."""

    driver: DriverSide
    agent: AgentSide

    def __init__(self, machines: MemoryBus) -> None:
        self.machines = machines
        self.lost: list[tuple[list[str], str]] = []
        self.served: list[list[str]] = []
        self.problems: dict[str, dict[str, str]] = {}
        self.inputs: list[Event] = []
        self.definitions: list[bytes] = []

    def publish(self, event: Event) -> None:
        self.machines.publish(event)

    def subscribe(self) -> Subscription:
        return self.agent.subscribe()

    async def request(self, request: Request) -> None:
        await self.agent.request(request)

    def serve(self, handler: Callable[[Request], Awaitable[None]]) -> None:
        async def handle(request: Request) -> None:
            if not isinstance(request, TellAll):  # the bus itself asks for that
                await handler(request)

        self.machines.serve(handle)

    async def settled(self) -> None:
        """Until what was published so far has come to the agent."""
        reader, marker = self.agent.subscribe(), _marker()
        self.machines.publish(marker)
        while marker not in await anext(reader):
            pass


_marks = iter(range(1, 1_000_000))


def _marker() -> Samples:
    at = next(_marks)
    return Samples("marker", (("at", Sample(at, Quality.GOOD, Reason.NONE, at, at)),))


@asynccontextmanager
async def both_ends(
    folder: Path,
    url: str,
    *,
    agent_url: str = "",
    queue_limit: int = 10_000,
    protocol: str = "modbus",
) -> AsyncIterator[Ends]:
    """Connected, with stores of their own below `folder`; opened again it goes on from them."""
    topics, machines = Topics(NODE), MemoryBus(queue_limit=queue_limit)
    ends = Ends(machines)
    async with (
        open_store_of(DriverStore, folder / "driver") as kept,
        open_store_of(AgentStore, folder / "agent") as taken,
    ):
        ends.driver = driver = DriverSide(
            parse_url(url),
            topics,
            protocol,
            await kept.identity(),
            kept,
            machines,
            on_definitions=ends.definitions.append,
            on_inputs=ends.inputs.extend,
        )
        ends.agent = agent = AgentSide(
            parse_url(agent_url or url),
            topics,
            await taken.identity(),
            taken,
            queue_limit=queue_limit,
            knows=lambda device: not device.startswith("unknown"),
            on_lost=lambda devices, why: ends.lost.append((list(devices), why)),
            on_served=lambda devices: ends.served.append(list(devices)),
            on_problems=lambda owner, found: ends.problems.update({owner: dict(found)}),
        )
        async with running(driver.keep(), driver.run(), agent.run()):
            await asyncio.wait_for(driver.connected.wait(), 10)
            await asyncio.wait_for(agent.connected.wait(), 10)
            await asyncio.wait_for(_greeted(agent), 10)
            yield ends


@asynccontextmanager
async def running(*works: Awaitable[object]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        results: Sequence[object] = await asyncio.gather(*tasks, return_exceptions=True)
        failed = [r for r in results if isinstance(r, Exception)]
    if failed:
        raise failed[0]


async def _greeted(agent: AgentSide) -> None:
    while not any(not owner.lost for owner in agent.owners.values()):  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.01)
