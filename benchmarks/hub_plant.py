"""What benchmarks of the hub stand on: `twinbridge hub`, resources at it, an edge under it."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from definitions import VERSION, definitions
from load import Load
from rig import (
    NODE,
    TWINBRIDGE,
    Broken,
    Generator,
    TwinBridge,
    free_port,
    process,
    twinbridge_role,
)
from yaml import CSafeLoader, load_all

BASE = f"/apis/{VERSION}/namespaces/default"
MERGE = {"Content-Type": "application/merge-patch+json"}
PATIENCE = 120.0
_PLURALS = {
    "Device": "devices",
    "DeviceModel": "devicemodels",
    "Rule": "rules",
    "EdgeNode": "edgenodes",
}
Resource = dict[str, Any]


async def until(holds: Callable[[], Awaitable[bool]], what: str) -> float:
    """Seconds until it is so."""
    began = time.monotonic()
    while not await holds():
        if time.monotonic() - began > PATIENCE:
            raise Broken(f"never came: {what}")
        await asyncio.sleep(0.05)
    return time.monotonic() - began


@asynccontextmanager
async def hub_running(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a hub that is ready; its `base_url` is where edges find it."""
    listen = f"127.0.0.1:{free_port()}"
    command = [TWINBRIDGE, "hub", "--listen", listen, "--state-dir", folder / "hub"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    async with (
        process(*command, **quiet),
        httpx.AsyncClient(base_url=f"http://{listen}", timeout=30) as api,
    ):

        async def answers() -> bool:
            try:
                return (await api.get("/readyz")).is_success
            except httpx.TransportError:
                return False

        await until(answers, "the hub")
        yield api


async def put(api: httpx.AsyncClient, resources: Iterable[Resource]) -> None:
    for one in resources:
        (await api.post(f"{BASE}/{_PLURALS[one['kind']]}", json=one)).raise_for_status()


def edge_node(**spec: object) -> Resource:
    return {"apiVersion": VERSION, "kind": "EdgeNode", "metadata": {"name": NODE}, "spec": spec}


def resources_of(load: Load, plant: Generator) -> Iterable[Resource]:
    """Of the load generator's machines."""
    text = definitions(load, plant.ports, plant.dead, node=NODE)
    yield from load_all(text, CSafeLoader)


def edge_under(folder: Path, hub: httpx.AsyncClient) -> AbstractAsyncContextManager[TwinBridge]:
    """`twinbridge run` of node NODE."""
    url = str(hub.base_url).rstrip("/")
    return twinbridge_role(folder, "run", "--hub", url, listen="--api")


async def all_connected(api: httpx.AsyncClient, devices: int) -> None:
    """As the hub shows it."""

    async def seen() -> bool:
        items = (await api.get(f"{BASE}/devices")).json()["items"]
        return devices == sum(is_so(item, "Connected") for item in items)

    await until(seen, f"{devices} devices connected")


def is_so(resource: Resource, condition: str) -> bool:
    found = resource.get("status", {}).get("conditions", ())
    return any(one["type"] == condition and one["status"] == "True" for one in found)
