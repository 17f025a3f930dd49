"""The plant load and its trips in one process, and the same as pods around a broker.

100 devices of 50 registers every 500 ms: first under `twinbridge run`, then by `twinbridge driver
modbus`, mosquitto and `twinbridge agent`, over the same machines and by turns, so that what else
the computer does meets both. Then trips, as `trip.py` makes them, in both forms.
Ends with exit code 1 when a trip is missed, or a stop is written that nothing asked for.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from definitions import definitions
from load import Load
from rig import (
    NODE,
    START_LIMIT,
    Broken,
    Generator,
    TwinBridge,
    arguments,
    cost,
    finish,
    free_port,
    generator,
    process,
    quantile,
    show,
    twinbridge,
    twinbridge_role,
)
from trip import Heating, reset_over, trips_of_twinbridge

HOP = "twinbridge_bus_hop_seconds"
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Pods:
    """The processes of one edge node."""

    broker: asyncio.subprocess.Process
    agent: TwinBridge
    driver: TwinBridge

    async def until_connected(self, devices: int) -> None:
        """Every device is, as the twins show it."""
        end = time.monotonic() + START_LIMIT
        while time.monotonic() < end:
            health = (await self.agent.api.get("/readyz")).json()
            if health["devices"]["connected"] == devices:
                return
            await asyncio.sleep(0.05)
        raise Broken(f"not every device is connected in {START_LIMIT:.0f} s")


@asynccontextmanager
async def mosquitto(folder: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A broker that takes anybody on 127.0.0.1, and its URL."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        raise Broken("mosquitto is not installed")
    port = free_port()
    settings = folder / "mosquitto.conf"
    settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    with (folder / "mosquitto.log").open("wb") as out:
        async with process(program, "-c", settings, stdout=out, stderr=out) as child:
            yield child, f"mqtt://127.0.0.1:{port}"


@asynccontextmanager
async def pods(load: Load, plant: Generator) -> AsyncIterator[Pods]:
    """Agent, driver and broker over the definitions of `load`, with every device connected."""
    with tempfile.TemporaryDirectory(prefix="twinbridge-bench-") as folder:
        place = Path(folder)
        resources = place / "plant.yaml"
        resources.write_text(definitions(load, plant.ports, plant.dead, node=NODE))
        async with (
            mosquitto(place) as (broker, url),
            twinbridge_role(place, "agent", "-f", resources, "--bus", url, listen="--api") as agent,
            twinbridge_role(place, "driver", "modbus", "--bus", url, listen="--probes") as driver,
        ):
            running = Pods(broker, agent, driver)
            await running.until_connected(load.devices)
            yield running


async def cost_of_pods(running: Pods, load: Load, seconds: float) -> dict[str, Figures]:
    """Of each process over the same window, with the way from driver to twin in it."""
    before, served = await running.agent.metrics(), await running.driver.counts()
    children = {
        "driver": running.driver.child.pid,
        "agent": running.agent.child.pid,
        "broker": running.broker.pid,
    }
    async with asyncio.TaskGroup() as windows:
        spent = {
            name: windows.create_task(cost(pid, seconds), name=name)
            for name, pid in children.items()
        }
    after, polled = await running.agent.metrics(), await running.driver.counts()
    found = {
        name: {"core": task.result().core, "resident_mib": task.result().resident}
        for name, task in spent.items()
    }
    polls = polled["polls"] - served["polls"]
    found["driver"]["served"] = polls / (load.polls_per_second * seconds)
    found["driver"]["on_time"] = 1 - (polled["late"] - served["late"]) / polls
    hops = {name: value - before.get(name, 0.0) for name, value in after.items()}
    found["agent"]["frames_per_s"] = hops[f"{HOP}_count"] / seconds
    found["agent"]["hop_mean_ms"] = 1000 * hops[f"{HOP}_sum"] / hops[f"{HOP}_count"]
    for share in (0.5, 0.99):
        found["agent"][f"hop_p{share * 100:.0f}_ms<="] = 1000 * quantile(hops, HOP, share)
    return found


async def one_round(
    load: Load, plant: Generator, seconds: float, warm_up: float
) -> dict[str, Figures]:
    async with twinbridge(load, plant) as ours:
        await asyncio.sleep(warm_up)
        spent = await cost(ours.child.pid, seconds)
    rows: dict[str, Figures] = {"run": {"core": spent.core, "resident_mib": spent.resident}}
    async with pods(load, plant) as running:
        await asyncio.sleep(warm_up)
        rows |= await cost_of_pods(running, load, seconds)
    whole = rows["driver"]["core"] + rows["agent"]["core"]
    rows["ratio"] = {"core": whole / rows["run"]["core"]}
    rows["with broker"] = {"core": (whole + rows["broker"]["core"]) / rows["run"]["core"]}
    return rows


def spread(rounds: list[dict[str, Figures]]) -> dict[str, Figures]:
    """The median of each figure, and beside shares of a core how far the rounds lay apart."""
    found: dict[str, Figures] = {}
    for row, figures in rounds[0].items():
        found[row] = {}
        for name in figures:
            values = [each[row][name] for each in rounds]
            found[row][name] = median(values)
            if name == "core":
                found[row] |= {"core_min": min(values), "core_max": max(values)}
    return found


async def trips_in_both(
    load: Load, plant: Generator, trips: int, warm_up: float
) -> dict[str, Figures]:
    rows: dict[str, Figures] = {}
    async with twinbridge(load, plant) as ours:
        await asyncio.sleep(warm_up)
        rows["run"] = await trips_of_twinbridge(ours, plant, load, trips)
    async with pods(load, plant) as running:
        await asyncio.sleep(warm_up)
        heating = Heating(plant, load.armed, reset_over(running.agent.api))
        await heating.run(trips)
        rows["pods"] = heating.figures() | await detected(running.driver)
    rows["ratio"] = {
        name: rows["pods"][name] / rows["run"][name] for name in ("p50_ms", "p99_ms", "max_ms")
    }
    return rows


async def detected(driver: TwinBridge) -> Figures:
    seen = await driver.metrics()
    return {
        f"{name}_p99_ms<=": 1000 * quantile(seen, f"twinbridge_trip_detect_to_{name}_seconds", 0.99)
        for name in ("write", "ack", "verified")
    }


def check(rows: Mapping[str, Figures]) -> None:
    for form in ("run", "pods"):
        if rows[form]["missed"] or rows[form]["false"]:
            raise Broken(f"{form}: a trip was missed, or a stop written that nothing asked for")


async def measure(
    rounds: int, trips: int, seconds: float, warm_up: float, *, as_json: bool
) -> None:
    load = Load(devices=100, registers=50, interval=500)
    async with generator(load) as plant:
        found = [await one_round(load, plant, seconds, warm_up) for _ in range(rounds)]
    if found:
        show("plant as pods", spread(found), as_json=as_json)
    if not trips:
        return
    armed = Load(devices=100, registers=50, interval=500, armed=10)
    async with generator(armed) as plant:
        rows = await trips_in_both(armed, plant, trips, warm_up)
    show("trips as pods", rows, as_json=as_json)
    check(rows)


if __name__ == "__main__":
    options = arguments(__doc__, rounds=3, trips=300, seconds=20.0, warm_up=5.0).parse_args()
    finish(
        measure(
            options.rounds,
            options.trips,
            options.seconds,
            options.warm_up,
            as_json=options.json,
        )
    )
