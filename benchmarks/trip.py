"""Trips under the plant load: change at the machine → coil written, and detect → write on the wire.

100 devices of 50 registers every 500 ms; ten of them are armed, their trip's input in a scan
class of 20 ms. The floor does the same in a bare loop: no latch, no interlock, no journal, no
read-back. With `--dead 20` as many endpoints are silent, refusing or half open meanwhile.
Ends with exit code 1 when a trip is missed, or a stop is written that nothing asked for.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from statistics import quantiles
from typing import Any

import httpx
from load import Load
from rig import (
    Broken,
    Generator,
    TwinBridge,
    arguments,
    finish,
    floor,
    generator,
    quantile,
    show,
    twinbridge,
)

MISSED_AFTER = 5.0
RESET_LIMIT = 10.0
Release = Callable[[int], Awaitable[None]]


class Heating:
    """Heats the armed machines again and again, each at times of its own, and sees them stop."""

    def __init__(self, plant: Generator, armed: int, release: Release) -> None:
        self.plant = plant
        self.armed = armed
        self.release = release
        self.stopped: dict[int, asyncio.Future[float]] = {}
        self.latencies: list[float] = []
        self.missed = 0
        self.false = 0

    async def run(self, trips: int) -> None:
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self.watch_writes(), name="writes")
            async with asyncio.TaskGroup() as heaters:
                for device in range(self.armed):
                    share = len(range(device, trips, self.armed))
                    heaters.create_task(self.heat(device, share), name=f"heat {device}")
            watching.cancel()

    async def watch_writes(self) -> None:
        while True:
            self.note(await self.plant.writes.get())

    def note(self, write: dict[str, Any]) -> None:
        waiting = self.stopped.get(write["device"])
        if waiting is None:
            self.false += not write["value"]
        elif write["latency"] is not None and not waiting.done():
            waiting.set_result(write["latency"] / 1e9)

    async def heat(self, device: int, times: int) -> None:
        for _ in range(times):
            await asyncio.sleep(random.uniform(0.2, 1.0))
            await self.trip_once(device)

    async def trip_once(self, device: int) -> None:
        self.stopped[device] = asyncio.get_running_loop().create_future()
        self.plant.tell("heat", device)
        try:
            self.latencies.append(await asyncio.wait_for(self.stopped[device], MISSED_AFTER))
        except TimeoutError:
            self.missed += 1
        self.plant.tell("cool", device)
        await self.release(device)
        del self.stopped[device]
        self.plant.tell("start", device)

    def figures(self) -> dict[str, float]:
        """Milliseconds from the change at the machine to the coil written there."""
        cuts = quantiles(self.latencies, n=1000, method="inclusive")
        return {
            "trips": len(self.latencies),
            "missed": self.missed,
            "false": self.false,
            "p50_ms": 1000 * cuts[499],
            "p99_ms": 1000 * cuts[989],
            "max_ms": 1000 * max(self.latencies),
        }


def reset_over(api: httpx.AsyncClient) -> Release:
    """Reset a device's trip as a person would: find the alarm, give a reason, until it is taken."""

    async def reset(device: int) -> None:
        give_up = asyncio.get_running_loop().time() + RESET_LIMIT
        said = "there is no such alarm"
        while asyncio.get_running_loop().time() < give_up:
            for alarm in (await api.get("/api/v1/alarms")).json()["items"]:
                if alarm["device"] == f"m{device}" and alarm["latched"]:
                    answer = await api.post(
                        f"/api/v1/alarms/{alarm['id']}/reset", json={"reason": "benchmark"}
                    )
                    if answer.is_success:
                        return
                    said = answer.text
            await asyncio.sleep(0.05)
        raise Broken(f"the trip of m{device} could not be reset: {said}")

    return reset


async def settle(_device: int) -> None:
    """The floor has no latch: it is ready again once it has seen the machine cool."""
    await asyncio.sleep(0.1)


async def trips_of_twinbridge(
    ours: TwinBridge, plant: Generator, load: Load, trips: int
) -> dict[str, float]:
    heating = Heating(plant, load.armed, reset_over(ours.api))
    await heating.run(trips)
    seen = await ours.metrics()
    figures = heating.figures()
    for name in ("write", "ack", "verified"):
        histogram = f"twinbridge_trip_detect_to_{name}_seconds"
        figures[f"{name}_p99_ms<="] = 1000 * quantile(seen, histogram, 0.99)
    return figures


async def trip(load: Load, trips: int, warm_up: float, *, as_json: bool) -> None:
    rows: dict[str, dict[str, float]] = {}
    async with generator(load) as plant:
        async with floor(load, plant):
            await asyncio.sleep(warm_up)
            heating = Heating(plant, load.armed, settle)
            await heating.run(max(trips // 4, 2))
            rows["floor"] = heating.figures()
        async with twinbridge(load, plant) as ours:
            await asyncio.sleep(warm_up)
            rows["twinbridge"] = await trips_of_twinbridge(ours, plant, load, trips)
    rows["ratio"] = {
        name: rows["twinbridge"][name] / rows["floor"][name] for name in ("p50_ms", "p99_ms")
    }
    show("trip" + (f", {load.dead} dead links" if load.dead else ""), rows, as_json=as_json)
    if rows["twinbridge"]["missed"] or rows["twinbridge"]["false"]:
        raise Broken("a trip was missed, or a stop written that nothing asked for")


if __name__ == "__main__":
    options = arguments(__doc__, trips=1000, armed=10, dead=0, warm_up=5.0).parse_args()
    asked = Load(devices=100, registers=50, interval=500, armed=options.armed, dead=options.dead)
    finish(trip(asked, options.trips, options.warm_up, as_json=options.json))
