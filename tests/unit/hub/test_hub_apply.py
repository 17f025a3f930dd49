"""Server-side apply: who owns what, and what goes when its owner leaves it out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinbridge.hub.apply import ApplyConflict, apply, track_update
from twinbridge.hub.schema import ResourceSchema

ITEM = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "value": {"type": "integer"}},
}
SCHEMA = ResourceSchema(
    {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "node": {"type": "string"},
                    "poll": {"type": "object", "properties": {"every": {"type": "string"}}},
                    "list": {"type": "array", "items": {"type": "integer"}},
                    "twins": {
                        "type": "array",
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["name"],
                        "items": ITEM,
                    },
                },
            },
            "status": {"type": "object", "properties": {"seen": {"type": "integer"}}},
        },
    }
)


def document(spec: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "a"}, "spec": spec, **more}


def applied(
    live: dict[str, Any] | None,
    wanted: dict[str, Any],
    manager: str = "me",
    *,
    force: bool = False,
    sub: str = "",
) -> dict[str, Any]:
    return apply(
        live, wanted, manager, SCHEMA, subresource=sub, force=force, now="t", api_version="g/v1"
    )


def updated(
    old: dict[str, Any] | None, new: dict[str, Any], manager: str = "hand"
) -> dict[str, Any]:
    return track_update(old, new, manager, SCHEMA, subresource="", now="t", api_version="g/v1")


def owners(found: dict[str, Any]) -> dict[str, Any]:
    return {entry["manager"]: entry["fieldsV1"] for entry in found["metadata"]["managedFields"]}


def test_what_the_only_owner_leaves_out_goes() -> None:
    first = applied(None, document({"node": "x", "poll": {"every": "1s"}}))
    second = applied(first, document({"node": "x"}))
    assert second["spec"] == {"node": "x"}


def test_what_another_owns_too_stays() -> None:
    first = applied(None, document({"node": "x", "poll": {"every": "1s"}}))
    shared = applied(first, document({"poll": {"every": "1s"}}), "other")
    assert applied(shared, document({"node": "x"}))["spec"]["poll"] == {"every": "1s"}


def test_items_of_a_keyed_list_are_owned_one_by_one() -> None:
    first = applied(None, document({"twins": [{"name": "a", "value": 1}]}))
    second = applied(first, document({"twins": [{"name": "b", "value": 2}]}), "other")
    assert second["spec"]["twins"] == [{"name": "a", "value": 1}, {"name": "b", "value": 2}]
    third = applied(second, document({"twins": []}))
    assert third["spec"]["twins"] == [{"name": "b", "value": 2}]


def test_an_item_that_another_completed_keeps_its_key() -> None:
    first = applied(None, document({"twins": [{"name": "a"}]}))
    value = document({"twins": [{"name": "a", "value": 5}]})
    second = updated(first, {**value, "metadata": first["metadata"]})
    third = applied(second, document({}))
    assert third["spec"]["twins"] == [{"name": "a", "value": 5}]


def test_a_list_without_keys_is_one_value() -> None:
    first = applied(None, document({"list": [1, 2]}))
    with pytest.raises(ApplyConflict) as refused:
        applied(first, document({"list": [1, 2, 3]}), "other")
    assert refused.value.causes == [(".spec.list", '"me" using g/v1')]


def test_an_update_takes_what_it_changes_from_its_owner() -> None:
    first = applied(None, document({"node": "x", "list": [1]}))
    second = updated(first, {**first, "spec": {"node": "y", "list": [1]}})
    assert owners(second)["hand"] == {"f:spec": {"f:node": {}}}
    assert owners(second)["me"] == {"f:spec": {"f:list": {}}}
    with pytest.raises(ApplyConflict) as refused:
        applied(second, document({"node": "x", "list": [1]}))
    assert refused.value.causes == [(".spec.node", '"hand" using g/v1 at t')]


def test_force_takes_what_is_another_s() -> None:
    first = applied(None, document({"node": "x"}))
    second = applied(first, document({"node": "y"}), "other", force=True)
    assert second["spec"] == {"node": "y"}
    assert list(owners(second)) == ["other"]


def test_the_status_alone_is_applied_by_its_subresource() -> None:
    first = applied(None, document({"node": "x"}))
    wanted = document({"node": "z"}, status={"seen": 1})
    second = applied(first, wanted, "agent", sub="status")
    assert second["spec"] == {"node": "x"}
    assert owners(second)["agent"] == {"f:status": {"f:seen": {}}}


SPECS = st.fixed_dictionaries(
    {},
    optional={
        "node": st.sampled_from("xyz"),
        "list": st.lists(st.integers(0, 3), max_size=3),
        "poll": st.fixed_dictionaries({}, optional={"every": st.sampled_from("ab")}),
        "twins": st.lists(
            st.builds(lambda n, v: {"name": n, "value": v}, st.sampled_from("abc"),
                      st.integers(0, 2)),
            max_size=3, unique_by=lambda item: item["name"],
        ),
    },
)  # fmt: skip


@given(st.lists(SPECS, min_size=1, max_size=5))
def test_one_owner_alone_gets_exactly_what_it_applied_last(specs: list[dict[str, Any]]) -> None:
    live = None
    for spec in specs:
        live = applied(live, document(spec))
    assert live is not None
    assert _told(live.get("spec", {})) == _told(specs[-1])


def _told(spec: dict[str, Any]) -> dict[str, Any]:
    """Order of keyed items aside, and what is empty."""
    twins = {item["name"]: item["value"] for item in spec.get("twins", ())}
    rest = {k: v for k, v in spec.items() if k != "twins" and v not in ({}, [])}
    return {**rest, "twins": twins}


@given(SPECS, SPECS)
def test_applying_the_same_again_changes_nothing(one: dict[str, Any], two: dict[str, Any]) -> None:
    live = applied(applied(None, document(one)), document(two), "other", force=True)
    assert applied(live, document(two), "other", force=True) == live
