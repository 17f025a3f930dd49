"""The YAML that describes the load generator's machines, as a user would write it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from load import Load
from load_generator import HEATED, HOT, RUN

VERSION = "devices.twinbridge.io/v1alpha1"
LIMIT = HEATED // 2
Resource = dict[str, Any]


def definitions(load: Load, ports: Sequence[int], dead: Sequence[int], *, node: str) -> str:
    """DeviceModels, a Device per machine and dead endpoint, and the trip rule if any is armed."""
    return yaml.dump_all(
        _resources(load, ports, dead, node), Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    )


def _resources(
    load: Load, ports: Sequence[int], dead: Sequence[int], node: str
) -> Iterator[Resource]:
    registers = [_register(number) for number in range(load.registers)]
    yield _resource("DeviceModel", "meter", {"properties": registers})
    if load.armed:
        yield _resource("DeviceModel", "motor", {"properties": [*registers, *_motor()]})
        yield _resource("Rule", "overheat", _overheat(node))
    for number in range(load.devices):
        station = (ports[number // load.units_per_port], number % load.units_per_port + 1)
        model = "motor" if number < load.armed else "meter"
        yield _device(f"m{number}", model, load, node, station)
    for number, port in enumerate(dead):
        yield _device(f"dead{number}", "meter", load, node, (port, 1))


def _register(number: int) -> Resource:
    return {
        "name": f"r{number}",
        "type": "int",
        "access": "ReadOnly",
        "modbus": {"table": "input", "address": number, "encoding": "int16"},
    }


def _motor() -> list[Resource]:
    hot = {"table": "input", "address": HOT, "encoding": "int16"}
    return [
        {"name": "hot", "type": "int", "access": "ReadOnly", "modbus": hot},
        {
            "name": "run",
            "type": "bool",
            "access": "ReadWrite",
            "modbus": {"table": "coil", "address": RUN},
        },
    ]


def _overheat(node: str) -> Resource:
    return {
        "nodeName": node,
        "devices": {"selector": {"matchLabels": {"model": "motor"}}},
        "when": {"property": "hot", "above": LIMIT, "staleAfter": "3s", "onBad": "Alarm"},
        "severity": "critical",
        "trip": {
            "write": [{"property": "run", "value": False}],
            "verify": {"within": "500ms", "retries": 3},
        },
        "mode": "Armed",
    }


def _device(name: str, model: str, load: Load, node: str, station: tuple[int, int]) -> Resource:
    port, unit = station
    poll = {"interval": f"{load.interval}ms"}
    if model == "motor":
        poll["tripInterval"] = f"{load.trip_interval}ms"
    spec = {
        "modelRef": {"name": model},
        "nodeName": node,
        "connection": {
            "modbus": {"host": "127.0.0.1", "port": port, "unit": unit, "timeout": "500ms"}
        },
        "poll": poll,
    }
    return _resource("Device", name, spec, labels={"model": model})


def _resource(kind: str, name: str, spec: Resource, **metadata: object) -> Resource:
    return {
        "apiVersion": VERSION,
        "kind": kind,
        "metadata": {"name": name, **metadata},
        "spec": spec,
    }
