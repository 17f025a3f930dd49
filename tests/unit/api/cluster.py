"""What an API server would say of an object: the structural schema and its CEL rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import celpy

PRESERVE = "x-kubernetes-preserve-unknown-fields"
TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
}


def prune(schema: dict[str, Any], value: Any) -> Any:
    """Unknown fields vanish, and a number is a double, as an API server makes them."""
    if isinstance(value, list):
        return [prune(schema.get("items", {}), v) for v in value]
    if schema.get("type") == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, dict) or "properties" not in schema:
        return value
    known = schema["properties"]
    return {
        key: prune(known[key], v) if key in known else v
        for key, v in value.items()
        if key in known or schema.get(PRESERVE)
    }


def refusals(schema: dict[str, Any], value: Any, path: str = "") -> Iterator[str]:
    if "type" in schema and not _is(schema["type"], value):
        yield f"{path}: {value!r} is no {schema['type']}"
        return
    yield from (f"{path}: {word}" for word in _values(schema, value))
    if isinstance(value, dict):
        yield from _fields(schema, value, path)
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from refusals(schema.get("items", {}), item, f"{path}[{number}]")
    for rule in schema.get("x-kubernetes-validations", ()):
        if not _holds(rule["rule"], value):
            yield f"{path}: {rule['message']}"


def _fields(schema: dict[str, Any], value: dict[str, Any], path: str) -> Iterator[str]:
    yield from (f"{path}.{n} missing" for n in schema.get("required", ()) if n not in value)
    if "oneOf" in schema:
        fits = sum(all(n in value for n in way["required"]) for way in schema["oneOf"])
        if fits != 1:
            yield f"{path}: {fits} of oneOf"
    for name, inner in value.items():
        if name in schema.get("properties", {}):
            yield from refusals(schema["properties"][name], inner, f"{path}.{name}")


def _is(kind: str, value: Any) -> bool:
    return isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _values(schema: dict[str, Any], value: Any) -> Iterator[str]:
    if "enum" in schema and value not in schema["enum"]:
        yield f"{value!r} is not one of {schema['enum']}"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{value!r} does not match"
    if "minimum" in schema:
        low = schema["minimum"]
        if value < low or (schema.get("exclusiveMinimum") and value == low):
            yield f"{value} is too small"
    if "maximum" in schema and value > schema["maximum"]:
        yield f"{value} is too large"
    if not schema.get("minItems", 0) <= len(value if isinstance(value, list) else ()) and (
        isinstance(value, list)
    ):
        yield "too few items"
    if isinstance(value, list) and len(value) > schema.get("maxItems", len(value)):
        yield "too many items"
    keys = schema.get("x-kubernetes-list-map-keys")
    if keys and len({item.get(keys[0]) for item in value}) < len(value):
        yield "duplicate"


@cache
def _program(rule: str) -> celpy.Runner:
    environment = celpy.Environment()
    return environment.program(environment.compile(rule))


def _holds(rule: str, value: Any) -> bool:
    return bool(_program(rule).evaluate({"self": celpy.json_to_cel(value)}))
