"""Both ends of the MQTT bus in one process, around a real broker: driver side and agent side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from twinbridge.adapters.agent_store import AgentStore
from twinbridge.adapters.bus_memory import MemoryBus
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
    kept: DriverStore
    agent: AgentSide
    taken: AgentStore

    def __init__(self, machines: MemoryBus) -> None:
        self.machines = machines
        self.newest: dict[str, Samples] = {}
        self.tells_again = False
        """Whether it answers TellAll, as machines do."""
        self.lost: list[tuple[list[str], str]] = []
        self.served: list[list[str]] = []
        self.problems: dict[str, dict[str, str]] = {}
        self.inputs: list[Event] = []
        self.definitions: list[bytes] = []

    def publish(self, event: Event) -> None:
        if isinstance(event, Samples):
            self.newest[event.device] = event
        self.machines.publish(event)

    def subscribe(self) -> AsyncIterator[Sequence[Event]]:
        return self.agent.subscribe()

    async def request(self, request: Request) -> None:
        await self.agent.request(request)

    def serve(self, handler: Callable[[Request], Awaitable[None]]) -> None:
        async def handle(request: Request) -> None:
            if isinstance(request, TellAll):  # the bus itself asks for that
                for event in self.newest.values() if self.tells_again else ():
                    self.machines.publish(event)
            else:
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
async def driver_end(
    folder: Path, url: str, ends: Ends, *, protocol: str = "modbus"
) -> AsyncIterator[DriverSide]:
    """A driver pod's end with its store in `folder`; closed without a drain, as a crash is."""
    async with open_store_of(DriverStore, folder) as kept:
        driver = DriverSide(
            parse_url(url),
            Topics(NODE),
            protocol,
            await kept.identity(),
            kept,
            ends.machines,
            on_definitions=ends.definitions.append,
            on_inputs=ends.inputs.extend,
        )
        ends.driver, ends.kept = driver, kept
        async with running(driver.keep(), driver.run()):
            yield driver


@asynccontextmanager
async def agent_end(
    folder: Path, url: str, ends: Ends, *, queue_limit: int = 10_000
) -> AsyncIterator[AgentSide]:
    """An agent pod's end with its store in `folder`."""
    async with open_store_of(AgentStore, folder) as taken:
        agent = AgentSide(
            parse_url(url),
            Topics(NODE),
            await taken.identity(),
            taken,
            queue_limit=queue_limit,
            knows=lambda device: not device.startswith("unknown"),
            on_lost=lambda devices, why: ends.lost.append((list(devices), why)),
            on_served=lambda devices: ends.served.append(list(devices)),
            on_problems=lambda owner, found: ends.problems.update({owner: dict(found)}),
        )
        ends.agent, ends.taken = agent, taken
        async with running(agent.run()):
            yield agent


@asynccontextmanager
async def both_ends(
    folder: Path, url: str, *, agent_url: str = "", queue_limit: int = 10_000
) -> AsyncIterator[Ends]:
    """Connected, with stores of their own below `folder`; opened again it goes on from them."""
    ends = Ends(MemoryBus(queue_limit=queue_limit))
    ends.serve(_nothing)
    async with (
        driver_end(folder / "driver", url, ends) as driver,
        agent_end(folder / "agent", agent_url or url, ends, queue_limit=queue_limit) as agent,
    ):
        await asyncio.wait_for(driver.connected.wait(), 10)
        await asyncio.wait_for(agent.connected.wait(), 10)
        await greeted(agent)
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


async def _nothing(request: Request) -> None:
    del request


async def until(true: Callable[[], object], seconds: float = 20) -> None:
    """Poll until it is so. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what is looked at tells nobody
            await asyncio.sleep(0.01)


async def greeted(agent: AgentSide) -> None:
    """Until the agent has heard a driver."""
    await until(lambda: any(not owner.lost for owner in agent.owners.values()))
