"""A schema's words, each with the API server's message."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinbridge.errors import InvalidDefinition
from twinbridge.hub.json_values import same
from twinbridge.hub.schema import ResourceSchema

RULES = "x-kubernetes-validations"


def schema_of(spec: dict[str, Any], **root: Any) -> ResourceSchema:
    return ResourceSchema({"type": "object", "properties": {"spec": spec}, **root})


def told(spec: dict[str, Any], value: object, old: object = None) -> list[str]:
    """What is said of a value at `spec`; `old`: the value before, if there was one."""
    before = None if old is None else {"metadata": {}, "spec": old}
    found = schema_of(spec).check({"metadata": {}, "spec": value}, before)
    return [f"{cause.field}: {cause.message}" for cause in found]


@pytest.mark.parametrize(
    ("spec", "value", "message"),
    [
        ({"type": "string"}, 1,
         'Invalid value: "integer": spec in body must be of type string: "integer"'),
        ({"type": "string"}, None,
         'Invalid value: "null": spec in body must be of type string: "null"'),
        ({"type": "integer"}, True,
         'Invalid value: "boolean": spec in body must be of type integer: "boolean"'),
        ({"x-kubernetes-int-or-string": True}, 1.5,
         'Invalid value: "number": spec in body must be of type integer,string: "number"'),
        ({"type": "integer", "enum": [1, 2]}, 3,
         'Unsupported value: 3: supported values: "1", "2"'),
        ({"enum": [1]}, True, 'Unsupported value: true: supported values: "1"'),
        ({"enum": ["a", "b"]}, "c", 'Unsupported value: "c": supported values: "a", "b"'),
        ({"type": "integer", "multipleOf": 5}, 7,
         "Invalid value: 7: spec in body should be a multiple of 5"),
        ({"type": "number", "minimum": 1}, 0.5,
         "Invalid value: 0.5: spec in body should be greater than or equal to 1"),
        ({"type": "number", "maximum": 1, "exclusiveMaximum": True}, 1,
         "Invalid value: 1: spec in body should be less than 1"),
        ({"type": "string", "maxLength": 2}, "abc", "Too long: may not be more than 2 bytes"),
        ({"type": "string", "minLength": 2}, "a",
         'Invalid value: "a": spec in body should be at least 2 chars long'),
        ({"type": "string", "pattern": "^a$"}, "b",
         'Invalid value: "b": spec in body should match \'^a$\''),
        ({"type": "string", "format": "date-time"}, "2026-01-31",
         'Invalid value: "2026-01-31": spec in body must be of type date-time: "2026-01-31"'),
        ({"type": "string", "format": "date"}, "2026-02-30",
         'Invalid value: "2026-02-30": spec in body must be of type date: "2026-02-30"'),
        ({"not": {"type": "string"}}, "a",
         'Invalid value: "": "spec" must not validate the schema (not)'),
        ({"oneOf": [{"minimum": 0}, {"maximum": 9}]}, 5,
         ('Invalid value: "": "spec" must validate one and only one schema (oneOf). '
         "Found 2 valid alternatives")),
        ({"oneOf": [{"minimum": 9}, {"maximum": 0}]}, 5,
         ('Invalid value: "": "spec" must validate one and only one schema (oneOf). '
         "Found none valid")),
        ({"anyOf": [{"minimum": 9}, {"maximum": 0}]}, 5,
         'Invalid value: "": "spec" must validate at least one schema (anyOf)'),
        ({"allOf": [{"minimum": 0}, {"maximum": 0}]}, 5,
         'Invalid value: "": "spec" must validate all the schemas (allOf)'),
        ({"type": "array", "maxItems": 1, "items": {}}, [1, 2],
         "Too many: 2: must have at most 1 items"),
        ({"type": "object", "minProperties": 1}, {},
         'Invalid value: "object": spec in body should have at least 1 properties'),
    ],
)  # fmt: skip
def test_each_mistake_is_told_in_the_server_s_words(
    spec: dict[str, Any], value: object, message: str
) -> None:
    assert told(spec, value) == [f"spec: {message}"]


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ({"type": "string", "nullable": True}, None),
        ({"type": "integer"}, 1.0),
        ({"x-kubernetes-int-or-string": True}, "50%"),
        ({"x-kubernetes-int-or-string": True}, 5),
        ({"enum": [1]}, 1.0),
        ({"type": "number", "multipleOf": 0.1}, 0.3),
        ({"type": "string", "format": "date-time"}, "2026-01-31T08:00:00.123456Z"),
        ({"type": "string", "format": "date-time"}, "2026-01-31t08:00:00+01:00"),
        ({"type": "string", "format": "nobody-knows"}, "a"),
        ({"not": {"type": "string"}}, 1),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {"a": 1}),
    ],
)
def test_what_is_right_is_taken(spec: dict[str, Any], value: object) -> None:
    assert told(spec, value) == []


def test_an_item_of_a_keyed_list_that_comes_twice_is_told() -> None:
    keyed = {
        "type": "array",
        "items": {"type": "object", "properties": {"name": {"type": "string"}}},
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    }
    found = told(keyed, [{"name": "a"}, {"name": "b"}, {"name": "a"}])
    assert found == ['spec[2]: Duplicate value: {"name":"a"}']


def test_no_definition_may_ask_for_unique_items() -> None:
    with pytest.raises(InvalidDefinition, match=r"\.spec\.uniqueItems: Forbidden: uniqueItems"):
        schema_of({"type": "array", "items": {}, "uniqueItems": True})


LIMITS = {
    "type": "object",
    "properties": {"low": {"type": "integer"}, "high": {"type": "integer"}},
    RULES: [{"rule": "self.low < self.high", "message": "low must be below high"}],
}


def test_a_rule_is_told_by_its_message_or_by_itself() -> None:
    assert told(LIMITS, {"low": 1, "high": 2}) == []
    low = 'spec: Invalid value: "object": low must be below high'
    assert told(LIMITS, {"low": 2, "high": 2}) == [low]
    bare = {"type": "integer", RULES: [{"rule": "self > 1"}]}
    assert told(bare, 1) == ["spec: Invalid value: 1: failed rule: self > 1"]


def test_a_rule_may_say_where_and_why() -> None:
    rule = {"rule": "self.low > 0", "reason": "FieldValueForbidden", "fieldPath": ".low"}
    spec = {**LIMITS, RULES: [{**rule, "message": "too low"}]}
    assert told(spec, {"low": 0}) == ["spec.low: Forbidden: too low"]


def test_rules_wait_until_the_structure_is_right() -> None:
    found = told(LIMITS, {"low": "a", "high": 1})
    assert found[0].startswith("spec.low: ")
    assert found[1].startswith('<nil>: Invalid value: "null": some validation rules were not')
    assert len(found) == 2


FIXED = {"type": "string", RULES: [{"rule": "self == oldSelf", "message": "is fixed"}]}


def test_a_rule_about_a_change_is_asked_of_a_change_alone() -> None:
    assert told(FIXED, "a") == []
    assert told(FIXED, "a", old="a") == []
    assert told(FIXED, "b", old="a") == ['spec: Invalid value: "b": is fixed']


def test_an_item_has_a_value_before_by_its_key_alone() -> None:
    item = {"type": "object", "properties": {"name": {"type": "string"}, "unit": FIXED}}
    keyed = {
        "type": "array",
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    }
    old = [{"name": "a", "unit": "x"}, {"name": "b", "unit": "y"}]
    assert told(keyed, list(reversed(old)), old=old) == []
    moved = [{"name": "c", "unit": "z"}, {"name": "a", "unit": "y"}]
    assert told(keyed, moved, old=old) == ['spec[1].unit: Invalid value: "y": is fixed']
    assert told({"type": "array", "items": item}, moved, old=old) == []


def test_a_rule_about_the_whole_object_sees_its_name_and_no_more_of_its_metadata() -> None:
    rules = [{"rule": "self.metadata.name == self.spec.name && !has(self.metadata.labels)"}]
    schema = schema_of({"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                       **{RULES: rules})  # fmt: skip
    new = {"metadata": {"name": "a", "labels": {"b": "c"}}, "spec": {"name": "a"}}
    assert schema.check(new, None) == []
    [cause] = schema.check({**new, "spec": {"name": "b"}}, new)
    assert cause.field == "<nil>"


def test_null_gives_way_to_a_default_and_is_else_as_it_is() -> None:
    schema = schema_of(
        {
            "type": "object",
            "properties": {"a": {"type": "string", "default": "x"}, "b": {"type": "string"}},
        }
    )
    assert schema.defaulted({"spec": {"a": None, "b": None}}) == {"spec": {"a": "x", "b": None}}
    assert schema.defaulted({"spec": {}}) == {"spec": {"a": "x"}}


def test_what_the_schema_does_not_know_goes_and_is_named() -> None:
    inner = {"type": "object", "properties": {"b": {"type": "string"}}}
    schema = schema_of({"type": "object", "properties": {"a": {"type": "array", "items": inner}}})
    pruned, unknown = schema.prune({"spec": {"a": [{"b": "x", "c": 1}], "d": 2}, "e": 3})
    assert pruned == {"spec": {"a": [{"b": "x"}]}}
    assert unknown == ["spec.a[0].c", "spec.d", "e"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats(-2, 2) | st.sampled_from("ab"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=5,
)


@given(JSON, JSON)
def test_an_enum_has_a_value_when_it_is_the_same_as_json(value: Any, allowed: Any) -> None:
    taken = not told({"enum": [allowed]}, value)
    assert taken is same(value, allowed)
    assert same(value, value)


def test_cel_is_not_loaded_before_the_first_rule_is_asked() -> None:
    code = "import sys, twinbridge.hub.hub; sys.exit('celpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
