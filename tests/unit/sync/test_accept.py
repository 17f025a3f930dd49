"""What of a hub's resources comes into force."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from twinbridge.api.accept import Accepted, accept, only_wishes_differ, wishes
from twinbridge.cli.drivers import installed_drivers

API = "devices.twinbridge.io/v1alpha1"
Documents = dict[tuple[str, str], dict[str, Any]]


def model(**more: object) -> dict[str, Any]:
    properties = [
        {
            "name": "speed",
            "type": "int",
            "access": "ReadWrite",
            "maximum": 1500,
            "modbus": {"table": "holding", "address": 0, "encoding": "uint16"},
        }
    ]
    return {
        "apiVersion": API,
        "kind": "DeviceModel",
        "metadata": {"name": "drive", "uid": "m"},
        "spec": {"properties": properties, **more},
    }


def pump(name: str = "pump-1", **spec: object) -> dict[str, Any]:
    return {
        "apiVersion": API,
        "kind": "Device",
        "metadata": {"name": name, "uid": f"uid-{name}", "generation": 1},
        "spec": {
            "modelRef": {"name": "drive"},
            "nodeName": "edge-1",
            "connection": {"modbus": {"host": "127.0.0.1", "port": 5020}},
            **spec,
        },
    }


def keyed(*documents: dict[str, Any]) -> Documents:
    return {(d["kind"], d["metadata"]["name"]): d for d in documents}


def taken(documents: Documents, sound: Mapping[tuple[str, str], Any] | None = None) -> Accepted:
    return accept(documents, sound or {}, installed_drivers(), "edge-1")


def test_a_device_edited_into_nonsense_runs_on_as_it_was() -> None:
    good = keyed(model(), pump())
    before = taken(good)
    bad = good | keyed(pump(modelRef={"name": "unknown"}))
    after = taken(bad, before.in_force)
    assert after.plant.devices["pump-1"].digest == before.plant.devices["pump-1"].digest
    assert "unknown" in after.problems["Device", "pump-1"]
    assert after.in_force == before.in_force


def test_a_new_device_that_is_nonsense_disturbs_nobody() -> None:
    found = taken(keyed(model(), pump(), pump("pump-2", modelRef={"name": "unknown"})))
    assert set(found.plant.devices) == {"pump-1"}
    assert set(found.problems) == {("Device", "pump-2")}


def test_a_device_whose_model_is_gone_runs_on_with_the_one_it_had() -> None:
    before = taken(keyed(model(), pump()))
    after = taken(keyed(pump()), before.in_force)
    assert set(after.plant.devices) == {"pump-1"}
    assert "drive" in after.problems["Device", "pump-1"]
    again = taken(keyed(pump()), after.in_force)
    assert set(again.plant.devices) == {"pump-1"}


def test_a_model_edited_into_nonsense_is_not_taken() -> None:
    before = taken(keyed(model(), pump()))
    after = taken(keyed(model(properties=[]), pump()), before.in_force)
    assert set(after.plant.devices) == {"pump-1"}
    assert ("DeviceModel", "drive") in after.problems


def test_a_sound_model_that_no_longer_fits_its_device_waits_for_it() -> None:
    fitting = pump(properties=[{"name": "speed", "maximum": 1200}])
    before = taken(keyed(model(), fitting))
    other = deepcopy(model())
    other["spec"]["properties"][0]["name"] = "rotation"
    after = taken(keyed(other, fitting), before.in_force)
    assert [p.spec.name for p in after.plant.devices["pump-1"].points] == ["speed"]
    assert "speed" in after.problems["Device", "pump-1"]


def test_what_is_deleted_at_the_hub_is_gone() -> None:
    before = taken(keyed(model(), pump(), pump("pump-2")))
    after = taken(keyed(model(), pump()), before.in_force)
    assert set(after.plant.devices) == {"pump-1"}
    assert not after.problems


def test_a_wish_is_seen_without_looking_at_the_plant() -> None:
    new = pump(desired=[{"name": "speed", "value": 900}])
    assert only_wishes_differ(new, pump())
    assert not only_wishes_differ(pump(poll={"interval": "2s"}), pump())
    found = wishes(new, model(), installed_drivers())
    assert [(w.property, w.value) for w in found.desired] == [("speed", 900)]
    assert not found.problem


def test_a_wish_out_of_range_says_what_is_allowed() -> None:
    new = pump(desired=[{"name": "speed", "value": 9000}])
    assert "1500" in wishes(new, model(), installed_drivers()).problem


def test_a_device_of_the_same_name_that_was_made_anew_is_another_one() -> None:
    new = pump()
    new["metadata"]["uid"] = "other"
    assert not only_wishes_differ(new, pump())
