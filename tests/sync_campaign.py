"""Random schedules of cuts, kills and edits, and what must hold of every one of them.

A schedule is named by its seed, which alone makes it. The hub and the line to it are a `HubSide`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from agent_rig import good, trip_alarm
from hub_rig import device, edge_node, model

from twinbridge.adapters.bus_memory import MemoryBus
from twinbridge.adapters.store_sqlite import SqliteStore, open_store
from twinbridge.api.accept import accept, wishes
from twinbridge.api.plant import Plant
from twinbridge.app.agent import Agent
from twinbridge.app.sync.definitions import Compiler, Definitions
from twinbridge.app.sync.journal import JournalToHub
from twinbridge.app.sync.sync import Gates, HubSync, SyncOptions
from twinbridge.cli.drivers import installed_drivers
from twinbridge.core.alarm import Alarm
from twinbridge.core.messages import (
    AlarmChanged,
    Audit,
    Contact,
    Desire,
    DesiredState,
    Outcome,
    Request,
    Samples,
)
from twinbridge.ports import Hub, Ref

ACTIONS = 14
QUIET = 10.0
"""Seconds within which hub and edge agree once nothing happens any more."""
PUMPS = ("pump-1", "pump-2")


@dataclass
class Machine:
    """Lives on when the edge is killed."""

    speed: int = 0
    written: list[int] = field(default_factory=list)


@dataclass
class Edge:
    """One life of the edge's process."""

    agent: Agent
    store: SqliteStore
    bus: MemoryBus
    machines: dict[str, Machine]

    async def handle(self, request: Request) -> None:
        if isinstance(request, Desire) and request.property == "speed":
            machine = self.machines[request.device]
            machine.speed = int(request.value)
            machine.written.append(machine.speed)
            self.bus.publish(
                Outcome(
                    request.device,
                    request.property,
                    request.version,
                    DesiredState.APPLIED,
                    "",
                    request.accepted,
                )
            )
            self.tell(request.device)

    def tell(self, name: str) -> None:
        """What a poll would."""
        sample = good(self.machines[name].speed)
        self.bus.publish(Samples(name, (("speed", sample),)))
        self.bus.publish(Contact(name, connected=True, at=sample.source_time))

    async def raise_alarm(self, number: int) -> None:
        record = Audit("alarm", f"too-fast:pump-1:{number:x}", "rule:too-fast", {}, 1, 1)
        await self.store.append_audit(record)

    async def publish(self, alarm: Alarm) -> None:
        """As the machines' side does: on disk first."""
        await self.store.save_alarm(alarm)
        self.bus.publish(AlarmChanged(alarm))
        while self.agent.alarms.is_trip(alarm.id) != alarm.tripped:  # noqa: ASYNC110 - it looks at state that has no event
            await asyncio.sleep(0)

    async def take_up(self, plant: Plant) -> None:
        await self.agent.set_plant(plant.devices, plant.instances)
        for name in plant.devices:
            self.tell(name)


class Told(NamedTuple):
    """What the hub has of the edge."""

    statuses: Mapping[str, Any]
    """Of Devices, by name."""
    alarms: list[str]
    """Messages of the Events."""


class HubSide(Protocol):
    """A hub and the line to it, as somebody who breaks both sees them."""

    @property
    def faults(self) -> Iterable[Callable[[random.Random], Awaitable[None]]]:
        """What may happen to them, each until `mend`."""

    @property
    def heard(self) -> bool:
        """Whether the edge may hear of what is edited now."""

    def client(self) -> AbstractAsyncContextManager[Hub]:
        """As one life of an edge has it."""

    async def put(self, document: Mapping[str, Any]) -> None: ...

    async def delete(self, ref: Ref) -> None: ...

    async def mend(self) -> None: ...

    async def told(self) -> Told: ...


