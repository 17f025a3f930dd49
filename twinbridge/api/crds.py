"""The CustomResourceDefinitions, made from the models and from the drivers' own models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import yaml
from pydantic import BaseModel

from twinbridge.api.base import API_VERSION, cel
from twinbridge.api.driver_models import DriverModels
from twinbridge.api.resources import KINDS
from twinbridge.api.structural import PRESERVE, Schema, structural

CUSTOM: Final[Schema] = {
    "type": "object",
    "description": "A block of a driver from elsewhere, which checks it itself.",
    "properties": {"driver": {"type": "string", "minLength": 1, "description": "The driver."}},
    "required": ["driver"],
    PRESERVE: True,
}


def _column(name: str, path: str, kind: str = "string") -> Schema:
    return {"name": name, "type": kind, "jsonPath": path}


def _condition(name: str) -> Schema:
    return _column(name, f".status.conditions[?(@.type=='{name}')].status")


_NAMES: Final[dict[str, tuple[str, str]]] = {
    "DeviceModel": ("devicemodels", "dm"),
    "Device": ("devices", "dev"),
    "Rule": ("rules", "rule"),
    "EdgeNode": ("edgenodes", "en"),
}
_NODE = _column("Node", ".spec.nodeName")
_AGE = _column("Age", ".metadata.creationTimestamp", "date")
_COLUMNS: Final[dict[str, list[Schema]]] = {
    "DeviceModel": [_AGE],
    "Device": [
        _column("Model", ".spec.modelRef.name"),
        _NODE,
        *map(_condition, ("Connected", "Synced", "Tripped")),
        _AGE,
    ],
    "Rule": [
        _NODE,
        _column("Mode", ".spec.mode"),
        _column("Severity", ".spec.severity"),
        _condition("Accepted"),
        _column("Alarms", ".status.instances.alarms", "integer"),
        _AGE,
    ],
    "EdgeNode": [
        _column("Site", ".spec.site"),
        _condition("Connected"),
        _column("Devices", ".status.devices.total", "integer"),
        _column("Waiting", ".status.outbox.records", "integer"),
        _column("Version", ".status.version"),
        _AGE,
    ],
}


def crds(drivers: Mapping[str, DriverModels]) -> dict[str, Schema]:
    """File name → CustomResourceDefinition."""
    return {f"{plural}.yaml": _crd(kind, drivers) for kind, (plural, _) in _NAMES.items()}


def dump(crd: Schema) -> str:
    """YAML without aliases, in the order in which it was made."""
    dumper = type("Plain", (yaml.SafeDumper,), {"ignore_aliases": lambda *_: True})
    return yaml.dump(crd, Dumper=dumper, sort_keys=False, width=100, allow_unicode=True)


def _crd(kind: str, drivers: Mapping[str, DriverModels]) -> Schema:
    group, version = API_VERSION.split("/")
    plural, short = _NAMES[kind]
    singular = kind.lower()
    served: Schema = {
        "name": version,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": _COLUMNS[kind],
        "schema": {"openAPIV3Schema": schema_of(kind, drivers)},
        "subresources": {"status": {}},
    }
    if kind in ("Device", "Rule"):
        served["selectableFields"] = [{"jsonPath": ".spec.nodeName"}]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": singular,
                "shortNames": [short],
                "categories": ["twinbridge"],
            },
            "versions": [served],
        },
    }


def schema_of(kind: str, drivers: Mapping[str, DriverModels]) -> Schema:
    """The structural schema of a kind, with every driver's blocks in their places."""
    schema = structural(KINDS[kind])
    properties = schema["properties"]
    for name in ("apiVersion", "kind"):
        properties[name].pop("enum")
    properties["metadata"] = {"type": "object", "description": "Object metadata."}
    properties.setdefault("status", {"type": "object", "description": "Nothing yet."})
    if kind == "Device":
        properties["spec"]["properties"]["connection"] = _connection(drivers)
    if kind in ("Device", "DeviceModel"):
        item = properties["spec"]["properties"]["properties"]["items"]
        item.pop(PRESERVE, None)
        for name, driver in sorted(drivers.items()):
            item["properties"][name] = _block(driver.address_model, f"Its {name} address.")
        item["properties"]["custom"] = CUSTOM
    return schema


def _connection(drivers: Mapping[str, DriverModels]) -> Schema:
    blocks = {
        name: _block(driver.connection_model, f"Over {name}.")
        for name, driver in sorted(drivers.items())
    }
    names = [*blocks, "custom"]
    given = ", ".join(f"has(self.{name})" for name in names)
    return {
        "type": "object",
        "description": "How it is reached: exactly one block, named after the protocol.",
        "properties": {**blocks, "custom": CUSTOM},
        "x-kubernetes-validations": [
            cel(f"[{given}].exists_one(x, x)", f"give exactly one protocol of {', '.join(names)}")
        ],
    }


def _block(model: type[BaseModel], description: str) -> Schema:
    schema = structural(model)
    return {**schema, "description": f"{description} {schema.get('description', '')}".strip()}
