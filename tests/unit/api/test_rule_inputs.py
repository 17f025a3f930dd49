"""Inputs of a rule: properties of any device of the node, by the name that conditions call them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plants import Resource, load, messages, resources

from twinbridge.core.model import MILLISECOND, SECOND, PropertyRef
from twinbridge.core.rule import Compare, Vote

VERSION = "devices.twinbridge.io/v1alpha1"


def plant() -> tuple[Resource, ...]:
    """The pump, a boiler by OPC UA, a leak sensor by MQTT, and the pump's rule."""
    model, device, rule = resources()
    boiler = _resource(
        "DeviceModel",
        "boiler",
        properties=[
            {"name": "temperature", "type": "float", "opcua": {"node": "nsu=urn:b;s=T"}},
            {"name": "return", "type": "float", "opcua": {"node": "nsu=urn:b;s=R"}},
            {
                "name": "valve",
                "type": "bool",
                "access": "ReadWrite",
                "opcua": {"node": "nsu=urn:b;s=V"},
            },
        ],
    )
    boiler_1 = _resource(
        "Device",
        "boiler-1",
        modelRef={"name": "boiler"},
        nodeName="edge-1",
        connection={"opcua": {"url": "opc.tcp://127.0.0.1:4840", "allowInsecure": True}},
        poll={"interval": "1s"},
    )
    leak = _resource(
        "DeviceModel",
        "leak",
        properties=[
            {"name": "wet", "type": "bool", "mqtt": {"topic": "{device}", "pointer": "/w"}}
        ],
    )
    leak_1 = _resource(
        "Device",
        "leak-1",
        modelRef={"name": "leak"},
        nodeName="edge-1",
        connection={"mqtt": {"url": "mqtt://127.0.0.1:1883", "maxAge": "10s"}},
        poll={"interval": "10s"},
    )
    return model, device, boiler, boiler_1, leak, leak_1, rule


