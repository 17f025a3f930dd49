"""Cross-checks: all that is wrong at once, each at its place, and the sound rest runs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plants import DRIVERS, EXAMPLE, Resource, load, load_text, messages, resources
from pydantic import BaseModel, ConfigDict

from twinbridge.api.driver_models import DriverModels
from twinbridge.api.plant import compile_plant, load_plant
from twinbridge.api.yaml_source import Document
from twinbridge.core.model import MILLISECOND, SECOND, PropertySpec
from twinbridge.core.rule import Compare, OnBad, Vote


def test_the_example_of_the_design_is_sound() -> None:
    plant = load_plant([EXAMPLE], DRIVERS)

    assert plant.problems == ()
    device = plant.devices["pump-1"]
    assert [p.spec.name for p in device.points] == ["temperature", "run"]
    assert [p.interval for p in device.points] == [100 * MILLISECOND, 500 * MILLISECOND]
    (rule,) = plant.instances
    assert isinstance(rule.condition, Compare)
    assert (rule.condition.limit, rule.on_delay) == (85.0, 200 * MILLISECOND)
    assert (rule.on_bad, rule.latch) == (OnBad.TRIP, True)
    assert plant.rules["pump-overheat"].devices == ("pump-1",)


HOT = {"property": "temperature", "above": 85}
COLD = {"property": "temperature", "below": 5}
Bend = Callable[[Resource, Resource, Resource], object]


@pytest.mark.parametrize(
    ("bend", "said"),
    [
        (
            lambda m, d, r: d["spec"]["poll"].update(intervall="1s"),
            ": Device/pump-1: spec.poll.intervall: unknown field (did you mean 'interval'?)",
        ),
        (
            lambda m, d, r: d["spec"]["poll"].update(interval=500),
            "Device/pump-1: spec.poll.interval: a duration needs a unit: 500ms",
        ),
        (
            lambda m, d, r: m["spec"]["properties"][0].update(access="ReadOnyl"),
            "spec.properties[temperature].access: 'ReadOnyl' is not one of",
        ),
        (
            lambda m, d, r: m["spec"]["properties"][0].update(minimun=3),
            "spec.properties[temperature].minimun: unknown field (did you mean 'minimum'?)",
        ),
        (
            lambda m, d, r: m["spec"]["properties"][0].update(minimum="3"),
            "spec.properties[temperature].minimum: input should be a valid number, not '3'",
        ),
        (
            lambda m, d, r: m["spec"]["properties"][0].update(minimum=300),
            "minimum (300) must not be above maximum (200)",
        ),
        (
            lambda m, d, r: m["spec"]["properties"][0]["modbus"].update(tabel="input"),
            "spec.properties[temperature].modbus.tabel: unknown field (did you mean 'table'?)",
        ),
        (
            lambda m, d, r: m["spec"]["properties"].append(m["spec"]["properties"][0]),
            "temperature is given twice",
        ),
        (
            lambda m, d, r: m["spec"]["properties"][1].update(
                feedback={"property": "runing", "equals": False, "within": "2s"}
            ),
            "feedback.property: unknown property 'runing' (did you mean 'run'?)",
        ),
        (
            lambda m, d, r: d["spec"]["modelRef"].update(name="pump-driver"),
            "spec.modelRef.name: unknown DeviceModel 'pump-driver' (did you mean 'pump-drive'?)",
        ),
        (
            lambda m, d, r: d["spec"].update(connection={"modbs": {}}),
            "spec.connection.modbs: unknown protocol 'modbs' (did you mean 'modbus'?)",
        ),
        (
            lambda m, d, r: d["spec"].update(connection={"custom": {"driver": "s7"}}),
            "spec.connection.custom: unknown driver 's7'",
        ),
        (
            lambda m, d, r: d["spec"]["connection"].update(custom={"driver": "s7"}),
            "spec.connection: give exactly one protocol of",
        ),
        (
            lambda m, d, r: m["spec"]["properties"][1].pop("modbus"),
            "property run has no modbus address",
        ),
        (
            lambda m, d, r: d["spec"]["desired"][0].update(value=1),
            "spec.desired[run].value: 1 is no bool",
        ),
        (
            lambda m, d, r: d["spec"].update(desired=[{"name": "temperature", "value": 1}]),
            "temperature is ReadOnly and cannot be written",
        ),
        (
            lambda m, d, r: d["spec"].update(
                properties=[{"name": "temp", "poll": {"interval": "1s"}}]
            ),
            "spec.properties[temp].name: unknown property 'temp'",
        ),
        (
            lambda m, d, r: d["spec"]["desired"][0].update(
                validFor="1s", validUntil="2026-01-31T08:00:00Z"
            ),
            "give validUntil or validFor, not both",
        ),
        (
            lambda m, d, r: r["spec"]["when"].update(property="temprature"),
            "spec.when.property: unknown property 'temprature' (did you mean 'temperature'?)",
        ),
        (lambda m, d, r: r["spec"]["when"].pop("onBad"), "must say when.onBad"),
        (lambda m, d, r: r["spec"].pop("mode"), "Rule/pump-overheat: spec.mode: is required"),
        (
            lambda m, d, r: r["spec"].update(act={"write": [{"property": "run", "value": True}]}),
            "give exactly one of trip, act and latch",
        ),
        (lambda m, d, r: r["spec"]["when"].update(below=3), "not above and below"),
        (
            lambda m, d, r: r["spec"]["when"].update(deadband=-1),
            "spec.when.deadband: input should be greater than or equal to 0",
        ),
        (
            lambda m, d, r: r["spec"]["when"].update(above=float("nan")),
            "spec.when.above: input should be a finite number",
        ),
        (
            lambda m, d, r: r["spec"]["trip"]["write"][0].update(value="off"),
            "spec.trip.write[0].value: 'off' is no bool",
        ),
        (
            lambda m, d, r: r["spec"]["trip"]["write"][0].update(property="temperature", value=1),
            "temperature is ReadOnly",
        ),
        (
            lambda m, d, r: r["spec"]["trip"]["write"][0].update(device="pump-2"),
            "spec.trip.write[0].device: unknown device 'pump-2' (did you mean 'pump-1'?)",
        ),
        (
            lambda m, d, r: m["spec"]["properties"][1].update(pulse=True),
            "run is a pulse: a trip can verify it only by feedback",
        ),
        (
            lambda m, d, r: (
                m["spec"]["properties"][1].update(access="WriteOnly"),
                r["spec"].update(when={"property": "run", "equals": True, "onBad": "Trip"}),
            ),
            "spec.when.property: run is WriteOnly and is never read",
        ),
        (
            lambda m, d, r: r["spec"].update(nodeName="edge-2", devices={"name": "pump-1"}),
            "device pump-1 is on node edge-1, not edge-2",
        ),
        (
            lambda m, d, r: r["spec"]["devices"].update(selector={"matchLabels": {"line": "x"}}),
            "warning: matches no device on node edge-1",
        ),
        (
            lambda m, d, r: m["spec"]["properties"].append(
                {
                    "name": "raw",
                    "type": "int",
                    "modbus": {"table": "input", "address": 0, "encoding": "uint32"},
                }
            ),
            "pump-1/temperature and pump-1/raw contradict each other",
        ),
        (
            lambda m, d, r: m["spec"]["properties"][1].update(
                feedback={"property": "run", "equals": False, "within": "2s"}
            ),
            "feedback must be another property",
        ),
        (
            lambda m, d, r: r["spec"].update(
                when={"any": [{**COLD, "below": 90}, HOT], "onBad": "Trip"}
            ),
            "below 90 and above 85 of temperature leave no value between them",
        ),
        (
            lambda m, d, r: r["spec"].update(
                when={"any": [COLD, {**HOT, "deadband": 80}], "onBad": "Trip"}
            ),
            "the deadband of temperature must be smaller",
        ),
        (
            lambda m, d, r: r["spec"]["when"].update(property="run"),
            "spec.when.above: above is for numbers, and run is a bool",
        ),
        (lambda m, d, r: d.update(apiVersion="v1"), "apiVersion: 'v1' is not served"),
        (lambda m, d, r: d["metadata"].update(name="Pump_1"), "metadata.name: "),
    ],
)
def test_a_mistake_is_said_with_its_place_and_what_is_allowed(
    tmp_path: Path, bend: Bend, said: str
) -> None:
    model, device, rule = resources()
    bend(model, device, rule)

    plant = load(tmp_path, *copy.deepcopy((model, device, rule)))

    assert said in messages(plant)
    assert all(p.line for p in plant.problems)
    assert plant.sound == said.startswith("warning")


def test_the_line_is_that_of_the_field(tmp_path: Path) -> None:
    text = EXAMPLE.read_text().replace("poll: {interval: 500ms}", "poll:\n    intervall: 500ms")

    (problem, *_) = load_text(tmp_path, text).problems

    assert text.splitlines()[problem.line - 1].strip() == "intervall: 500ms"


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    model, device, rule = resources()
    model["spec"]["properties"][0]["typo"] = 1
    device["spec"]["nodename"] = "x"
    rule["spec"]["severity"] = "criticl"

    said = messages(load(tmp_path, model, device, rule))

    assert "properties[temperature].typo" in said
    assert "spec.nodename: unknown field (did you mean 'nodeName'?)" in said
    assert "'criticl' is not one of" in said


def test_a_bad_device_stops_neither_the_others_nor_their_rules(tmp_path: Path) -> None:
    model, device, rule = resources()
    other = copy.deepcopy(device)
    other["metadata"]["name"] = "pump-2"
    other["spec"]["desired"][0]["value"] = 7

    plant = load(tmp_path, model, device, other, rule)

    assert list(plant.devices) == ["pump-1"]
    assert [i.id for i in plant.instances] == ["pump-overheat:pump-1"]
    assert "device pump-2 is refused itself" in messages(plant)
    assert plant.rejected == {"Device/pump-2"}


def test_a_second_definition_is_refused_and_the_first_runs(tmp_path: Path) -> None:
    text = EXAMPLE.read_text()
    plant = load_text(tmp_path, f"{text}\n---\n{text.split('---')[1]}")

    assert "Device/pump-1: metadata.name: is defined twice" in messages(plant)
    assert list(plant.devices) == ["pump-1"]


def test_two_devices_at_one_station_must_agree_on_its_registers(tmp_path: Path) -> None:
    model, device, _ = resources()
    other = copy.deepcopy(device)
    other["metadata"]["name"] = "pump-2"
    other["spec"]["properties"] = [
        {"name": "temperature", "modbus": {"table": "input", "address": 0, "encoding": "float32"}}
    ]

    assert "pump-1/temperature and pump-2/temperature contradict" in messages(
        load(tmp_path, model, device, other)
    )


def test_only_what_names_the_node_is_taken(tmp_path: Path) -> None:
    model, device, rule = resources()
    other = copy.deepcopy(device)
    other["metadata"]["name"] = "pump-2"
    other["spec"]["nodeName"] = "edge-2"

    plant = load(tmp_path, model, device, other, rule, node="edge-2")

    assert (list(plant.devices), plant.instances, plant.problems) == (["pump-2"], (), ())


def test_a_digest_changes_with_the_definition_and_with_nothing_else(tmp_path: Path) -> None:
    def digest(model: Resource, device: Resource, *rules: Resource) -> str:
        return load(tmp_path, model, device, *rules).devices["pump-1"].digest

    model, device, rule = resources()
    first = digest(model, device, rule)
    device["metadata"]["annotations"] = {"note": "x"}
    assert digest(model, device, rule) == first
    assert digest(model, device) != first
    model["spec"]["properties"][0]["maximum"] = 150
    assert digest(model, device, rule) != first


def test_staleness_defaults_to_three_polls_but_two_seconds(tmp_path: Path) -> None:
    model, device, rule = resources()
    rule["spec"]["when"].pop("staleAfter")
    rule["spec"].pop("trip")
    rule["spec"]["when"]["onBad"] = "Alarm"
    rule["spec"]["latch"] = False
    for interval, expected in (("500ms", 2 * SECOND), ("10s", 30 * SECOND)):
        device["spec"]["poll"]["interval"] = interval
        (instance,) = load(tmp_path, model, device, rule).instances
        assert isinstance(instance.condition, Compare)
        assert instance.condition.stale_after == expected


def test_votes_nest_and_may_look_at_other_devices(tmp_path: Path) -> None:
    model, device, rule = resources()
    other = copy.deepcopy(device)
    other["metadata"] = {"name": "pump-2"}
    other["spec"]["connection"]["modbus"]["port"] = 5021
    hot = {"property": "temperature", "above": 90}
    runs = {"property": "run", "equals": True}
    rule["spec"]["when"] = {
        "any": [
            {"atLeast": 2, "of": [hot, {**hot, "device": "pump-2"}, runs]},
            {"property": "temperature", "rateAbove": 5, "window": "10s"},
        ],
        "staleAfter": "4s",
        "onBad": "Alarm",
    }  # fmt: skip

    plant = load(tmp_path, model, device, other, rule)

    assert messages(plant) == ""
    condition = plant.instances[0].condition
    assert isinstance(condition, Vote)
    assert (condition.need, len(condition.of)) == (1, 2)
    inner = condition.of[0]
    assert isinstance(inner, Vote)
    assert inner.need == 2
    assert [str(c.input) for c in inner.of if isinstance(c, Compare)] == [
        "pump-1/temperature",
        "pump-2/temperature",
        "pump-1/run",
    ]
    assert [c.stale_after for c in inner.of if isinstance(c, Compare)] == [4 * SECOND] * 3
    assert plant.devices["pump-2"].points[0].interval == 100 * MILLISECOND


class Station(BaseModel):
    model_config = ConfigDict(extra="forbid")
    rack: int


class Place(BaseModel):
    model_config = ConfigDict(extra="forbid")
    db: int


class S7:
    """A driver from elsewhere."""

    name = "s7"
    connection_model: type[BaseModel] = Station
    address_model: type[BaseModel] = Place

    def check(self, spec: PropertySpec, address: BaseModel) -> Iterable[str]:
        del address
        return ["strings are not known here"] if spec.type == "string" else []

    def overlap(self, first: object, second: object) -> str | None:
        return "same db" if first == second else None

    def bind(self, spec: PropertySpec, connection: BaseModel, address: BaseModel) -> object:
        del spec, connection
        return address.model_dump()["db"]


CUSTOM = """
apiVersion: devices.twinbridge.io/v1alpha1
kind: DeviceModel
metadata: {name: press}
spec:
  properties:
  - {name: force, type: float, custom: {driver: s7, db: 7}}
