"""The CRDs: structural, described, and of one mind with the models."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster import PRESERVE, prune, refusals
from plants import DRIVERS, Resource, load, resources

from twinbridge.api.crds import crds, dump, schema_of
from twinbridge.api.reference import markdown

FOLDER = Path(__file__).parents[3] / "crds"
CRDS = crds(DRIVERS)


def walk(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from walk(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from walk(schema[key], f"{path}[]")


def schemas() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, crd in CRDS.items():
        yield from walk(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], name)


def test_every_node_is_structural_and_every_field_described() -> None:
    for path, schema in schemas():
        assert "type" in schema or schema.get(PRESERVE), path
        assert not {"$ref", "anyOf", "allOf", "not", "const", "default", "title"} & set(schema), (
            path
        )
        assert not ("properties" in schema and "additionalProperties" in schema), path
        assert schema.get("description") or path.endswith("[]"), path
        assert all(set(way) == {"required"} for way in schema.get("oneOf", ())), path
        known = schema.get("properties", {})
        assert set(schema.get("required", ())) <= set(known), path


def test_a_list_map_has_required_keys() -> None:
    maps = [(p, s) for p, s in schemas() if s.get("x-kubernetes-list-type") == "map"]

    assert len(maps) >= 6
    for path, schema in maps:
        assert set(schema["x-kubernetes-list-map-keys"]) <= set(schema["items"]["required"]), path


def test_rules_name_only_fields_that_cel_can_see() -> None:
    """CEL knows neither fields without a type nor its own reserved words."""
    for path, schema in schemas():
        for rule in schema.get("x-kubernetes-validations", ()):
            for field in re.findall(r"self\.(\w+)", rule["rule"]):
                if field != "size":
                    assert "type" in schema["properties"][field], f"{path}.{field}"


def test_what_kubectl_shows() -> None:
    spec = CRDS["devices.yaml"]["spec"]
    version = spec["versions"][0]

    assert [c["name"] for c in version["additionalPrinterColumns"]] == [
        "Model", "Node", "Connected", "Synced", "Tripped", "Age",
    ]  # fmt: skip
    assert version["selectableFields"] == [{"jsonPath": ".spec.nodeName"}]
    assert version["subresources"] == {"status": {}}
    names = [crd["spec"]["names"] for crd in CRDS.values()]
    assert [n["shortNames"] for n in names] == [["dm"], ["dev"], ["rule"], ["en"]]
    assert all(n["categories"] == ["twinbridge"] for n in names)


def test_the_files_are_what_the_models_say() -> None:
    for name, crd in CRDS.items():
        assert (FOLDER / name).read_text() == dump(crd)
        assert yaml.safe_load(dump(crd)) == crd


def cluster_says(resource: Resource) -> list[str]:
    schema = schema_of(resource["kind"], DRIVERS)
    return list(refusals(schema, prune(schema, resource)))


def test_the_example_is_taken() -> None:
    assert [cluster_says(r) for r in resources()] == [[], [], []]


HOT = {"property": "temperature", "above": 1}
WARM = {"input": "t", "above": 1}
APART = {"property": "temperature", "onBad": "Trip"}
T = {"name": "t", "property": "temperature"}
Bend = Callable[[Resource, Resource, Resource], object]
BENDS: list[Bend] = [
    lambda m, d, r: d["spec"].update(connection={}),
    lambda m, d, r: d["spec"]["connection"].update(custom={"driver": "modbus"}),
    lambda m, d, r: d["spec"].pop("nodeName"),
    lambda m, d, r: d["spec"]["poll"].update(interval="1 s"),
    lambda m, d, r: d["spec"]["desired"].append(d["spec"]["desired"][0]),
    lambda m, d, r: d["spec"]["desired"][0].update(
        validFor="1s", validUntil="2026-01-31T08:00:00Z"
    ),
    lambda m, d, r: m["spec"]["properties"][0].update(minimum=201),
    lambda m, d, r: m["spec"]["properties"][0].update(type="double"),
    lambda m, d, r: m["spec"]["properties"][0].update(pulse=True),
    lambda m, d, r: m["spec"]["properties"][0].update(onReconnect="Reapply"),
    lambda m, d, r: m["spec"]["properties"][0]["modbus"].update(address=65536),
    lambda m, d, r: m["spec"].update(properties=[]),
    lambda m, d, r: r["spec"]["when"].pop("onBad"),
    lambda m, d, r: r["spec"].pop("mode"),
    lambda m, d, r: r["spec"].update(act={"write": [{"property": "run", "value": True}]}),
    lambda m, d, r: r["spec"].update(tirp=r["spec"].pop("trip")),
    lambda m, d, r: r["spec"].update(latch=True),
    lambda m, d, r: r["spec"].update(trip={"write": []}),
    lambda m, d, r: r["spec"].update(devices={}),
    lambda m, d, r: r["spec"]["devices"].update(name="pump-1"),
    lambda m, d, r: r["spec"]["when"].update(below=1),
    lambda m, d, r: r["spec"]["when"].update(equals=1),
    lambda m, d, r: r["spec"]["when"].pop("above"),
    lambda m, d, r: r["spec"]["when"].pop("property"),
    lambda m, d, r: r["spec"]["when"].update(deadband=-1),
    lambda m, d, r: r["spec"]["when"].update(window="1s"),
    lambda m, d, r: r["spec"].update(when={"property": "temperature", "inside": [2, 1]}),
    lambda m, d, r: r["spec"].update(when={"property": "temperature", "outside": [1]}),
    lambda m, d, r: r["spec"].update(when={"property": "temperature", "rateAbove": 1}),
    lambda m, d, r: r["spec"].update(when={"any": [], "onBad": "Trip"}),
    lambda m, d, r: r["spec"].update(when={"atLeast": 2, "of": [HOT], "onBad": "Trip"}),
    lambda m, d, r: r["spec"].update(when={"atLeast": 2, "onBad": "Trip"}),
    lambda m, d, r: r["spec"].update(when={"any": [HOT], **HOT, "onBad": "Trip"}),
    lambda m, d, r: r["spec"].update(when={"any": [HOT], "property": "run", "onBad": "Trip"}),
    lambda m, d, r: r["spec"].update(when={"all": [{"any": [{"all": [HOT]}]}], "onBad": "Trip"}),
    lambda m, d, r: r["spec"].update(inputs=[T, T], when={**WARM, "onBad": "Trip"}),
    lambda m, d, r: r["spec"].update(inputs=[{"name": "t"}], when={**WARM, "onBad": "Trip"}),
    lambda m, d, r: r["spec"].update(inputs=[T], when={**HOT, **WARM, "onBad": "Trip"}),
    lambda m, d, r: r["spec"].update(inputs=[T], when={**WARM, "device": "d", "onBad": "Trip"}),
    lambda m, d, r: r["spec"].update(
        inputs=[T], when={"any": [HOT], "input": "t", "onBad": "Trip"}
    ),
    lambda m, d, r: r["spec"].update(when={**APART, "deviation": {"above": 1}}),
    lambda m, d, r: r["spec"].update(
        inputs=[T], when={**APART, "deviation": {"above": 1, "from": "run", "input": "t"}}
    ),
]


@pytest.mark.parametrize("bend", BENDS)
def test_cluster_and_models_refuse_the_same(tmp_path: Path, bend: Bend) -> None:
    bent = copy.deepcopy(resources())
    bend(*bent)

    assert not load(tmp_path, *bent).sound
    assert any(cluster_says(copy.deepcopy(r)) for r in bent)


@pytest.mark.parametrize(
    "when",
    [
        {"property": "run", "equals": False},
        {"property": "run", "notEquals": True, "for": "1s", "clearFor": "2s"},
        {"property": "temperature", "inside": [1, 2.5]},
        {"property": "temperature", "rateAbove": 0.5, "window": "10s"},
        {"property": "temperature", "deviation": {"from": "temperature", "above": 2}},
        WARM,
        {"input": "t", "deviation": {"from": "temperature", "above": 2}},
        {"property": "temperature", "deviation": {"input": "t", "above": 2}},
        {"atLeast": 2, "of": [HOT, {"any": [HOT, {"property": "run", "equals": True}]}, HOT]},
    ],
)
def test_cluster_and_models_take_the_same(tmp_path: Path, when: dict[str, Any]) -> None:
    model, device, rule = resources()
    rule["spec"].update(inputs=[T], when={**when, "onBad": "Trip"})

    assert load(tmp_path, model, device, rule).sound
    assert cluster_says(rule) == []


def test_the_reference_names_every_field_of_the_example() -> None:
    page = (FOLDER.parent / "docs" / "reference" / "resources.md").read_text()

    assert page == markdown(DRIVERS)
    for field in ("spec.properties[].modbus.scale", "spec.poll.tripInterval", "spec.when.onBad"):
        assert f"`{field}`" in page
