"""An agent that is told changes at a fixed rate, with a SCADA face or without, in a process of
its own; or, as the floor, a bare paho client that publishes as many messages flat out.

Prints, a line of JSON, what it cost and how late its loop was over the window after the warm-up.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import time
from collections.abc import Iterator, Mapping, Sequence

import uvloop
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from prometheus_client import REGISTRY
from typing_extensions import override

from twinbridge.adapters.bus_memory import MemoryBus
from twinbridge.adapters.scada_mqtt import PlainFace
from twinbridge.api.scada import PlainMqtt
from twinbridge.app.agent import Agent
from twinbridge.app.faces import AgentTwins
from twinbridge.core.messages import Samples
from twinbridge.core.model import (
    SECOND,
    DeviceSpec,
    Point,
    PropertyRef,
    PropertySpec,
    Quality,
    Reason,
    Sample,
    ValueType,
)
from twinbridge.testing.fakes import FakeStore

LOOK = 0.005
YOUNG_OBJECTS = 10_000
COUNTERS = ("messages", "coalesced_samples", "resyncs")


class NoStore(FakeStore):
    """Keeps nothing: what is measured is the way to the broker."""

    @override
    def record_reported(self, device: str, samples: Sequence[tuple[str, Sample]]) -> None: ...

    @override
    def record_history(self, device: str, samples: Sequence[tuple[str, Sample]]) -> None: ...


def plant(devices: int, properties: int) -> dict[str, DeviceSpec]:
    specs = [PropertySpec(f"value{n}", ValueType.FLOAT, unit="Cel") for n in range(properties)]
    return {
        name: DeviceSpec(
            name,
            "machine",
            "bench",
            "bench",
            None,
            tuple(Point(PropertyRef(name, s.name), s, None, SECOND) for s in specs),
            digest="1",
        )
        for name in (f"m{number}" for number in range(devices))
    }


def changes(options: argparse.Namespace) -> Iterator[Samples]:
    """Device after device, `at_once` of its properties, each value a new one; without end."""
    seq, first = 0, 0
    while True:
        for device in range(options.devices):
            seq += 1
            now = time.time_ns()
            names = [f"value{(first + n) % options.properties}" for n in range(options.at_once)]
            yield Samples(
                f"m{device}",
                tuple(
                    (name, Sample(seq + n / 8, Quality.GOOD, Reason.NONE, now, seq))
                    for n, name in enumerate(names)
                ),
            )
        first += options.at_once


class Feed:
    def __init__(self, agent: Agent, options: argparse.Namespace) -> None:
        self._agent = agent
        self._changes = changes(options)
        self._rate = options.rate / options.at_once
        self._at_once = options.at_once
        self.told = 0

    async def run(self, seconds: float) -> None:
        """As a driver's polls come: spread over the time. What was missed is made up for."""
        began, sent = time.monotonic(), 0
        while (gone := time.monotonic() - began) < seconds:
            while sent < gone * self._rate:
                self._agent.take([next(self._changes)])
                sent += 1
                self.told += self._at_once
            await asyncio.sleep(LOOK)


async def lateness(found: list[float]) -> None:
    """How late the loop was for who wanted to wake, s."""
    while True:
        due = time.monotonic() + LOOK
        await asyncio.sleep(LOOK)
        found.append(time.monotonic() - due)


def counted() -> dict[str, float]:
    found = dict.fromkeys(COUNTERS, 0.0)
    for family in REGISTRY.collect():
        name = family.name.removeprefix("twinbridge_scada_mqtt_")
        if name in found:
            found[name] = sum(s.value for s in family.samples if s.name.endswith("_total"))
    return found


async def measured(options: argparse.Namespace) -> Mapping[str, float]:
    agent = Agent(NoStore(), MemoryBus(), "bench")
    await agent.set_plant(plant(options.devices, options.properties), ())
    feed, late = Feed(agent, options), list[float]()
    tasks = [asyncio.create_task(lateness(late))]
    if options.port:
        scada = {
            "broker": f"mqtt://127.0.0.1:{options.port}",
            "propertyTopics": options.property_topics,
        }
        face = PlainFace(PlainMqtt.model_validate(scada), AgentTwins(agent))
        tasks.append(asyncio.create_task(face.run()))
        while not face.connected:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.05)
    await feed.run(options.warm_up)
    gc.collect()  # as the agent's process does when it has started
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    late.clear()
    before, cpu, began = counted(), time.process_time(), time.monotonic()
    told = feed.told
    await feed.run(options.seconds)
    took = time.monotonic() - began
    core, after = (time.process_time() - cpu) / took, counted()
    late = sorted(late)
    await asyncio.sleep(1.5)  # the last twins, and what waits
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return {
        "core": core,
        "changes_per_second": (feed.told - told) / took,
        "messages_per_second": (after["messages"] - before["messages"]) / took,
        "coalesced": after["coalesced_samples"] - before["coalesced_samples"],
        "resyncs": after["resyncs"] - before["resyncs"],
        "lag_p99_ms": late[int(len(late) * 0.99)] * 1000,
        "lag_max_ms": late[-1] * 1000,
        "told": float(feed.told),
    }


def floor(options: argparse.Namespace) -> Mapping[str, float]:
    """The same messages, made ahead, published as fast as paho does."""
    content = {f"value{n}": {"value": n + 0.125, "quality": "good", "timestamp": 1_700_000_000_000}
               for n in range(options.at_once)}  # fmt: skip
    payload = json.dumps({"timestamp": 1_700_000_000_000, "properties": content}).encode()
    client = Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", options.port)
    client.loop_start()
    began, cpu, sent = time.monotonic(), time.process_time(), 0
    while time.monotonic() - began < options.seconds:
        client.publish(f"floor/m{sent % options.devices}/changes", payload)
        sent += 1
    took, spent = time.monotonic() - began, time.process_time() - cpu
    client.disconnect()
    client.loop_stop()
    return {"core": spent / took, "messages_per_second": sent / took}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--floor", action="store_true")
    parser.add_argument("--port", type=int, default=0, help="of the broker; 0: no face")
    parser.add_argument("--devices", type=int, default=200)
    parser.add_argument("--properties", type=int, default=50)
    parser.add_argument("--at-once", type=int, default=50, help="changes per poll of a device")
    parser.add_argument("--rate", type=float, default=10_000.0, help="changes per second")
    parser.add_argument("--property-topics", action="store_true")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--warm-up", type=float, default=2.0)
    options = parser.parse_args()
    found = floor(options) if options.floor else uvloop.run(measured(options))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
