"""A small sound plant as plain values, to be bent by a test, and ways to load it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

from twinbridge.api.driver_models import DriverModels
from twinbridge.api.plant import Plant, load_plant
from twinbridge_modbus import driver as modbus
from twinbridge_mqtt import driver as mqtt
from twinbridge_opcua import driver as opcua

EXAMPLE = Path(__file__).with_name("pump.yaml")
DRIVERS: dict[str, DriverModels] = {d.name: d for d in (modbus, mqtt, opcua)}
Resource = dict[str, Any]


def resources() -> tuple[Resource, Resource, Resource]:
    """The example's model, device and rule, free to be changed."""
    model, device, rule = yaml.safe_load_all(EXAMPLE.read_text())
    return copy.deepcopy(model), copy.deepcopy(device), copy.deepcopy(rule)


def load(folder: Path, *given: Resource, node: str | None = None) -> Plant:
    file = folder / "plant.yaml"
    file.write_text(yaml.safe_dump_all(given, sort_keys=False))
    return load_plant([file], DRIVERS, node)


def load_text(folder: Path, text: str | bytes) -> Plant:
    file = folder / "plant.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_plant([file], DRIVERS)


def messages(plant: Plant) -> str:
    return "\n".join(map(str, plant.problems))
