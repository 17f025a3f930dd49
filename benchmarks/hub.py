"""An edge under a hub: first sync, steady state, and how long a desired value takes.

`--devices` Devices of 20 properties at `twinbridge hub`, simulated by one Modbus server, served by
`twinbridge run --hub`. Then one property is desired again and again, at the hub, and seen at the
machine; a bare client that asks the hub for the same object is the floor. Ends with exit code 1
when a value does not arrive.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
from rig import TWINBRIDGE, Broken, arguments, finish, free_port, process, show

from twinbridge_simulators.modbus_server import ModbusServer
from twinbridge_simulators.registers import RegisterBank, Table

API = "devices.twinbridge.io/v1alpha1"
BASE = f"/apis/{API}/namespaces/default"
PROPERTIES = 20
PATIENCE = 120.0


def model() -> dict[str, Any]:
    properties = [
        {
            "name": f"value-{n}",
            "type": "int",
            "access": "ReadWrite",
            "modbus": {"table": "holding", "address": n, "encoding": "uint16"},
        }
        for n in range(PROPERTIES)
    ]
    return {
        "apiVersion": API,
        "kind": "DeviceModel",
        "metadata": {"name": "box"},
        "spec": {"properties": properties},
    }


def device(number: int, port: int) -> dict[str, Any]:
    connection = {"host": "127.0.0.1", "port": port, "unit": number % 240 + 1}
    return {
        "apiVersion": API,
        "kind": "Device",
        "metadata": {"name": f"box-{number}"},
        "spec": {
            "modelRef": {"name": "box"},
            "nodeName": "edge-1",
            "connection": {"modbus": connection},
            "poll": {"interval": "5s" if number else "50ms"},
        },
    }


async def until(seen: Any, what: str) -> float:
    """Seconds until it is so."""
    began = time.monotonic()
    while not await seen():
        if time.monotonic() - began > PATIENCE:
            raise Broken(f"never came: {what}")
        await asyncio.sleep(0.05)
    return time.monotonic() - began


async def measured(devices: int, changes: int) -> dict[str, float]:
    banks = {unit: RegisterBank() for unit in range(1, 241)}
    for bank in banks.values():
        bank.define(Table.HOLDING, 0, PROPERTIES)
    with tempfile.TemporaryDirectory() as folder:
        async with ModbusServer("127.0.0.1", 0, banks) as server:
            return await _with_hub(Path(folder), banks[1], server.port, devices, changes)


async def _with_hub(
    folder: Path, bank: RegisterBank, machine: int, devices: int, changes: int
) -> dict[str, float]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    hub = ["hub", "--listen", f"127.0.0.1:{port}", "--state-dir", str(folder / "hub")]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    async with process(TWINBRIDGE, *hub, **quiet), httpx.AsyncClient(base_url=url) as api:
        await until(lambda: _answers(api), "the hub")
        await api.post(f"{BASE}/devicemodels", json=model())
        for number in range(devices):
            (await api.post(f"{BASE}/devices", json=device(number, machine))).raise_for_status()
        edge = ["run", "--hub", url, "--node", "edge-1", "--state-dir", str(folder / "edge")]
        edge += ["--api", f"127.0.0.1:{free_port()}"]
        async with process(TWINBRIDGE, *edge, **quiet) as running:
            first = await until(lambda: _connected(api, devices), "every device connected")
            floor, delays = await _desired(api, bank, changes)
            return {
                "devices": devices,
                "first_sync_s": first,
                "floor_p50_ms": floor,
                "p50_ms": median(delays),
                "p99_ms": quantiles(delays, n=100)[98],
                "ratio": median(delays) / floor,
                "edge_mib": _resident(running.pid),
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


async def _desired(
    api: httpx.AsyncClient, bank: RegisterBank, changes: int
) -> tuple[float, list[float]]:
    """Milliseconds: a read of the object, and from the patch sent to the machine written."""
    reads, delays = [], []
    path = f"{BASE}/devices/box-0"
    merge = {"Content-Type": "application/merge-patch+json"}
    for value in range(1, changes + 1):
        began = time.perf_counter()
        await api.get(path)
        reads.append((time.perf_counter() - began) * 1000)
        patch = {"spec": {"desired": [{"name": "value-0", "value": value}]}}
        began = time.perf_counter()
        asked = asyncio.create_task(api.patch(path, json=patch, headers=merge))
        while bank.get(Table.HOLDING, 0)[0] != value:
            if time.perf_counter() - began > PATIENCE:
                raise Broken(f"value {value} never came to the machine")
            await asyncio.sleep(0.0005)
        delays.append((time.perf_counter() - began) * 1000)
        (await asked).raise_for_status()
        await asyncio.sleep(1.1)  # the property's own limit is one write a second
    return median(reads), delays


def _resident(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def hub(devices: int, changes: int, *, as_json: bool) -> None:
    figures = await measured(devices, changes)
    show("an edge under a hub", {"twinbridge": figures}, as_json=as_json)


if __name__ == "__main__":
    given = arguments(__doc__, devices=1000, changes=50).parse_args()
    finish(hub(given.devices, given.changes, as_json=given.json))