def _resource(kind: str, name: str, **spec: Any) -> Resource:
    return {"apiVersion": VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


T = {"name": "t", "device": "boiler-1", "property": "temperature"}
R = {"name": "r", "device": "boiler-1", "property": "return"}
WET = {"name": "wet", "device": "leak-1", "property": "wet"}


def with_rule(**spec: Any) -> tuple[Resource, ...]:
    *others, rule = plant()
    rule["spec"].update(spec)
    return *others, rule


def test_a_rule_reads_devices_of_three_protocols_and_stops_a_fourth_property(
    tmp_path: Path,
) -> None:
    hot = {"input": "t", "above": 120, "deadband": 5}
    loaded = load(
        tmp_path,
        *with_rule(
            inputs=[T, WET],
            when={"any": [hot, {"input": "wet", "equals": True}], "onBad": "Trip"},
            trip={
                "write": [
                    {"property": "run", "value": False},
                    {"device": "boiler-1", "property": "valve", "value": False},
                ]
            },
        ),
    )
    assert messages(loaded) == ""
    (instance,) = loaded.instances
    assert instance.device == "pump-1"
    assert isinstance(instance.condition, Vote)
    first, second = instance.condition.of
    assert isinstance(first, Compare)
    assert isinstance(second, Compare)
    assert first.input == PropertyRef("boiler-1", "temperature")
    assert second.input == PropertyRef("leak-1", "wet")
    assert second.value is True
    assert instance.trip is not None
    assert [w.target.device for w in instance.trip.writes] == ["pump-1", "boiler-1"]


def test_what_a_trip_reads_on_another_device_is_polled_fast_and_urgent(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        *with_rule(
            inputs=[T, R],
            when={"input": "t", "deviation": {"input": "r", "above": 20}, "onBad": "Trip"},
        ),
    )
    points = {p.spec.name: p for p in loaded.devices["boiler-1"].points}
    assert {name: p.urgent for name, p in points.items()} == {
        "temperature": True,
        "return": True,
        "valve": False,
    }
    assert points["temperature"].interval == 100 * MILLISECOND
    assert points["valve"].interval == SECOND


def test_a_deviation_may_be_between_devices(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        *with_rule(
            inputs=[T],
            when={
                "property": "temperature",
                "deviation": {"input": "t", "above": 20},
                "onBad": "Trip",
            },
        ),
    )
    (instance,) = loaded.instances
    assert isinstance(instance.condition, Compare)
    assert instance.condition.input == PropertyRef("pump-1", "temperature")
    assert instance.condition.reference == PropertyRef("boiler-1", "temperature")


def test_from_means_a_property_of_the_device_that_the_input_is_on(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        *with_rule(
            inputs=[T],
            when={"input": "t", "deviation": {"from": "return", "above": 20}, "onBad": "Trip"},
        ),
    )
    (instance,) = loaded.instances
    assert isinstance(instance.condition, Compare)
    assert instance.condition.reference == PropertyRef("boiler-1", "return")


def test_an_input_without_a_device_is_of_the_rules_own(tmp_path: Path) -> None:
    own = {"name": "own", "property": "temperature"}
    loaded = load(
        tmp_path, *with_rule(inputs=[own], when={"input": "own", "above": 85, "onBad": "Trip"})
    )
    (instance,) = loaded.instances
    assert isinstance(instance.condition, Compare)
    assert instance.condition.input == PropertyRef("pump-1", "temperature")


@pytest.mark.parametrize(
    ("more", "input_more", "expected"),
    [
        ({}, {}, 3 * SECOND),
        ({}, {"staleAfter": "7s"}, 7 * SECOND),
        ({"staleAfter": "5s"}, {"staleAfter": "7s"}, 5 * SECOND),
    ],
)
def test_the_nearest_word_on_staleness_counts(
    tmp_path: Path, more: dict[str, str], input_more: dict[str, str], expected: int
) -> None:
    when = {"input": "t", "above": 85, **more}
    *others, rule = with_rule(inputs=[{**T, **input_more}], when=when, latch=False)
    del rule["spec"]["trip"]
    (instance,) = load(tmp_path, *others, rule).instances
    assert isinstance(instance.condition, Compare)
    assert instance.condition.stale_after == expected


HOT = {"input": "t", "above": 85, "onBad": "Trip"}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            {"inputs": [T], "when": {"input": "tt", "above": 85, "onBad": "Trip"}},
            "spec.when.input: unknown input 'tt'",
        ),
        (
            {"inputs": [{**T, "device": "boiler-2"}], "when": HOT},
            "spec.inputs[t].device: unknown device 'boiler-2' (did you mean 'boiler-1'?)",
        ),
        (
            {"inputs": [{**T, "property": "temprature"}], "when": HOT},
            "spec.inputs[t].property: unknown property 'temprature'",
        ),
        (
            {"inputs": [T, {**T}], "when": HOT},
            "spec.inputs[t].name: t is given twice",
        ),
        (
            {"inputs": [WET], "when": {"input": "wet", "above": 1, "onBad": "Trip"}},
            "above is for numbers, and wet is a bool",
        ),
        (
            {"inputs": [T], "when": {"any": [HOT | {"property": "run"}], "onBad": "Trip"}},
            "exactly one of the two",
        ),
    ],
)
def test_a_mistake_in_an_input_is_said_with_its_place(
    tmp_path: Path, spec: dict[str, Any], said: str
) -> None:
    if "any" in spec["when"]:
        spec["when"]["any"][0].pop("onBad")
    loaded = load(tmp_path, *with_rule(**spec))
    assert said in messages(loaded)
    assert loaded.instances == ()


def test_an_input_on_another_node_is_refused(tmp_path: Path) -> None:
    resources = with_rule(inputs=[T], when=HOT)
    resources[3]["spec"]["nodeName"] = "edge-2"
    loaded = load(tmp_path, *resources)
    assert "device boiler-1 is on node edge-2, not edge-1" in messages(loaded)
    assert loaded.instances == ()


def test_an_input_that_no_condition_reads_is_a_warning(tmp_path: Path) -> None:
    loaded = load(tmp_path, *with_rule(inputs=[T, R], when=HOT))
    assert "spec.inputs[r]: warning: no condition reads the input r" in messages(loaded)
    assert loaded.sound
    assert len(loaded.instances) == 1


def test_trips_that_would_write_against_each_other_are_warned_of(tmp_path: Path) -> None:
    resources = with_rule(inputs=[T], when=HOT)
    other = _resource("Rule", "start-it", **resources[-1]["spec"])
    other["spec"]["trip"] = {"write": [{"property": "run", "value": True}]}
    loaded = load(tmp_path, *resources, other)
    said = "writes true to pump-1/run, where rule pump-overheat writes false"
    assert f"Rule/start-it: spec.trip.write: warning: {said}" in messages(loaded)
    assert loaded.sound
    assert len(loaded.instances) == 2
