"""Links that are cut again and again, on three protocols at once: recovery, and what grows.

The machines of the examples (a motor behind Modbus, a boiler behind OPC UA, a leak sensor, a fan
and a meter behind MQTT) are simulated; a proxy stands before each port. A cut is refused
connections one time, a pulled cable (open sockets, no bytes) the next. It counts as over when
every device is connected and every value good. Ends with exit code 1 when a recovery is missing.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from rig import (
    TWINBRIDGE,
    Broken,
    TwinBridge,
    arguments,
    finish,
    free_port,
    process,
    resident_mib,
    show,
    twinbridge_over,
)

from twinbridge.testing.proxy import FaultProxy

EXAMPLES = Path(__file__).parents[1] / "examples"
FOLDERS = ("tesys-motor", "boiler", "leak-and-fan")
PORTS = {"modbus": 5020, "opcua": 4840, "mqtt": 18830}
RECOVERY_LIMIT = 30.0
LOSS_LIMIT = 30.0


def resources() -> list[str]:
    files = [f for name in FOLDERS for f in sorted((EXAMPLES / name).glob("*.yaml"))]
    return [f.read_text() for f in files if not f.name.endswith(".test.yaml")]


def at_ports(texts: Sequence[str], ports: dict[str, int]) -> str:
    """The examples with other ports, for the simulation or for those who come by the proxies."""
    whole = "\n---\n".join(texts).replace("nodeName: edge-1", "nodeName: bench")
    for protocol, port in PORTS.items():
        whole = whole.replace(f"port: {port}", f"port: {ports[protocol]}")
        whole = whole.replace(f":{port}", f":{ports[protocol]}")
    return whole


@asynccontextmanager
async def machines(folder: Path) -> AsyncIterator[dict[str, FaultProxy]]:
    """Simulated, each protocol behind a proxy."""
    real = {protocol: free_port() for protocol in PORTS}
    file = folder / "simulated.yaml"
    file.write_text(at_ports(resources(), real))
    command = (TWINBRIDGE, "simulate", "-f", file)
    async with AsyncExitStack() as open_:
        child = await open_.enter_async_context(process(*command, stdout=asyncio.subprocess.PIPE))
        assert child.stdout is not None
        while (line := await asyncio.wait_for(child.stdout.readline(), 30)).strip() != b"ready":
            if not line:
                raise Broken("the simulation has ended by itself")
        yield {
            protocol: await open_.enter_async_context(FaultProxy("127.0.0.1", port))
            for protocol, port in real.items()
        }


class Watch:
    """What the running edge says and takes."""

    def __init__(self, ours: TwinBridge) -> None:
        self.ours = ours

    async def devices(self) -> list[dict[str, object]]:
        answer = await self.ours.api.get("/api/v1/devices")
        items: list[dict[str, object]] = answer.json()["items"]
        return items

    async def until(self, seen: str, limit: float) -> float:
        """Seconds until all devices are `lost` or `well`."""
        begun = time.monotonic()
        while time.monotonic() < begun + limit:
            devices = await self.devices()
            if seen == "lost" and not any(d["connected"] for d in devices):
                return time.monotonic() - begun
            if seen == "well" and all(map(well, devices)):
                return time.monotonic() - begun
            await asyncio.sleep(0.05)
        raise Broken(f"not all devices are {seen} after {limit:.0f} s: {await self.devices()}")

    def sockets(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.ours.child.pid}/fd").iterdir())

    def threads(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.ours.child.pid}/task").iterdir())


def well(device: dict[str, object]) -> bool:
    """Connected, and every value that is read is good."""
    properties = device["properties"]
    assert isinstance(properties, dict)
    told = [p["reported"] for p in properties.values() if p["access"] != "WriteOnly"]
    return bool(device["connected"]) and all(r and r["quality"] == "good" for r in told)


async def outages(times: int, outage: float, calm: float, *, as_json: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="twinbridge-bench-") as folder:
        rows = await cut_often(Path(folder), times, outage, calm)
    show(f"outages of {outage:.0f} s", rows, as_json=as_json)


async def cut_often(
    folder: Path, times: int, outage: float, calm: float
) -> dict[str, dict[str, float]]:
    rows: dict[str, dict[str, float]] = {}
    async with machines(folder) as proxies:
        ports = {protocol: proxy.port for protocol, proxy in proxies.items()}
        async with twinbridge_over(at_ports(resources(), ports)) as ours:
            watch = Watch(ours)
            await watch.until("well", 60)
            for number in range(times):
                pulled = number % 2 == 1
                for proxy in proxies.values():
                    if pulled:
                        proxy.faults.half_open = True
                    else:
                        proxy.refuse()
                        proxy.cut()
                lost = await watch.until("lost", LOSS_LIMIT)
                await asyncio.sleep(max(0.0, outage - lost))
                for proxy in proxies.values():
                    proxy.faults.half_open = False
                    if not pulled:
                        await proxy.listen()
                recovered = await watch.until("well", RECOVERY_LIMIT)
                await asyncio.sleep(calm)
                rows[f"cut {number + 1}"] = {
                    "lost_after_s": lost,
                    "well_after_s": recovered,
                    "resident_mib": resident_mib(ours.child.pid),
                    "open_files": watch.sockets(),
                    "threads": watch.threads(),
                }
    return rows


if __name__ == "__main__":
    options = arguments(__doc__, times=20, outage=60.0, calm=2.0).parse_args()
    finish(outages(options.times, options.outage, options.calm, as_json=options.json))
