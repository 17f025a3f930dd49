"""Reads the Devices to simulate, and the annotations that say how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import yaml
from twinbridge.api.plant import load_plant
from twinbridge.api.yaml_source import load_paths

from twinbridge.core.model import DeviceSpec
from twinbridge_modbus import driver as modbus

Annotations: TypeAlias = Mapping[str, str]


def load_devices(
    paths: Sequence[str | Path],
) -> tuple[list[DeviceSpec], dict[str, Annotations]]:
    """Every Device under the paths, and its annotations by its name.

    Raises InvalidDefinition. What comes from stdin (`-`) is simulated without annotations.
    """
    plant = load_plant([str(path) for path in paths], {modbus.name: modbus})
    return list(plant.devices.values()), dict(_annotations(paths))


def _annotations(paths: Sequence[str | Path]) -> Iterator[tuple[str, Annotations]]:
    """The plant was accepted from these files, so the shape of each resource is right."""
    documents, _problems = load_paths([path for path in paths if str(path) != "-"])
    for document in documents:
        resource = document.content
        if isinstance(resource, dict) and resource.get("kind") == "Device":
            metadata = resource["metadata"]
            yield metadata["name"], metadata.get("annotations") or {}
