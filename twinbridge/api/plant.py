"""A plant: every definition loaded, cross-checked and compiled for the core."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from twinbridge.api.base import API_VERSION
from twinbridge.api.compile_device import DeviceCompiler
from twinbridge.api.compile_rule import RuleCompiler
from twinbridge.api.device_resources import Device, DeviceModel
from twinbridge.api.driver_models import DriverModels
from twinbridge.api.findings import Findings
from twinbridge.api.problems import Problem, complaints, unknown
from twinbridge.api.resources import KINDS, EdgeNode, EdgeNodeSpec, Resource
from twinbridge.api.rule_resource import Rule
from twinbridge.api.yaml_source import Document, load_paths
from twinbridge.core.model import DeviceSpec, PropertyRef, Value, same_value
from twinbridge.core.rule import Mode, RuleInstance, Severity


@dataclass(frozen=True, slots=True)
class RuleListing:
    """A rule as a list of rules shows it; `devices` are those that it is applied to."""

    name: str
    mode: Mode
    severity: Severity
    message: str
    devices: tuple[str, ...]
    namespace: str = "default"


@dataclass(frozen=True, slots=True)
class Plant:
    """What can run, and what is wrong with the rest."""

    devices: Mapping[str, DeviceSpec]
    instances: tuple[RuleInstance, ...]
    problems: tuple[Problem, ...] = ()
    rules: Mapping[str, RuleListing] = field(default_factory=dict)
    rejected: frozenset[str] = frozenset()
    """Subjects (`Device/pump-1`) that do not run."""
    nodes: Mapping[str, EdgeNodeSpec] = field(default_factory=dict)
    documents: tuple[Document, ...] = ()
    """The resources as they were written, sound or not."""

    @property
    def sound(self) -> bool:
        return all(problem.warning for problem in self.problems)


@dataclass(slots=True)
class _Sorted:
    """The resources by kind and name, each with the document that it came from."""

    models: dict[str, tuple[DeviceModel, Document]] = field(default_factory=dict)
    devices: dict[str, tuple[Device, Document]] = field(default_factory=dict)
    rules: dict[str, tuple[Rule, Document]] = field(default_factory=dict)
    nodes: dict[str, tuple[EdgeNode, Document]] = field(default_factory=dict)


def load_plant(
    paths: Sequence[str | Path], drivers: Mapping[str, DriverModels], node: str | None = None
) -> Plant:
    """Load files, folders and `-` (stdin). With `node`, what names another node is left out."""
    documents, problems = load_paths(paths)
    return compile_plant(documents, drivers, node, problems)


def compile_plant(
    documents: Iterable[Document],
    drivers: Mapping[str, DriverModels],
    node: str | None = None,
    problems: Sequence[Problem] = (),
) -> Plant:
    """Compile what is sound and tell everything that is not. `problems` come first in the result.

    Documents come from files or from anywhere else; their content is plain JSON-like values.
    """
    documents = tuple(documents)
    found = Findings(list(problems))
    resources = _sort(documents, found)
    compiler = DeviceCompiler(drivers, found)
    for model, document in resources.models.values():
        compiler.add_model(model, document)
    rules = RuleCompiler(found)
    rules.add_devices(resources.devices.values())
    for rule, document in resources.rules.values():
        if node in (None, rule.spec.node_name):
            rules.note_inputs(rule, document)
    devices: dict[str, DeviceSpec] = {}
    for name, (device, document) in resources.devices.items():
        if node in (None, device.spec.node_name):
            spec = compiler.compile(device, document, rules.trip_inputs(name))
            if spec is not None:
                devices[name] = spec
    instances, listings = _rules(rules, resources, devices, node)
    nodes = {name: resource.spec for name, (resource, _) in resources.nodes.items()}
    return Plant(devices, instances, found.problems, listings, found.rejected, nodes, documents)


def _rules(
    compiler: RuleCompiler,
    resources: _Sorted,
    devices: Mapping[str, DeviceSpec],
    node: str | None,
) -> tuple[tuple[RuleInstance, ...], dict[str, RuleListing]]:
    instances: list[RuleInstance] = []
    listings: dict[str, RuleListing] = {}
    stops = _Stops(compiler.found)
    for name, (rule, document) in resources.rules.items():
        if node in (None, rule.spec.node_name):
            made = compiler.compile(rule, document, devices)
            stops.note(made, document)
            instances.extend(made)
            listings[name] = RuleListing(
                name,
                rule.spec.mode,
                rule.spec.severity,
                rule.spec.message,
                tuple(instance.device for instance in made),
                rule.metadata.namespace,
            )
    return tuple(instances), listings


@dataclass(slots=True)
class _Stops:
    """What trips write, to say when two of them would write against each other."""

    found: Findings
    held: dict[PropertyRef, tuple[Value, str]] = field(default_factory=dict)

    def note(self, instances: Iterable[RuleInstance], document: Document) -> None:
        for instance in instances:
            for write in instance.trip.writes if instance.trip else ():
                value, rule = self.held.setdefault(write.target, (write.value, instance.rule))
                if not same_value(value, write.value):
                    said = f"writes {json.dumps(write.value)} to {write.target}, where rule {rule}"
                    self.found.warn(
                        document,
                        f"Rule/{instance.rule}",
                        ("spec", "trip", "write"),
                        f"{said} writes {json.dumps(value)}: trips that stand together would"
                        " write against each other",
                    )


def _sort(documents: Iterable[Document], found: Findings) -> _Sorted:
    resources = _Sorted()
    first: dict[tuple[str, str], Document] = {}
    for document in documents:
        resource = _parse(document, found)
        if resource is None:
            continue
        key = (resource.kind, resource.metadata.name)
        if key in first:
            there = first[key]
            found.add(
                document,
                "/".join(key),
                ("metadata", "name"),
                f"is defined twice; the first is at {there.file}:{there.line(())}",
                rejects=False,
            )
            continue
        first[key] = document
        _put(resources, resource, document)
    return resources


def _put(resources: _Sorted, resource: Resource, document: Document) -> None:
    name = resource.metadata.name
    match resource:
        case DeviceModel():
            resources.models[name] = resource, document
        case Device():
            resources.devices[name] = resource, document
        case Rule():
            resources.rules[name] = resource, document
        case EdgeNode():
            resources.nodes[name] = resource, document


def _parse(document: Document, found: Findings) -> Resource | None:
    content = document.content
    if not isinstance(content, dict):
        found.add(document, "", (), "a resource is a mapping with apiVersion, kind, metadata, spec")
        return None
    kind = content.get("kind")
    model = KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        found.add(document, "", ("kind",), unknown("kind", kind, list(KINDS)))
        return None
    if content.get("apiVersion") != API_VERSION:
        message = f"{content.get('apiVersion')!r} is not served; write {API_VERSION}"
        found.add(document, _subject(content), ("apiVersion",), message)
        return None
    try:
        return model.model_validate(content)
    except ValidationError as error:
        for path, message in complaints(error, model):
            found.add(document, _subject(content), path, message)
        return None


def _subject(content: Mapping[object, object]) -> str:
    metadata = content.get("metadata")
    name = metadata.get("name", "?") if isinstance(metadata, dict) else "?"
    return f"{content.get('kind')}/{name}"