---
apiVersion: devices.twinbridge.io/v1alpha1
kind: Device
metadata: {name: press-1}
spec:
  modelRef: {name: press}
  nodeName: edge-1
  connection: {custom: {driver: s7, rack: 2}}
"""


def test_a_driver_from_elsewhere_checks_its_own_blocks(tmp_path: Path) -> None:
    drivers: dict[str, DriverModels] = {**DRIVERS, "s7": S7()}
    file = tmp_path / "press.yaml"

    def said(text: str) -> str:
        file.write_text(text)
        return messages(load_plant([file], drivers))

    assert said(CUSTOM) == ""
    device = load_plant([file], drivers).devices["press-1"]
    assert (device.protocol, device.points[0].address) == ("s7", 7)
    assert "spec.connection.custom.rack: is required" in said(CUSTOM.replace("rack: 2", ""))
    assert "[force].custom.dbb: unknown field (did you mean 'db'?)" in said(
        CUSTOM.replace("db: 7", "db: 7, dbb: 7")
    )
    assert "strings are not known here" in said(CUSTOM.replace("float", "string"))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=3,
)


def places(value: object) -> list[tuple[Any, Any]]:
    """Every (container, key) under a value."""
    if not isinstance(value, dict | list):
        return []
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    inner = [place for key in keys for place in places(value[key])]
    return [(value, key) for key in keys] + inner


@given(data=st.data())
def test_whatever_stands_in_a_field_it_is_taken_or_told(data: st.DataObject) -> None:
    documents = list(resources())
    container, key = data.draw(st.sampled_from(places(documents)))
    container[key] = data.draw(ANYTHING)

    plant = compile_plant([Document("x", content) for content in documents], DRIVERS)

    assert plant.sound or all(str(p).startswith("x: ") for p in plant.problems)
    assert plant.problems or plant.instances or plant.devices


def test_a_number_beyond_64_bits_is_a_number_still(tmp_path: Path) -> None:
    model, device, _ = resources()
    model["spec"]["properties"][0]["maximum"] = 2**70

    assert load(tmp_path, model, device).devices["pump-1"].points[0].spec.maximum == 2.0**70
