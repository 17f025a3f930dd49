"""What the drivers of one protocol need to know of a plant: its resources, and no more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from twinbridge.api.plant import Plant
from twinbridge.api.yaml_source import Document
from twinbridge.core.rule import RuleInstance, inputs
from twinbridge.core.share import actors


@dataclass(frozen=True, slots=True)
class Extract:
    """Documents, as they were written, of the devices of one protocol and of what touches them."""

    documents: tuple[Document, ...]
    exports: frozenset[str]
    """Devices of this protocol that a rule reads which acts on another device."""


def extract(plant: Plant, documents: Iterable[Document], protocol: str) -> Extract:
    """With whole rules come all the devices that they touch, also those of other protocols."""
    own = {name for name, spec in plant.devices.items() if spec.protocol == protocol}
    devices, rules = _closure(own, plant.instances)
    models = {plant.devices[name].model for name in devices if name in plant.devices}
    wanted = {("Device", name) for name in devices} | {("Rule", name) for name in rules}
    wanted |= {("DeviceModel", name) for name in models}
    found = tuple(d for d in documents if _key(d) in wanted)
    return Extract(found, frozenset(_exports(own, plant.instances)))


def _closure(own: set[str], instances: Sequence[RuleInstance]) -> tuple[set[str], set[str]]:
    """Devices and rules, such that no rule among them touches a device that is not."""
    devices, rules = set(own), set[str]()
    size = -1
    while size != len(devices) + len(rules):
        size = len(devices) + len(rules)
        for instance in instances:
            touched = set(_touched(instance))
            if touched & (devices if instance.rule in rules else own):
                rules.add(instance.rule)
                devices |= touched
    return devices, rules


def _touched(instance: RuleInstance) -> Iterator[str]:
    yield instance.device
    yield from actors(instance)
    yield from (ref.device for ref in inputs(instance))


def _exports(own: set[str], instances: Sequence[RuleInstance]) -> Iterator[str]:
    for instance in instances:
        read = {ref.device for ref in inputs(instance)} & own
        for device in read:
            if any(actor != device for actor in actors(instance)):
                yield device


def _key(document: Document) -> tuple[str, str]:
    content = document.content
    if not isinstance(content, dict) or not isinstance(content.get("metadata"), dict):
        return "", ""
    return str(content.get("kind")), str(content["metadata"].get("name"))
