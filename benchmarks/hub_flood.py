"""From desired at the hub to written at the machine: quiet, and while telemetry goes up.

`--devices` machines of 20 properties under `twinbridge run --hub`, of which 100 values change a
second; ten of them have a coil that is desired on and off, one after the other. Then the same while
those samples go to a real VictoriaMetrics together with an outage of `--samples` that waited on
disk. The floor is a bare read of the object at the hub, between the changes. Ends with exit code 1
when a value does not arrive, or when the outage was told before the changes were.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from pathlib import Path

import httpx
from backfill import engine, fill
from hub_plant import (
    BASE,
    MERGE,
    all_connected,
    edge_node,
    edge_under,
    hub_running,
    put,
    resources_of,
    until,
)
from hub_trip import percentiles
from load import Load
from rig import NODE, Broken, Generator, arguments, finish, free_port, generator, show

from twinbridge.adapters.outbox_sqlite import open_outbox

ARMED = 10
PROPERTIES = 20
PER_SECOND = 100
INTERVAL = 5000
"""Milliseconds."""
PAUSE = 0.12
"""Seconds between changes, so that each coil rests for a second: its own limit."""
ARRIVES = 10.0
INSERTED = re.compile(r'^vm_rows_inserted_total\{type="promremotewrite"\} (\S+)', re.MULTILINE)


def load_of(devices: int) -> Load:
    values = devices * PROPERTIES * 1000 / INTERVAL
    return Load(
        devices,
        PROPERTIES,
        INTERVAL,
        change=min(1.0, PER_SECOND / values),
        armed=ARMED,
        units_per_port=240,
    )


async def desired(hub: httpx.AsyncClient, plant: Generator, changes: int) -> dict[str, float]:
    """Milliseconds: a read of the object; from sending the patch to the coil written."""
    reads, delays = [], []
    for number in range(changes):
        motor, value = number % ARMED, bool(number // ARMED % 2)  # the coils are on at first
        path = f"{BASE}/devices/m{motor}"
        began = time.monotonic()
        await hub.get(path)
        reads.append(1000 * (time.monotonic() - began))
        patch = {"spec": {"desired": [{"name": "run", "value": value}]}}
        began = time.monotonic()
        asked = asyncio.create_task(hub.patch(path, json=patch, headers=MERGE))
        delays.append(1000 * (await written(plant, motor, value=value) - began))
        (await asked).raise_for_status()
        await asyncio.sleep(PAUSE)
    return {"floor_p50_ms": percentiles(reads)["p50_ms"], **percentiles(delays)}


async def written(plant: Generator, motor: int, *, value: bool) -> float:
    """When, seconds monotonic."""
    try:
        async with asyncio.timeout(ARRIVES):
            while True:
                write = await plant.writes.get()
                if (write["device"], write["value"]) == (motor, value):
                    return float(write["at"]) / 1e9
    except TimeoutError:
        raise Broken(f"run = {value} never came to m{motor}") from None


async def inserted(client: httpx.AsyncClient) -> float:
    """Samples that the engine has taken."""
    found = INSERTED.search((await client.get("/metrics")).text)
    return float(found[1]) if found else 0.0


async def measured(load: Load, changes: int, samples: int) -> dict[str, dict[str, float]]:
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with open_outbox(folder / "run", sinks={"prometheus": 0}) as outbox:
            await fill(outbox, samples)
        async with (
            generator(load) as plant,
            engine(name, port) as historian,
            hub_running(folder) as hub,
        ):
            await put(hub, (edge_node(), *resources_of(load, plant)))
            async with edge_under(folder, hub):
                await all_connected(hub, load.devices)
                await asyncio.sleep(5)
                changes -= changes % (2 * ARMED)  # so that all coils are on again afterwards
                quiet = await desired(hub, plant, changes)
                telemetry = {"prometheus": {"url": f"http://127.0.0.1:{port}/api/v1/write"}}
                patch = {"spec": {"telemetry": telemetry}}
                asked = await hub.patch(f"{BASE}/edgenodes/{NODE}", json=patch, headers=MERGE)
                asked.raise_for_status()

                async def began() -> bool:
                    return await inserted(historian) > 0

                await until(began, "the first samples at the engine")
                before, at = await inserted(historian), time.monotonic()
                flood = await desired(hub, plant, changes)
                told = await inserted(historian)
    if told >= samples:
        raise Broken("the outage was told before the changes were; give more --samples")
    flood["told_per_s"] = (told - before) / (time.monotonic() - at)
    return {"quiet": quiet, "flood": flood}


async def hub_flood(load: Load, changes: int, samples: int, *, as_json: bool) -> None:
    rows = await measured(load, changes, samples)
    rows["ratio"] = {
        name: rows["flood"][name] / rows["quiet"][name] for name in ("p50_ms", "p99_ms")
    }
    show("desired at the hub -> written at the machine", rows, as_json=as_json)


if __name__ == "__main__":
    given = arguments(__doc__, devices=1000, changes=200, samples=2_000_000).parse_args()
    finish(hub_flood(load_of(given.devices), given.changes, given.samples, as_json=given.json))
