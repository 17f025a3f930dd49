"""Resident memory of the agent pod, and of `run`, with 1,000 Devices of 20 properties under a hub.

Real processes: machines, `twinbridge hub`, mosquitto, a driver pod and the agent; then `run` in
place of the pods. The values move every `--interval` ms, statuses go up, and the memory is looked
at after `--seconds` of that: `rss` is what a process holds, `growth` what came during the second
half. The floor imports the libraries that an agent with a hub stands on, and waits.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from hub_plant import all_connected, edge_node, edge_under, hub_running, put, resources_of
from load import Load
from memory import FLOORS, floor
from pods import mosquitto
from rig import (
    Generator,
    TwinBridge,
    arguments,
    cpu_seconds,
    finish,
    generator,
    resident_mib,
    show,
    twinbridge_role,
)

PROPERTIES = 20
IMPORTS = f"{FLOORS['agent']}, aiohttp, kubernetes.aio.client, kubernetes.aio.config"


@asynccontextmanager
async def pods(
    folder: Path, hub: httpx.AsyncClient
) -> AsyncIterator[tuple[TwinBridge, TwinBridge]]:
    """Agent and driver of node NODE, around a broker."""
    url = str(hub.base_url).rstrip("/")
    async with (
        mosquitto(folder) as (_, bus),
        twinbridge_role(folder, "agent", "--bus", bus, "--hub", url, listen="--api") as agent,
        twinbridge_role(folder, "driver", "modbus", "--bus", bus, listen="--probes") as driver,
    ):
        yield agent, driver


async def watched(seconds: float, **roles: TwinBridge) -> dict[str, dict[str, float]]:
    before = {name: cpu_seconds(role.child.pid) for name, role in roles.items()}
    await asyncio.sleep(seconds / 2)
    half = {name: resident_mib(role.child.pid) for name, role in roles.items()}
    await asyncio.sleep(seconds / 2)
    found = {}
    for name, role in roles.items():
        rss = resident_mib(role.child.pid)
        core = (cpu_seconds(role.child.pid) - before[name]) / seconds
        found[name] = {"rss_mib": rss, "growth_mib": rss - half[name], "core": core}
    return found


async def of_pods(load: Load, plant: Generator, seconds: float) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory() as name:
        async with hub_running(Path(name)) as hub:
            await put(hub, (edge_node(), *resources_of(load, plant)))
            async with pods(Path(name), hub) as (agent, driver):
                await all_connected(hub, load.devices)
                return await watched(seconds, agent=agent, driver=driver)


async def of_run(load: Load, plant: Generator, seconds: float) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory() as name:
        async with hub_running(Path(name)) as hub:
            await put(hub, (edge_node(), *resources_of(load, plant)))
            async with edge_under(Path(name), hub) as edge:
                await all_connected(hub, load.devices)
                return await watched(seconds, run=edge)


async def hub_agent(load: Load, seconds: float, *, as_json: bool) -> None:
    rows = {"floor": {"rss_mib": await floor(IMPORTS)}}
    async with generator(load) as plant:
        rows |= await of_pods(load, plant, seconds)
        rows |= await of_run(load, plant, seconds)
    rows["ratio"] = {"rss_mib": rows["agent"]["rss_mib"] / rows["floor"]["rss_mib"]}
    show("memory under a hub", rows, as_json=as_json)


if __name__ == "__main__":
    given = arguments(__doc__, devices=1000, interval=500, seconds=60.0).parse_args()
    asked = Load(given.devices, PROPERTIES, given.interval, units_per_port=240)
    finish(hub_agent(asked, given.seconds, as_json=given.json))
