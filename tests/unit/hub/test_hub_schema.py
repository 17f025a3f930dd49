"""What the hub refuses, in the API server's words."""

from __future__ import annotations

from typing import Any

import pytest

from twinbridge.api.crds import crds
from twinbridge.cli.drivers import installed_drivers
from twinbridge.hub.schema import ResourceSchema

CRDS = crds(installed_drivers())
TOO_MANY = {f"label_{n}": "x" for n in range(33)}
API = "devices.twinbridge.io/v1alpha1"


def edge_node(**spec: object) -> dict[str, Any]:
    return {"apiVersion": API, "kind": "EdgeNode", "metadata": {"name": "e"}, "spec": spec}


def said(**spec: object) -> list[tuple[str, str]]:
    schema = ResourceSchema.of(CRDS["edgenodes.yaml"], "v1alpha1")
    return [(cause.field, cause.type) for cause in schema.check(edge_node(**spec), None)]


def test_what_is_sound_is_taken() -> None:
    assert said(site="hall", connectivity={"mode": "hybrid"}) == []


@pytest.mark.parametrize(
    ("spec", "field", "kind"),
    [
        ({"site": 5}, "spec.site", "FieldValueTypeInvalid"),
        ({"connectivity": {"mode": "maybe"}}, "spec.connectivity.mode", "FieldValueNotSupported"),
        (
            {"telemetry": {"prometheus": {"url": "http://h", "labels": TOO_MANY}}},
            "spec.telemetry.prometheus.labels",
            "FieldValueTooMany",
        ),
        ({"telemetry": {"prometheus": {}}}, "spec.telemetry.prometheus.url", "FieldValueRequired"),
        ({"scada": {"mqtt": {"broker": 1}}}, "spec.scada.mqtt.broker", "FieldValueTypeInvalid"),
    ],
)
def test_each_mistake_is_named_with_its_field(spec: dict[str, Any], field: str, kind: str) -> None:
    assert (field, kind) in said(**spec)
