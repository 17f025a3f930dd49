"""What of a hub's resources comes into force: in place of what is not sound, what was before."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from twinbridge.api.driver_models import DriverModels
from twinbridge.api.plant import Plant, compile_plant
from twinbridge.api.yaml_source import Document
from twinbridge.core.model import DesiredSpec

Key: TypeAlias = tuple[str, str]
"""Kind and name."""
Resource: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Accepted:
    plant: Plant
    in_force: Mapping[Key, Resource]
    """Those that the plant is made of."""
    problems: Mapping[Key, str]
    """What is wrong with resources as the hub has them now."""


def accept(
    documents: Mapping[Key, Resource],
    sound: Mapping[Key, Resource],
    drivers: Mapping[str, DriverModels],
    node: str,
    local: Sequence[Document] = (),
) -> Accepted:
    """`sound` holds the last version of each resource that was in force, also of removed models.

    A Device or Rule that is refused runs on as it was before, on the model that it had then;
    `local` documents come beside the hub's, and give way where both define the same.
    """
    chosen = dict(documents)
    problems: Mapping[Key, str] | None = None
    while True:
        plant = compile_plant(_written(chosen, local), drivers, node)
        if problems is None:
            problems = _problems(plant, chosen)
        older = {
            key: sound[key]
            for key in _in_place_of(plant.rejected, sound, chosen)
            if chosen.get(key) != sound[key]
        }
        if not older:
            break
        chosen |= older
    in_force = {key: found for key, found in chosen.items() if "/".join(key) not in plant.rejected}
    return Accepted(plant, in_force, problems)


def _in_place_of(
    rejected: Iterable[str], sound: Mapping[Key, Resource], chosen: Mapping[Key, Resource]
) -> Iterator[Key]:
    """The refused resource itself; where that is as it was, the model of a Device."""
    for subject in rejected:
        kind, _, name = subject.partition("/")
        key = (kind, name)
        if key not in sound or key not in chosen:
            continue
        yield key
        if kind == "Device" and chosen[key] == sound[key]:
            model = ("DeviceModel", _model_of(sound[key]))
            if model in sound:
                yield model


def _model_of(device: Resource) -> str:
    spec = device.get("spec")
    ref = spec.get("modelRef") if isinstance(spec, dict) else None
    return str(ref.get("name", "")) if isinstance(ref, dict) else ""


def _written(documents: Mapping[Key, Resource], local: Sequence[Document]) -> Iterator[Document]:
    for (kind, name), content in documents.items():
        yield Document(f"hub:{kind}/{name}", content)
    yield from local


def _problems(plant: Plant, documents: Mapping[Key, Resource]) -> Mapping[Key, str]:
    found: dict[Key, list[str]] = {}
    for problem in plant.problems:
        kind, _, name = problem.subject.partition("/")
        if not problem.warning and (kind, name) in documents:
            place = f"{problem.field}: " if problem.field else ""
            found.setdefault((kind, name), []).append(f"{place}{problem.message}")
    return {key: "; ".join(said) for key, said in found.items()}


class Wishes(NamedTuple):
    """What a Device resource desires; `problem` says why it cannot be taken."""

    desired: tuple[DesiredSpec, ...]
    problem: str = ""


def wishes(device: Resource, model: Resource, drivers: Mapping[str, DriverModels]) -> Wishes:
    """Of a Device that differs from what is in force only in what it desires."""
    names = set(_names(device, "desired"))
    found = _wishes(_with_only(names, device), _with_only(names, model), drivers)
    return _wishes(device, model, drivers) if found.problem else found  # that names what is allowed


def _wishes(device: Resource, model: Resource, drivers: Mapping[str, DriverModels]) -> Wishes:
    documents = [Document("hub:model", model), Document("hub:device", device)]
    plant = compile_plant(documents, drivers)
    for spec in plant.devices.values():
        return Wishes(spec.desired)
    return Wishes((), "; ".join(f"{p.field}: {p.message}" for p in plant.problems if not p.warning))


def _with_only(names: Container[object], resource: Resource) -> Resource:
    """Of its properties only these: the others are in force already."""
    spec = resource.get("spec")
    if not isinstance(spec, dict) or not isinstance(spec.get("properties"), list):
        return resource
    few = [one for one in spec["properties"] if isinstance(one, dict) and one.get("name") in names]
    return {**resource, "spec": {**spec, "properties": few}}


def _names(resource: Resource, field: str) -> Iterator[object]:
    spec = resource.get("spec")
    entries = spec.get(field) if isinstance(spec, dict) else None
    for one in entries if isinstance(entries, list) else ():
        if isinstance(one, dict) and isinstance(one.get("name"), str):
            yield one["name"]


def only_wishes_differ(new: Resource, old: Resource) -> bool:
    """Whether two versions of a Device are one, but for `spec.desired` and what a hub counts."""
    return _but_wishes(new) == _but_wishes(old)


def _but_wishes(device: Resource) -> object:
    spec, metadata = device.get("spec"), device.get("metadata")
    if not isinstance(spec, dict) or not isinstance(metadata, dict):
        return device
    named = {key: metadata.get(key) for key in ("name", "namespace", "labels", "uid")}
    return named, {key: value for key, value in spec.items() if key != "desired"}
