"""Random writes by several managers come out as a slow and plain apply has them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import apply_reference as reference
from hypothesis import given
from hypothesis import strategies as st
from test_hub_apply import SCHEMA, SPECS, document

from twinbridge.hub.apply import ApplyConflict, apply, track_update
from twinbridge.hub.field_sets import common, minus, paths, union

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["apply", "force", "update"]), st.sampled_from(["ann", "ben"]), SPECS
    ),
    min_size=1,
    max_size=6,
)
HOW: dict[str, Any] = {"subresource": "", "now": "t", "api_version": "g/v1"}
NAMES = st.sampled_from(["f:a", "f:b", 'k:{"n":"x"}'])
SETS = st.frozensets(st.lists(NAMES, min_size=1, max_size=3).map(tuple), max_size=6)


def owned(live: dict[str, Any]) -> dict[tuple[str, str], set[tuple[str, ...]]]:
    return {
        (entry["manager"], entry["operation"]): set(paths(entry["fieldsV1"]))
        for entry in live["metadata"]["managedFields"]
    }


def without_owners(live: dict[str, Any]) -> dict[str, Any]:
    metadata = {k: v for k, v in live["metadata"].items() if k != "managedFields"}
    return {**live, "metadata": metadata}


def by_the_hub(live: Any, how: str, manager: str, spec: Any) -> Any:
    wanted = document(spec)
    if how == "update":
        managed = {} if live is None else {"managedFields": live["metadata"]["managedFields"]}
        new = {**wanted, "metadata": {**wanted["metadata"], **managed}}
        return track_update(live, new, manager, SCHEMA, **HOW)
    try:
        return apply(live, wanted, manager, SCHEMA, force=how == "force", **HOW)
    except ApplyConflict:
        return None


def by_the_reference(live: Any, how: str, manager: str, spec: Any) -> Any:
    wanted, schema = document(spec), SCHEMA.structure.schema
    if how == "update":
        return reference.track_update(live, wanted, manager, schema, **HOW)
    return reference.apply(live, wanted, manager, schema, force=how == "force", **HOW)


@given(STEPS)
def test_random_writes_of_two_managers_come_out_as_in_the_reference(steps: Any) -> None:
    live = None
    for how, manager, spec in steps:
        before = deepcopy(live)
        expected = by_the_reference(live, how, manager, spec)
        found = by_the_hub(live, how, manager, spec)
        assert live == before, "what is given stays as it was"
        assert (found is None) == (expected is None)
        if expected is None:
            continue
        assert without_owners(found) == without_owners(expected)
        assert owned(found) == owned(expected)
        live = found


@given(SETS, SETS)
def test_trees_of_fields_are_sets_of_paths(one: Any, other: Any) -> None:
    a, b = reference._tree(one), reference._tree(other)
    assert set(paths(a)) == one
    assert set(paths(common(a, b))) == one & other
    assert set(paths(minus(a, b))) == one - other
    assert set(paths(union(a, b))) == one | other
