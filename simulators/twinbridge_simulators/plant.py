"""Reads the Devices to simulate, and the annotations that say how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from twinbridge.api.plant import compile_plant
from twinbridge.api.yaml_source import Document, load_paths
from twinbridge.core.model import DeviceSpec
from twinbridge.errors import InvalidDefinition
from twinbridge_modbus import driver as modbus
from twinbridge_mqtt.driver import driver as mqtt
from twinbridge_opcua.driver import driver as opcua

Annotations: TypeAlias = Mapping[str, str]


def load_devices(
    paths: Sequence[str | Path],
) -> tuple[list[DeviceSpec], dict[str, Annotations]]:
    """Every Device under the paths, and its annotations by its name. Rules are left aside.

    Raises InvalidDefinition with everything that is wrong, a line each.
    """
    everything, unread = load_paths(paths)
    documents = [document for document in everything if not _is_rule(document)]
    plant = compile_plant(
        documents, {driver.name: driver for driver in (modbus, opcua, mqtt)}, problems=unread
    )
    wrong = [str(problem) for problem in plant.problems if not problem.warning]
    if wrong:
        raise InvalidDefinition("\n".join(["the definitions are wrong:", *wrong]))
    return list(plant.devices.values()), dict(map(_annotations, _devices(documents)))


def _is_rule(document: Document) -> bool:
    return isinstance(document.content, dict) and document.content.get("kind") == "Rule"


def _devices(documents: Sequence[Document]) -> list[dict[str, dict[str, object]]]:
    contents = [document.content for document in documents]
    return [c for c in contents if isinstance(c, dict) and c.get("kind") == "Device"]


def _annotations(resource: Mapping[str, Mapping[str, object]]) -> tuple[str, Annotations]:
    """The plant was accepted, so the shape of each resource is right."""
    notes = resource["metadata"].get("annotations")
    return str(resource["metadata"]["name"]), notes if isinstance(notes, dict) else {}
