"""What a hub that has lost a kind does to those who knew it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hub_rig import device, model, rule

from twinbridge.adapters.bus_memory import MemoryBus
from twinbridge.adapters.store_sqlite import open_store
from twinbridge.api.accept import accept, wishes
from twinbridge.api.plant import Plant
from twinbridge.app.agent import Agent
from twinbridge.app.sync.definitions import Compiler, Definitions
from twinbridge.cli.drivers import installed_drivers
from twinbridge.ports import HubDefinitions, Ref


def test_a_kind_that_the_hub_does_not_know_stays_as_it_was(tmp_path: Path) -> None:
    """An edge that restarts under a hub without the CRD of Rules keeps its trips."""

    async def story() -> None:
        drivers = installed_drivers()
        taken: list[Plant] = []

        async def take_up(plant: Plant) -> None:
            taken.append(plant)

        async with open_store(tmp_path) as store:
            compiler = Compiler(
                lambda new, old: accept(
                    {(r.kind, r.name): d for r, d in new.items()},
                    {(r.kind, r.name): d for r, d in old.items()},
                    drivers,
                    "edge-1",
                ),
                lambda one, its: wishes(one, its, drivers),
            )
            agent = Agent(store, MemoryBus(), "edge-1")
            found = Definitions(store, agent, compiler, take_up, lambda _: None, asyncio.Event())
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