@asynccontextmanager
async def life(folder: Path, side: HubSide, machines: dict[str, Machine]) -> AsyncIterator[Edge]:
    drivers = installed_drivers()
    async with open_store(folder) as store, side.client() as hub:
        bus = MemoryBus()
        agent = Agent(store, bus, "edge-1")
        edge = Edge(agent, store, bus, machines)
        bus.serve(edge.handle)
        await agent.restore(await store.load())
        gates = Gates()
        synced: list[HubSync] = []

        def taken(refs: Iterable[Ref]) -> None:
            synced[0].taken(refs)

        compiler = Compiler(
            lambda new, old: accept(
                {(r.kind, r.name): d for r, d in new.items()},
                {(r.kind, r.name): d for r, d in old.items()},
                drivers,
                "edge-1",
            ),
            lambda one, its: wishes(one, its, drivers),
        )
        definitions = Definitions(
            store,
            agent,
            compiler,
            edge.take_up,
            taken,
            gates.claimed,
        )
        plant = await definitions.restore()
        await edge.take_up(plant)
        journal = JournalToHub(store, await store.identity(), gates.alarms)
        await journal.begin()
        synced.append(
            HubSync(
                agent,
                definitions,
                journal,
                gates,
                await store.identity(),
                dict,
                SyncOptions(interval=0.05, per_second=500),
            )
        )
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(agent.run(), name="agent"),
                tasks.create_task(synced[0].run(hub), name="sync"),
            ]
            await agent.started.wait()
            try:
                yield edge
            finally:
                for task in running:
                    task.cancel()


