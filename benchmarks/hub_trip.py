"""How soon whoever watches the hub sees a trip.

`--devices` machines whose values move every 500 ms, under `twinbridge run --hub`; `--armed` of them
are heated again and again. A plain HTTP watch of all Devices notes when each one's condition
`Tripped` turns True. `written` is from the change at the machine to the stop written there, which
waits for no hub; `seen` is from the change, `after` from the written stop, to the watch's event.
The floor is a bare merge patch of a Device of no node, until the same watch tells it. Ends with
exit code 1 when a trip is missed, by the machine or by the watch.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx
from hub_plant import (
    BASE,
    MERGE,
    all_connected,
    edge_node,
    edge_under,
    hub_running,
    is_so,
    put,
    resources_of,
)
from load import Load
from rig import Broken, Generator, TwinBridge, arguments, finish, generator, show
from trip import MISSED_AFTER, reset_over

BYSTANDER = "of-no-node"


@dataclass
class Watch:
    """Futures that an event of a Device fulfils, with the time, s monotonic."""

    tripped: dict[str, asyncio.Future[float]] = field(default_factory=dict)
    noted: dict[str, asyncio.Future[float]] = field(default_factory=dict)

    def take(self, found: dict[str, Any]) -> None:
        now = time.monotonic()
        name = found["metadata"]["name"]
        if name in self.tripped and is_so(found, "Tripped") and not self.tripped[name].done():
            self.tripped[name].set_result(now)
        note = found["metadata"].get("annotations", {}).get("note", "")
        if note in self.noted and not self.noted[note].done():
            self.noted[note].set_result(now)


@asynccontextmanager
async def watching(api: httpx.AsyncClient) -> AsyncIterator[Watch]:
    watch = Watch()
    listed = (await api.get(f"{BASE}/devices", params={"limit": "1"})).json()
    query = {"watch": "true", "resourceVersion": listed["metadata"]["resourceVersion"]}

    async def read() -> None:
        async with api.stream("GET", f"{BASE}/devices", params=query, timeout=None) as answer:
            async for line in answer.aiter_lines():
                watch.take(json.loads(line)["object"])

    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(read(), name="watch")
        try:
            yield watch
        finally:
            reading.cancel()


async def floor(api: httpx.AsyncClient, watch: Watch, times: int) -> list[float]:
    """Milliseconds from sending a patch to its event."""
    delays = []
    for number in range(times):
        note = f"floor-{number}"
        seen = watch.noted[note] = asyncio.get_running_loop().create_future()
        patch = {"metadata": {"annotations": {"note": note}}}
        began = time.monotonic()
        path = f"{BASE}/devices/{BYSTANDER}"
        asked = asyncio.create_task(api.patch(path, json=patch, headers=MERGE))
        delays.append(1000 * (await asyncio.wait_for(seen, MISSED_AFTER) - began))
        (await asked).raise_for_status()
        await asyncio.sleep(0.05)
    return delays


@dataclass
class Delays:
    """Milliseconds."""

    written: list[float] = field(default_factory=list)
    seen: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        found: dict[str, float] = {"trips": len(self.seen)}
        for name in ("written", "seen", "after"):
            found |= percentiles(getattr(self, name), f"{name}_")
        return found


def percentiles(delays: Sequence[float], prefix: str = "") -> dict[str, float]:
    cuts = quantiles(delays, n=100, method="inclusive")
    return {f"{prefix}p50_ms": cuts[49], f"{prefix}p99_ms": cuts[98]}


async def trip_again_and_again(
    plant: Generator, edge: TwinBridge, watch: Watch, armed: int, trips: int
) -> Delays:
    delays = Delays()
    reset = reset_over(edge.api)
    for number in range(trips):
        device = number % armed
        name = f"m{device}"
        seen = watch.tripped[name] = asyncio.get_running_loop().create_future()
        plant.tell("heat", device)
        try:
            async with asyncio.timeout(MISSED_AFTER):
                write = await first_stop(plant, device)
                at = await seen
        except TimeoutError:
            raise Broken(f"trip {number} of {name} was missed") from None
        stopped = write["at"] / 1e9
        delays.written.append(write["latency"] / 1e6)
        delays.after.append(1000 * (at - stopped))
        delays.seen.append(delays.written[-1] + delays.after[-1])
        del watch.tripped[name]
        plant.tell("cool", device)
        await reset(device)
        plant.tell("start", device)
        await asyncio.sleep(0.2)
    return delays


async def first_stop(plant: Generator, device: int) -> dict[str, Any]:
    """The write that stopped the machine, as it tells it."""
    while True:
        write = await plant.writes.get()
        if write["device"] == device and write["latency"] is not None:
            return write


async def measured(load: Load, trips: int) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with generator(load) as plant, hub_running(folder) as api:
            resources = list(resources_of(load, plant))
            bystander = {**resources[-1], "metadata": {"name": BYSTANDER}}
            bystander["spec"] = {**bystander["spec"], "nodeName": "nobody"}
            await put(api, (edge_node(), *resources, bystander))
            async with edge_under(folder, api) as edge, watching(api) as watch:
                await all_connected(api, load.devices)
                await asyncio.sleep(3)
                bare = percentiles(await floor(api, watch, 100))
                delays = await trip_again_and_again(plant, edge, watch, load.armed, trips)
    return {"floor": bare, "twinbridge": delays.figures()}


async def hub_trip(load: Load, trips: int, *, as_json: bool) -> None:
    rows = await measured(load, trips)
    rows["ratio"] = {"p50": rows["twinbridge"]["after_p50_ms"] / rows["floor"]["p50_ms"]}
    show("a trip, as the hub shows it", rows, as_json=as_json)


if __name__ == "__main__":
    given = arguments(__doc__, devices=100, armed=10, trips=200).parse_args()
    asked = Load(devices=given.devices, registers=20, interval=500, armed=given.armed)
    finish(hub_trip(asked, given.trips, as_json=given.json))
