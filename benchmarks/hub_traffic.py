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
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
from hub_plant import BASE, all_connected, edge_node, edge_under, hub_running, put, resources_of
from load import Load
from rig import Broken, arguments, finish, generator, show

PROPERTIES = 20
INTERVAL = 500
"""Milliseconds between polls."""
SETTLING = 70.0
"""Seconds: of the cap and of the bytes a minute's worth is saved up at first."""
CYCLE = 10.0
"""Seconds: no Device is written more often."""
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
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with generator(load) as plant, hub_running(folder) as api:
            await put(api, (edge_node(), *resources_of(load, plant)))
            port = api.base_url.port
            async with (
                hop(port or 0) as (counting, way),
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{way}") as past_the_hop,
                edge_under(folder, past_the_hop),
            ):
                await all_connected(api, devices)
                await asyncio.sleep(SETTLING)
                up, down = counting.up, counting.down
                counts = await written(str(api.base_url), seconds)
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


async def traffic(devices: int, seconds: float, *, as_json: bool) -> None:
    figures = await measured(devices, seconds)
    show("what an edge says to its hub", {"twinbridge": figures}, as_json=as_json)


if __name__ == "__main__":
    given = arguments(__doc__, devices=1000, seconds=60.0).parse_args()
    finish(traffic(given.devices, given.seconds, as_json=given.json))
