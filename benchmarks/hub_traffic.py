"""What an edge sends to its hub, and hears from it, beside streaming every sample as JSON.

1,000 Devices of 20 properties, polled every 500 ms, of which a tenth changes each time, under
`twinbridge run --hub`; in front of `twinbridge hub` a hop that counts every byte, both ways, with
headers. The floor is what the same readings would be, each as a JSON object of its own, without
any framing. Statuses are counted at the hub, by a watch. Ends with exit code 1 when a Device is
written more often than every 10 s.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
from definitions import definitions
from hub import API, BASE, until
from load import Load
from rig import NODE, TWINBRIDGE, Broken, arguments, finish, free_port, generator, process, show
from yaml import CSafeLoader, load_all

PROPERTIES = 20
INTERVAL = 500
"""Milliseconds between polls."""
CYCLE = 10.0
"""Seconds: no Device is written more often."""
PLURALS = {"Device": "devices", "DeviceModel": "devicemodels", "EdgeNode": "edgenodes"}
SAMPLE = {
    "device": "m500",
    "property": "r10",
    "value": 12345,
    "quality": "good",
    "timestamp": "2026-01-01T00:00:00.000000Z",
}


class Hop:
    """A TCP proxy that counts."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.up = self.down = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pass(reader, back, up=True))
            tasks.create_task(self._pass(there, writer, up=False))

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool
    ) -> None:
        with suppress(ConnectionError):
            while chunk := await reader.read(65_536):
                if up:
                    self.up += len(chunk)
                else:
                    self.down += len(chunk)
                writer.write(chunk)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def hop(target: int) -> AsyncIterator[tuple[Hop, int]]:
    """The hop, and the port at which it listens."""
    counting = Hop(target)
    server = await asyncio.start_server(counting.serve, "127.0.0.1", 0)
    try:
        yield counting, server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def fill(api: httpx.AsyncClient, load: Load, ports: Sequence[int]) -> None:
    node = {"apiVersion": API, "kind": "EdgeNode", "metadata": {"name": NODE}, "spec": {}}
    text = definitions(load, ports, (), node=NODE)
    for resource in (node, *load_all(text, CSafeLoader)):
        path = f"{BASE}/{PLURALS[resource['kind']]}"
        (await api.post(path, json=resource)).raise_for_status()


async def written(base: str, seconds: float) -> Counter[str]:
    """How often each Device was written at the hub in so many seconds."""
    counted: Counter[str] = Counter()
    query = {"watch": "true", "timeoutSeconds": str(round(seconds))}
    async with httpx.AsyncClient(base_url=base, timeout=None) as api:
        found = (await api.get(f"{BASE}/devices", params={"limit": "1"})).json()
        query["resourceVersion"] = found["metadata"]["resourceVersion"]
        async with api.stream("GET", f"{BASE}/devices", params=query) as answer:
            async for line in answer.aiter_lines():
                counted[json.loads(line)["object"]["metadata"]["name"]] += 1
    return counted


async def measured(devices: int, seconds: float) -> dict[str, float]:
    load = Load(devices, PROPERTIES, INTERVAL, units_per_port=240)
    port = free_port()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with tempfile.TemporaryDirectory() as folder:
        hub = ["hub", "--listen", f"127.0.0.1:{port}", "--state-dir", str(Path(folder, "hub"))]
        base = f"http://127.0.0.1:{port}"
        async with (
            generator(load) as plant,
            process(TWINBRIDGE, *hub, **quiet),
            httpx.AsyncClient(base_url=base, timeout=30) as api,
            hop(port) as (counting, way),
        ):
            await until(lambda: _answers(api), "the hub")
            await fill(api, load, plant.ports)
            edge = ["run", "--hub", f"http://127.0.0.1:{way}", "--node", NODE]
            edge += ["--state-dir", str(Path(folder, "edge")), "--api", f"127.0.0.1:{free_port()}"]
            async with process(TWINBRIDGE, *edge, **quiet):
                await until(lambda: _connected(api, devices), "every device connected")
                await asyncio.sleep(10)
                up, down = counting.up, counting.down
                counts = await written(base, seconds)
                up, down = counting.up - up, counting.down - down
    if most := [name for name, n in counts.items() if n > seconds / CYCLE + 1]:
        raise Broken(f"{len(most)} Devices were written more often than every {CYCLE:g} s")
    streamed = devices * PROPERTIES * 1000 / INTERVAL * len(json.dumps(SAMPLE))
    writes = sum(counts.values())
    return {
        "devices": devices,
        "writes_per_s": writes / seconds,
        "up_kb_per_s": up / seconds / 1000,
        "down_kb_per_s": down / seconds / 1000,
        "bytes_per_write": (up + down) / max(1, writes),
        "stream_kb_per_s": streamed / 1000,
        "percent": 100 * (up + down) / seconds / streamed,
    }


async def _answers(api: httpx.AsyncClient) -> bool:
    try:
        return (await api.get("/readyz")).is_success
    except httpx.TransportError:
        return False


async def _connected(api: httpx.AsyncClient, devices: int) -> bool:
    found = (await api.get(f"{BASE}/devices")).json()["items"]
    connected = sum(
        one["type"] == "Connected" and one["status"] == "True"
        for item in found
        for one in item.get("status", {}).get("conditions", ())
    )
    return bool(connected == devices)


async def traffic(devices: int, seconds: float, *, as_json: bool) -> None:
    figures = await measured(devices, seconds)
    show("what an edge says to its hub", {"twinbridge": figures}, as_json=as_json)


if __name__ == "__main__":
    given = arguments(__doc__, devices=1000, seconds=60.0).parse_args()
    finish(traffic(given.devices, given.seconds, as_json=given.json))
