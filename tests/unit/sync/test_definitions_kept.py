"""What a hub that has lost a kind does to those who knew it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from hub_rig import device, edge_node, model, rule

from twinbridge.adapters.bus_memory import MemoryBus
from twinbridge.adapters.store_sqlite import open_store
from twinbridge.api.accept import accept, wishes
from twinbridge.api.plant import Plant
from twinbridge.app.agent import Agent
from twinbridge.app.sync.definitions import Compiler, Definitions
from twinbridge.cli.drivers import installed_drivers
from twinbridge.ports import HubDefinitions, Ref
from twinbridge.testing.fake_hub import FakeHub


@asynccontextmanager
async def definitions(
    folder: Path, take_up: Callable[[Plant], None], fetches: Callable[[], bool] = lambda: True
) -> AsyncIterator[Definitions]:
    drivers = installed_drivers()

    async def taken(plant: Plant) -> None:
        take_up(plant)

    async with open_store(folder) as store:
        compiler = Compiler(
            lambda new, old: accept(
                {(r.kind, r.name): d for r, d in new.items()},
                {(r.kind, r.name): d for r, d in old.items()},
                drivers,
                "edge-1",
            ),
            lambda one, its: wishes(one, its, drivers),
        )
        agent, gate = Agent(store, MemoryBus(), "edge-1"), asyncio.Event()
        gate.set()
        yield Definitions(store, agent, compiler, taken, lambda _: None, gate, fetches)


def test_a_kind_that_the_hub_does_not_know_stays_as_it_was(tmp_path: Path) -> None:
    """An edge that restarts under a hub without the CRD of Rules keeps its trips."""

    async def story() -> None:
        taken: list[Plant] = []
        async with definitions(tmp_path, taken.append) as found:
            everything = {
                Ref("DeviceModel", "drive"): model(),
                Ref("Device", "pump-1"): device("pump-1", 1, 5020),
                Ref("Rule", "too-fast"): rule(),
            }
            await found.take(HubDefinitions(everything, frozenset(everything)))
            assert [i.rule for i in taken[-1].instances] == ["too-fast"]
            without = {r: d for r, d in everything.items() if r.kind != "Rule"}
            without[Ref("Device", "pump-2")] = device("pump-2", 2, 5020)
            missing = frozenset({"Rule"})
            await found.take(HubDefinitions(without, frozenset(without), missing=missing))
            assert set(taken[-1].devices) == {"pump-1", "pump-2"}
            assert [i.rule for i in taken[-1].instances] == ["too-fast"]
            await found.take(HubDefinitions(without, frozenset(without)))
            assert not taken[-1].instances

    asyncio.run(story())


def test_what_is_frozen_stays_when_the_hub_is_built_anew(tmp_path: Path) -> None:
    async def story() -> None:
        taken: list[Plant] = []
        hub, frozen = FakeHub("edge-1"), False
        pump, node = Ref("Device", "pump-1"), Ref("EdgeNode", "edge-1")
        for one in (edge_node(), model(), device("pump-1", 1, 5020)):
            hub.put(one)
        async with definitions(tmp_path, taken.append, lambda: not frozen) as found:
            async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
                following = tasks.create_task(found.follow(hub), name="follow")
                await found.up_to_date.wait()
                frozen = True
                hub.delete(pump)
                hub.delete(node)
                await asyncio.sleep(0.05)
                hub.put(edge_node(site="anew"))
                while found.documents[node]["spec"] == edge_node()["spec"]:  # noqa: ASYNC110 - it has no event
                    await asyncio.sleep(0.01)
                following.cancel()
            assert pump in found.documents
            assert set(taken[-1].devices) == {"pump-1"}

    asyncio.run(story())
