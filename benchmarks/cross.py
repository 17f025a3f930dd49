"""Across protocols: a temperature told by OPC UA → the coil of a Modbus machine written false.

Change at the server → coil written at the machine, on one clock. The server samples and publishes
at the trip's interval; the floor is that interval, and the limit is 10 ms above it.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from contextlib import suppress
from statistics import quantiles

import httpx
import yaml
from cross_machines import NAMESPACE
from rig import HERE, NODE, START_LIMIT, Broken, arguments, finish, process, show, twinbridge_over

VERSION = "devices.twinbridge.io/v1alpha1"
MISSED_AFTER = 5.0


def definitions(opcua: int, modbus: int, interval: int) -> str:
    resources = [
        _resource(
            "DeviceModel",
            "boiler",
            {
                "properties": [
                    {
                        "name": "temperature",
                        "type": "float",
                        "opcua": {"node": f"nsu={NAMESPACE};s=temperature"},
                    }
                ]
            },
        ),
        _resource(
            "DeviceModel",
            "motor",
            {
                "properties": [
                    {
                        "name": "run",
                        "type": "bool",
                        "access": "ReadWrite",
                        "modbus": {"table": "coil", "address": 0},
                    }
                ]
            },
        ),
        _device(
            "boiler",
            interval,
            {"opcua": {"url": f"opc.tcp://127.0.0.1:{opcua}/", "allowInsecure": True}},
        ),
        _device("motor", 500, {"modbus": {"host": "127.0.0.1", "port": modbus}}),
        _resource(
            "Rule",
            "hot",
            {
                "nodeName": NODE,
                "devices": {"name": "motor-1"},
                "inputs": [{"name": "t", "device": "boiler-1", "property": "temperature"}],
                "when": {"input": "t", "above": 80, "deadband": 5, "onBad": "Trip"},
                "severity": "critical",
                "trip": {"write": [{"property": "run", "value": False}]},
                "mode": "Armed",
            },
        ),
    ]
    return str(yaml.safe_dump_all(resources))


def _device(model: str, interval: int, connection: object) -> dict[str, object]:
    poll = {"interval": f"{interval}ms", "tripInterval": f"{interval}ms"}
    spec = {
        "modelRef": {"name": model},
        "nodeName": NODE,
        "connection": connection,
        "poll": poll,
    }
    return _resource("Device", f"{model}-1", spec)


def _resource(kind: str, name: str, spec: object) -> dict[str, object]:
    return {"apiVersion": VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


async def reset(api: httpx.AsyncClient) -> None:
    """As a person would: see the trip, and try until it is released."""
    seen = False
    for _ in range(200):
        alarms = (await api.get("/api/v1/alarms")).json()["items"]
        latched = [alarm["id"] for alarm in alarms if alarm["latched"]]
        if seen and not latched:
            return
        seen = seen or bool(latched)
        for alarm in latched:
            await api.post(f"/api/v1/alarms/{alarm}/reset", json={"reason": "benchmark"})
        await asyncio.sleep(0.05)
    raise Broken("the trip could not be reset")


async def cross(interval: int, trips: int, warm_up: float, *, as_json: bool) -> None:
    latencies: list[float] = []
    missed = 0
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, HERE / "cross_machines.py"]
    async with process(*command, stdin=pipe, stdout=pipe) as machines:
        assert machines.stdout is not None
        assert machines.stdin is not None
        where = json.loads(await asyncio.wait_for(machines.stdout.readline(), START_LIMIT))
        text = definitions(where["opcua"], where["modbus"], interval)
        async with twinbridge_over(text) as ours:
            await asyncio.sleep(warm_up)
            for _ in range(trips):
                await asyncio.sleep(random.uniform(0.1, 0.3))
                machines.stdin.write(b"heat\n")
                with suppress(TimeoutError):
                    line = await asyncio.wait_for(machines.stdout.readline(), MISSED_AFTER)
                    latencies.append(json.loads(line)["latency_ms"])
                    machines.stdin.write(b"cool\n")
                    await reset(ours.api)
                    continue
                missed += 1
                machines.stdin.write(b"cool\n")
                await reset(ours.api)
    cuts = quantiles(latencies, n=1000, method="inclusive")
    figures: dict[str, float] = {
        "trips": len(latencies),
        "missed": missed,
        "p50_ms": cuts[499],
        "p99_ms": cuts[989],
        "max_ms": max(latencies),
    }
    floor = {"p99_ms": float(interval)}
    rows = {"floor": floor, "twinbridge": figures, "above": {"p99_ms": cuts[989] - interval}}
    show(f"cross, published every {interval} ms", rows, as_json=as_json)
    if missed:
        raise Broken("a trip was missed")


if __name__ == "__main__":
    options = arguments(__doc__, interval=50, trips=300, warm_up=4.0).parse_args()
    finish(cross(options.interval, options.trips, options.warm_up, as_json=options.json))
