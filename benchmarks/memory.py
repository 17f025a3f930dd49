"""Resident memory of each role with 100 devices, beside a Python that imports the same libraries.

Real processes: machines, mosquitto, a driver pod and the agent, then `twinbridge run`. `rss` is
what the process holds, `pss` counts what it shares with others by its share. The floor of a role
imports the libraries that the role stands on, and waits.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import yaml
from definitions import VERSION, definitions
from load import Load
from rig import (
    NODE,
    START_LIMIT,
    TWINBRIDGE,
    Broken,
    arguments,
    finish,
    free_port,
    generator,
    process,
    show,
)

COMMON = "asyncio, uvloop, orjson, pydantic, structlog, prometheus_client, typer, sqlite3, yaml"
PODS = f"{COMMON}, paho.mqtt.client"
FLOORS = {
    "driver modbus": f"{PODS}, pymodbus.client",
    "driver opcua": f"{PODS}, asyncua",
    "driver mqtt": PODS,
    "agent": f"{PODS}, fastapi, uvicorn",
    "run": f"{COMMON}, fastapi, uvicorn, pymodbus.client",
}
DEVICES = 100


def memory(pid: int) -> dict[str, float]:
    """MiB now."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) / 1024
    return {"rss_mib": found["Rss"], "pss_mib": found["Pss"], "private_mib": _private(found)}


def _private(found: Mapping[str, float]) -> float:
    return found["Private_Clean"] + found["Private_Dirty"]


async def floor(imports: str) -> float:
    """MiB of a Python that has imported them."""
    script = f"import {imports}, sys; print(flush=True); sys.stdin.read()"
    pipe = asyncio.subprocess.PIPE
    async with process(sys.executable, "-c", script, stdin=pipe, stdout=pipe) as child:
        assert child.stdout is not None
        await asyncio.wait_for(child.stdout.readline(), START_LIMIT)
        return memory(child.pid)["rss_mib"]


@asynccontextmanager
async def broker(folder: Path) -> AsyncIterator[tuple[str, int]]:
    """A mosquitto's URL and process."""
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        raise Broken("mosquitto is not installed")
    port = free_port()
    configuration = folder / "mosquitto.conf"
    configuration.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    log = (folder / "mosquitto.log").open("wb")
    with log:
        async with process(program, "-c", configuration, stdout=log, stderr=log) as child:
            yield f"mqtt://127.0.0.1:{port}", child.pid


def simulated(protocol: str) -> str:
    """Devices of ten properties whose machines `twinbridge simulate` plays."""
    port = free_port()
    where: dict[str, Any] = {
        "opcua": {"url": f"opc.tcp://127.0.0.1:{port}", "allowInsecure": True},
        "mqtt": {"url": f"mqtt://127.0.0.1:{port}", "maxAge": "60s"},
    }
    address: dict[str, Any] = {
        "opcua": lambda n: {"node": f"nsu=urn:bench;s=v{n}"},
        "mqtt": lambda n: {"topic": "plant/{device}", "pointer": f"/v{n}"},
    }
    properties = [
        {"name": f"v{n}", "type": "float", protocol: address[protocol](n)} for n in range(10)
    ]
    device = {
        "modelRef": {"name": "meter"},
        "nodeName": NODE,
        "connection": {protocol: where[protocol]},
    }
    return yaml.safe_dump_all(
        [
            resource("DeviceModel", "meter", {"properties": properties}),
            *(resource("Device", f"m{number}", device) for number in range(DEVICES)),
        ]
    )


def write(resources: Path, text: str) -> None:
    resources.write_text(text)


def resource(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": VERSION, "kind": kind, "metadata": {"name": name}, "spec": dict(spec)}


@asynccontextmanager
async def machines(protocol: str, resources: Path) -> AsyncIterator[None]:
    """Simulated devices, and in `resources` what describes them."""
    if protocol == "modbus":
        load = Load(devices=DEVICES, registers=50, interval=500, armed=10)
        async with generator(load) as plant:
            write(resources, definitions(load, plant.ports, plant.dead, node=NODE))
            yield
        return
    write(resources, simulated(protocol))
    command = [TWINBRIDGE, "simulate", "-f", resources]
    async with process(*command, stdout=asyncio.subprocess.PIPE) as child:
        assert child.stdout is not None
        async with asyncio.timeout(START_LIMIT):
            while b"ready" not in (line := await child.stdout.readline()):
                if not line:
                    raise Broken("twinbridge simulate has ended")
        yield


@asynccontextmanager
async def role(folder: Path, *words: object) -> AsyncIterator[int]:
    """A `twinbridge` command's process id; it must still run at the end."""
    log = folder / f"{words[0]}.log"
    state = ("--state-dir", folder / str(words[0]), "--node", NODE)
    with log.open("wb") as out:
        async with process(TWINBRIDGE, *words, *state, stdout=out, stderr=out) as child:
            with suppress(FileNotFoundError):  # of a process that is no more
                yield child.pid
            if child.returncode is not None:
                raise Broken(f"twinbridge {words[0]} ended:\n{log.read_text()[-2000:]}")


async def until_connected(api: str) -> None:
    """Every device is, as the twins' process sees it."""
    end = time.monotonic() + START_LIMIT
    async with httpx.AsyncClient(base_url=f"http://{api}", timeout=10) as http:
        while time.monotonic() < end:
            with suppress(httpx.TransportError):
                devices = (await http.get("/readyz")).json()["devices"]
                if devices["connected"] == DEVICES:
                    return
            await asyncio.sleep(0.1)
    raise Broken(f"not every device is connected in {START_LIMIT:.0f} s")


async def as_pods(protocol: str, seconds: float) -> dict[str, dict[str, float]]:
    """Of a driver and its agent, and of the broker between them."""
    with tempfile.TemporaryDirectory(prefix="twinbridge-bench-") as place:
        folder, api = Path(place), f"127.0.0.1:{free_port()}"
        resources, probes = folder / "plant.yaml", f"127.0.0.1:{free_port()}"
        async with (
            machines(protocol, resources),
            broker(folder) as (url, mosquitto),
            role(folder, "agent", "-f", resources, "--bus", url, "--api", api) as agent,
            role(folder, "driver", protocol, "--bus", url, "--probes", probes) as driver,
        ):
            await until_connected(api)
            await asyncio.sleep(seconds)
            found = {f"driver {protocol}": memory(driver)}
            if protocol == "modbus":
                found |= {"agent": memory(agent), "mosquitto": memory(mosquitto)}
            return found


async def in_one(seconds: float) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory(prefix="twinbridge-bench-") as place:
        folder, api = Path(place), f"127.0.0.1:{free_port()}"
        resources = folder / "plant.yaml"
        async with (
            machines("modbus", resources),
            role(folder, "run", "-f", resources, "--api", api) as pid,
        ):
            await until_connected(api)
            await asyncio.sleep(seconds)
            return {"run": memory(pid)}


async def measure(seconds: float, *, as_json: bool) -> None:
    found: dict[str, dict[str, float]] = {}
    for protocol in ("modbus", "mqtt", "opcua"):
        found |= await as_pods(protocol, seconds)
    found |= await in_one(seconds)
    for name, imports in FLOORS.items():
        found[name]["floor_mib"] = await floor(imports)
        found[name]["ratio"] = found[name]["rss_mib"] / found[name]["floor_mib"]
    show("memory", found, as_json=as_json)


if __name__ == "__main__":
    options = arguments(__doc__, seconds=20.0).parse_args()
    finish(measure(options.seconds, as_json=options.json))
