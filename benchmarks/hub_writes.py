"""How many statuses a second `twinbridge hub` takes: server-side apply, 20 twins each.

`--edges` connections with tokens of their own, each keeping one request in flight, apply the
status of their Devices in turn, every value new each time. The floor is asked in the same way: the
same web server, which only parses the body and commits a row. Ends with exit code 1 when a write
is refused, or when what the hub holds in the end is not what was written last.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import orjson
from rig import (
    HERE,
    TWINBRIDGE,
    Broken,
    arguments,
    cpu_seconds,
    finish,
    free_port,
    process,
    resident_mib,
    show,
)

API = "devices.twinbridge.io/v1alpha1"
BASE = f"/apis/{API}/namespaces/default"
TWINS = 20
ADMIN = "admin-of-the-bench-0000"
PATIENCE = 60.0
LENGTH = re.compile(rb"(?i)content-length: *(\d+)")
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


def token(edge: int) -> str:
    return f"token-of-edge-{edge:08}"


def device(number: int, edge: int) -> dict[str, Any]:
    connection = {"host": "10.0.0.1", "port": 502, "unit": number % 240 + 1}
    return {
        "apiVersion": API,
        "kind": "Device",
        "metadata": {"name": f"box-{number}"},
        "spec": {
            "modelRef": {"name": "box"},
            "nodeName": f"edge-{edge}",
            "connection": {"modbus": connection},
        },
    }


def status(number: int, turn: int) -> bytes:
    """As an edge writes it."""
    at = f"2026-02-03T08:{turn // 60 % 60:02}:{turn % 60:02}.{turn % 1000:03}Z"
    since = "2026-02-03T08:00:00Z"
    conditions = [
        {
            "type": kind,
            "status": said,
            "reason": "AsDesired",
            "message": "",
            "lastTransitionTime": since,
            "observedGeneration": 1,
        }
        for kind, said in (
            ("Accepted", "True"),
            ("Connected", "True"),
            ("Synced", "True"),
            ("Tripped", "False"),
        )
    ]
    twins = [
        {
            "name": f"value-{n}",
            "reported": {"quality": "good", "value": turn * 100 + n, "timestamp": at},
        }
        for n in range(TWINS)
    ]
    written = {
        "observedGeneration": 1,
        "conditions": conditions,
        "twins": twins,
        "lastContact": at,
    }
    return orjson.dumps(
        {
            "apiVersion": API,
            "kind": "Device",
            "metadata": {"name": f"box-{number}", "namespace": "default"},
            "status": written,
        }
    )


@dataclass
class Edge:
    """One connection that applies the statuses of its Devices, one after the other."""

    number: int
    port: int
    devices: Sequence[int]
    turn: int = 0
    applied: int = 0

    async def run(self, until: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for turn in count(self.turn + 1):
                self.turn = turn
                for number in self.devices:
                    await self._apply(reader, writer, number)
                if time.monotonic() >= until:
                    return
        finally:
            writer.close()

    async def _apply(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        body = status(number, self.turn)
        writer.write(
            f"PATCH {BASE}/devices/box-{number}/status"
            f"?fieldManager=twinbridge/edge-{self.number}&force=false HTTP/1.1\r\n"
            f"Host: 127.0.0.1\r\nAuthorization: Bearer {token(self.number)}\r\n"
            f"Accept: {METADATA}\r\nContent-Type: application/apply-patch+yaml\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head[:16]:
            raise Broken(f"box-{number} was refused: {head.decode()}")
        length = LENGTH.search(head)
        assert length
        await reader.readexactly(int(length[1]))
        self.applied += 1


async def measured(pid: int, edges: Sequence[Edge], seconds: float) -> dict[str, float]:
    """After a first round of all, which says what the statuses are made of."""
    await _all(edges, 0)
    for edge in edges:
        edge.applied = 0
    began, before = time.monotonic(), cpu_seconds(pid)
    await _all(edges, began + seconds)
    applied, lasted = sum(edge.applied for edge in edges), time.monotonic() - began
    return {
        "applies_per_s": applied / lasted,
        "cpu_ms": (cpu_seconds(pid) - before) / applied * 1000,
        "core": (cpu_seconds(pid) - before) / lasted,
        "resident_mib": resident_mib(pid),
    }


async def _all(edges: Sequence[Edge], until: float) -> None:
    async with asyncio.TaskGroup() as tasks:
        for edge in edges:
            tasks.create_task(edge.run(until), name=f"edge {edge.number}")


def edges_of(port: int, devices: int, edges: int) -> list[Edge]:
    return [Edge(n, port, range(n, devices, edges)) for n in range(edges)]


async def _ready(api: httpx.AsyncClient) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            await api.get("/readyz")
        except httpx.TransportError:
            await asyncio.sleep(0.05)
        else:
            return
    raise Broken("the server never answered")


async def with_floor(folder: Path, devices: int, edges: int, seconds: float) -> dict[str, float]:
    port = free_port()
    command = [sys.executable, HERE / "hub_writes_floor.py", port, folder / "floor.db"]
    async with process(*command) as child, httpx.AsyncClient() as api:
        api.base_url = httpx.URL(f"http://127.0.0.1:{port}")
        await _ready(api)
        return await measured(child.pid, edges_of(port, devices, edges), seconds)


async def with_hub(folder: Path, devices: int, edges: int, seconds: float) -> dict[str, float]:
    port, tokens = free_port(), folder / "tokens"
    lines = [f"{ADMIN},admin,admin"]
    lines += [f"{token(n)},edge-{n}-agent,edge,edge-{n}" for n in range(edges)]
    tokens.write_text("\n".join(lines), encoding="ascii")
    tokens.chmod(0o600)
    command = [TWINBRIDGE, "hub", "--listen", f"127.0.0.1:{port}", "--token-file", tokens]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    bearer = {"Authorization": f"Bearer {ADMIN}"}
    async with (
        process(*command, "--state-dir", folder / "hub", **quiet) as child,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=bearer) as api,
    ):
        await _ready(api)
        for number in range(devices):
            made = await api.post(f"{BASE}/devices", json=device(number, number % edges))
            made.raise_for_status()
        running = edges_of(port, devices, edges)
        figures = await measured(child.pid, running, seconds)
        await _check(api, running)
        return figures


async def _check(api: httpx.AsyncClient, edges: Sequence[Edge]) -> None:
    """That the hub holds what was written last."""
    found = {d["metadata"]["name"]: d for d in (await api.get(f"{BASE}/devices")).json()["items"]}
    for edge in edges:
        for number in edge.devices:
            twins = found[f"box-{number}"]["status"]["twins"]
            wrong = [
                t for n, t in enumerate(twins) if t["reported"]["value"] != edge.turn * 100 + n
            ]
            if wrong or len(twins) != TWINS:
                raise Broken(f"box-{number} is not as it was written last: {wrong[:1]}")


async def hub_writes(devices: int, edges: int, seconds: float, *, as_json: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = {"floor": await with_floor(folder, devices, edges, seconds)}
        rows["twinbridge"] = await with_hub(folder, devices, edges, seconds)
    ours, bare = rows["twinbridge"], rows["floor"]
    rows["ratio"] = {name: ours[name] / bare[name] for name in ("applies_per_s", "cpu_ms")}
    show("statuses of 20 twins at the hub", rows, as_json=as_json)


if __name__ == "__main__":
    given = arguments(__doc__, devices=1000, edges=50, seconds=10.0).parse_args()
    finish(hub_writes(given.devices, given.edges, given.seconds, as_json=given.json))
