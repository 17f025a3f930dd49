"""Random schedules of cuts, kills and edits: what must hold of every one of them.

`TWINBRIDGE_SCHEDULES` says how many; each is named by its seed, which alone makes it.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from agent_rig import good
from hub_rig import device, edge_node, model

from twinbridge.adapters.bus_memory import MemoryBus
from twinbridge.adapters.store_sqlite import SqliteStore, open_store
from twinbridge.api.accept import accept, wishes
from twinbridge.api.plant import Plant
from twinbridge.app.agent import Agent
from twinbridge.app.sync import sync
from twinbridge.app.sync.definitions import Compiler, Definitions
from twinbridge.app.sync.journal import JournalToHub
from twinbridge.app.sync.sync import Gates, HubSync, SyncOptions
from twinbridge.cli.drivers import installed_drivers
from twinbridge.core.messages import Audit, Contact, Desire, DesiredState, Outcome, Request, Samples
from twinbridge.ports import Ref
from twinbridge.testing.fake_hub import FakeHub

SCHEDULES = int(os.environ.get("TWINBRIDGE_SCHEDULES", "40"))
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

    async def take_up(self, plant: Plant) -> None:
        await self.agent.set_plant(plant.devices, plant.instances)
        for name in plant.devices:
            self.tell(name)


@asynccontextmanager
async def life(folder: Path, hub: FakeHub, machines: dict[str, Machine]) -> AsyncIterator[Edge]:
    drivers = installed_drivers()
    async with open_store(folder) as store:
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

    def __init__(self, seed: int, folder: Path) -> None:
        self.chance = random.Random(seed)
        self.folder = folder
        self.hub = FakeHub("edge-1")
        self.machines = {name: Machine() for name in PUMPS}
        self.number = 0
        self.expired: set[int] = set()
        self.wished = dict.fromkeys(PUMPS, 0)
        self.alarms = 0
        self.done: list[str] = []
        self.hub.put(edge_node())
        self.hub.put(model())
        for name in PUMPS:
            self.hub.put(self.pump(name))

    def pump(self, name: str, **spec: Any) -> dict[str, Any]:
        return device(name, PUMPS.index(name) + 1, 5020, **spec)

    def desired(self, name: str, **more: object) -> dict[str, Any]:
        self.number += 1
        return self.pump(name, desired=[{"name": "speed", "value": self.number, **more}])

    # What happens.

    async def desire(self, edge: Edge) -> None:
        name = self.chance.choice(PUMPS)
        self.hub.put(self.desired(name))
        self.wished[name] = self.number

    async def desire_in_the_past(self, edge: Edge) -> None:
        name = self.chance.choice(PUMPS)
        self.hub.put(self.desired(name, validUntil="2020-01-01T00:00:00Z"))
        self.expired.add(self.number)
        self.wished[name] = 0

    async def break_device(self, edge: Edge) -> None:
        name = self.chance.choice(PUMPS)
        self.hub.put(self.pump(name, modelRef={"name": "nowhere"}))
        self.wished[name] = 0

    async def make_anew(self, edge: Edge) -> None:
        self.hub.delete(Ref("Device", "pump-2"))
        await asyncio.sleep(self.chance.choice((0.0, 0.03)))
        self.hub.put(self.desired("pump-2"))
        self.wished["pump-2"] = self.number

    async def alarm(self, edge: Edge) -> None:
        self.alarms += 1
        await edge.raise_alarm(self.alarms)

    async def cut(self, edge: Edge) -> None:
        self.hub.cut()

    async def mend(self, edge: Edge) -> None:
        self.hub.mend()

    async def slow(self, edge: Edge) -> None:
        self.hub.latency = self.chance.choice((0.0, 0.005, 0.02))

    async def run(self) -> None:
        acts = [self.desire, self.desire, self.desire_in_the_past, self.break_device,
                self.make_anew, self.alarm, self.alarm, self.cut, self.mend, self.slow]  # fmt: skip
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
        self.hub.mend()
        self.hub.latency = 0.0
        for name in PUMPS:
            if not self.wished[name]:
                self.hub.put(self.desired(name))
                self.wished[name] = self.number
        async with life(self.folder, self.hub, self.machines) as edge:
            await self.agree(lambda: self.settled(edge))

    async def agree(self, holds: Callable[[], str]) -> None:
        """Raises what is still wrong after QUIET seconds."""
        end = asyncio.get_running_loop().time() + QUIET
        while (wrong := holds()) and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110 - it looks at state that has no event
            await asyncio.sleep(0.01)
        assert not wrong, f"{wrong}; after {self.done}"

    def settled(self, edge: Edge) -> str:
        """What is not yet, or never, as it must be."""
        for name in PUMPS:
            wrong = self.wrong(name, edge)
            if wrong:
                return f"{name}: {wrong}"
        told = sorted(e.message for e in self.hub.events.values() if e.reason == "Alarm")
        want = sorted(f"too-fast:pump-1:{n:x}: alarm" for n in range(1, self.alarms + 1))
        return "" if told == want else f"alarms at the hub {told}, raised {want}"

    def wrong(self, name: str, edge: Edge) -> str:
        machine, wished = self.machines[name], self.wished[name]
        if machine.speed != wished:
            return f"the machine has {machine.speed}, desired is {wished}"
        status: Any = self.hub.statuses.get(Ref("Device", name), {})
        twin: Any = next((t for t in status.get("twins", ()) if t["name"] == "speed"), {})
        if twin.get("reported", {}).get("value") != machine.speed:
            return f"the hub shows {twin}, the machine has {machine.speed}"
        if twin.get("desired", {}).get("state") != "applied":
            return f"the hub shows {twin.get('desired')}"
        return ""


@pytest.mark.parametrize("seed", range(SCHEDULES))
def test_whatever_happens_hub_and_edge_agree_afterwards_and_nothing_is_lost_or_doubled(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "SETTLE", 0.01)
    monkeypatch.setattr(sync, "LOOK", 0.005)
    schedule = Schedule(seed, tmp_path)
    asyncio.run(schedule.run())
    for name, machine in schedule.machines.items():
        assert machine.written == sorted(machine.written), f"{name}: an old value came back"
        assert not schedule.expired & set(machine.written), f"{name}: an expired value was written"