class Schedule:
    """One edge, one hub, and what a seed makes happen to them."""

    def __init__(self, seed: int, folder: Path, hub: HubSide) -> None:
        self.chance = random.Random(seed)
        self.folder = folder
        self.hub = hub
        self.machines = {name: Machine() for name in PUMPS}
        self.number = 0
        self.expired: set[int] = set()
        self.wished = dict.fromkeys(PUMPS, 0)
        self.alarms = self.trips = 0
        self.resets: list[tuple[str, int, int]] = []
        """The pump, how much was written to it before, and what had been desired of all by then."""
        self.done: list[str] = []

    def pump(self, name: str, **spec: Any) -> dict[str, Any]:
        return device(name, PUMPS.index(name) + 1, 5020, **spec)

    def desired(self, name: str, **more: object) -> dict[str, Any]:
        self.number += 1
        return self.pump(name, desired=[{"name": "speed", "value": self.number, **more}])

    # What happens.

    async def desire(self, edge: Edge) -> None:
        name = self.chance.choice(PUMPS)
        await self.hub.put(self.desired(name))
        self.wished[name] = self.number

    async def desire_in_the_past(self, edge: Edge) -> None:
        name = self.chance.choice(PUMPS)
        await self.hub.put(self.desired(name, validUntil="2020-01-01T00:00:00Z"))
        self.expired.add(self.number)
        self.wished[name] = 0

    async def desire_unheard(self, edge: Edge) -> None:
        """What is over before the link is back."""
        if self.hub.heard:
            return
        name = self.chance.choice(PUMPS)
        await self.hub.put(self.desired(name, validFor="40ms"))
        self.expired.add(self.number)
        self.wished[name] = 0
        await asyncio.sleep(0.05)

    async def break_device(self, edge: Edge) -> None:
        name = self.chance.choice(PUMPS)
        await self.hub.put(self.pump(name, modelRef={"name": "nowhere"}))
        self.wished[name] = 0

    async def make_anew(self, edge: Edge) -> None:
        await self.hub.delete(Ref("Device", "pump-2"))
        await asyncio.sleep(self.chance.choice((0.0, 0.03)))
        await self.hub.put(self.desired("pump-2"))
        self.wished["pump-2"] = self.number

    async def trip(self, edge: Edge) -> None:
        """And its reset: only what is desired after that may start the pump."""
        name = self.chance.choice(PUMPS)
        if name not in edge.agent.devices:
            return
        if not self.hub.heard:
            await self.hub.put(self.desired(name))  # by somebody who knows nothing of the trip
        self.trips += 1
        holds = ((name, "speed", 0),)
        alarm = replace(trip_alarm(name, f"too-fast-{self.trips}"), holds=holds)
        await edge.publish(alarm)
        machine = self.machines[name]
        machine.speed = 0
        edge.tell(name)
        await asyncio.sleep(self.chance.choice((0.0, 0.01)))
        self.resets.append((name, len(machine.written), self.number))
        await edge.publish(replace(alarm, latched=False, active=False, acked=True))
        self.wished[name] = 0

    async def alarm(self, edge: Edge) -> None:
        self.alarms += 1
        await edge.raise_alarm(self.alarms)

    async def fault(self, edge: Edge) -> None:
        fault = self.chance.choice(list(self.hub.faults))
        self.done.append(getattr(fault, "__name__", ""))
        await fault(self.chance)

    async def mend(self, edge: Edge) -> None:
        await self.hub.mend()

    async def run(self) -> None:
        for document in (edge_node(), model(), *(self.pump(name) for name in PUMPS)):
            await self.hub.put(document)
        acts = [self.desire, self.desire, self.desire_in_the_past, self.desire_unheard,
                self.break_device, self.make_anew, self.alarm, self.alarm, self.trip,
                self.fault, self.fault, self.mend]  # fmt: skip
        left = ACTIONS
        while left:
            async with life(self.folder, self.hub, self.machines) as edge:
                for _ in range(min(left, self.chance.randint(2, 6))):
                    left -= 1
                    act = self.chance.choice(acts)
                    self.done.append(act.__name__)
                    await act(edge)
                    await asyncio.sleep(self.chance.choice((0.0, 0.01, 0.06)))
            self.done.append("kill")
        await self.hub.mend()
        for name in PUMPS:
            doubted = any(name == pump for pump, _, _ in self.resets)
            if doubted or not self.wished[name]:
                await self.hub.put(self.desired(name, givenAt=_surely_later()))
                self.wished[name] = self.number
        async with life(self.folder, self.hub, self.machines) as edge:
            await self.agree()
        for name, machine in self.machines.items():
            assert machine.written == sorted(machine.written), f"{name}: an old value came back"
            assert not self.expired & set(machine.written), f"{name}: an expired value was written"
        for name, written, given in self.resets:
            after = self.machines[name].written[written:]
            why = f"{name}: {after} after a reset at {given}; after {self.done}"
            assert all(value > given for value in after), why

    async def agree(self) -> None:
        """Raises what is still wrong after QUIET seconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + QUIET
        while (wrong := self.settled(await self.hub.told())) and loop.time() < end:  # noqa: ASYNC110 - it looks at state that has no event
            await asyncio.sleep(0.02)
        assert not wrong, f"{wrong}; after {self.done}"

    def settled(self, told: Told) -> str:
        """What is not yet, or never, as it must be."""
        for name in PUMPS:
            wrong = self.wrong(name, told.statuses.get(name, {}))
            if wrong:
                return f"{name}: {wrong}"
        want = sorted(f"too-fast:pump-1:{n:x}: alarm" for n in range(1, self.alarms + 1))
        there = sorted(told.alarms)
        return "" if there == want else f"alarms at the hub {there}, raised {want}"

    def wrong(self, name: str, status: Any) -> str:
        machine, wished = self.machines[name], self.wished[name]
        if machine.speed != wished:
            return f"the machine has {machine.speed}, desired is {wished}"
        twin: Any = next((t for t in status.get("twins", ()) if t["name"] == "speed"), {})
        if twin.get("reported", {}).get("value") != machine.speed:
            return f"the hub shows {twin}, the machine has {machine.speed}"
        if twin.get("desired", {}).get("state") != "applied":
            return f"the hub shows {twin.get('desired')}"
        return ""


def _surely_later() -> str:
    """Than any reset so far, however clocks may differ and whenever a start finds it."""
    return (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
