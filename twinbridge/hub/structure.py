"""The structural schema of a CustomResourceDefinition, taken apart once for all objects.

Source: Kubernetes, CustomResourceDefinitions, "Specifying a structural schema".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from twinbridge.errors import InvalidDefinition

Json: TypeAlias = dict[str, Any]
Schema: TypeAlias = Mapping[str, Any]

RULES: Final = "x-kubernetes-validations"
_PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
_INT_OR_STRING: Final = "x-kubernetes-int-or-string"
_EXACT: Final[Mapping[str, type]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": float,
}
_SHAPE: Final = frozenset(
    (
        "type", "description", "title", "example", "externalDocs", "nullable", "default",
        _PRESERVE, "x-kubernetes-map-type", "x-kubernetes-embedded-resource",
    )
)  # fmt: skip
"""What says nothing of which values are right, beyond their type."""
_TRANSITION: Final = re.compile(r"\boldSelf\b")


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule in CEL; one that compares with `oldSelf` holds for changes alone."""

    text: str
    message: str
    reason: str
    field_path: str
    transition: bool


@dataclass(frozen=True, eq=False, slots=True)
class Structure:
    """One place in an object. `schema` has what its values are held to."""

    schema: Schema
    types: tuple[str, ...] = ()
    """Of the value; none: any."""
    properties: Mapping[str, Structure] = field(default_factory=dict)
    more: Structure | None = None
    """Of fields that `properties` does not name; None: there are none."""
    items: Structure | None = None
    open: bool = True
    """Fields that the schema does not know may stay."""
    keys: tuple[str, ...] = ()
    granular: bool = False
    """A list whose items are managed one by one."""
    atomic: bool = False
    """A map that is managed as a whole."""
    combined: Mapping[str, tuple[Structure, ...]] = field(default_factory=dict)
    """`oneOf`, `anyOf`, `allOf`, `not`, each with its schemas."""
    rules: tuple[Rule, ...] = ()
    ruled: bool = False
    """There are rules here or below."""
    defaults: bool = False
    """There are defaults below."""
    free: bool = False
    """Whatever is here is right."""
    exactly: type | None = None
    """A value of exactly this type is of the right type."""
    simply: type | None = None
    """A value of exactly this type is right."""

    def child(self, name: str) -> Structure:
        return self.properties.get(name) or self.more or ANYTHING

    def item(self) -> Structure:
        return self.items or ANYTHING


ANYTHING: Final = Structure({}, free=True)


def structure(schema: Schema, place: str = "") -> Structure:
    """Raises InvalidDefinition for what an API server takes in no definition."""
    if schema.get("uniqueItems"):
        raise InvalidDefinition(
            f"{place or 'schema'}.uniqueItems: Forbidden: uniqueItems cannot be set to true since "
            "the runtime complexity becomes quadratic"
        )
    properties = {
        name: structure(inner, f"{place}.{name}")
        for name, inner in schema.get("properties", {}).items()
    }
    more = _more(schema, place)
    items = structure(schema["items"], f"{place}[]") if "items" in schema else None
    below = [*properties.values(), *(each for each in (more, items) if each)]
    rules = tuple(map(_rule, schema.get(RULES, ())))
    types = _types(schema)
    exactly = _EXACT.get(types[0]) if len(types) == 1 else None
    bounded = not _SHAPE.issuperset(schema)
    return Structure(
        schema=schema,
        types=types,
        properties=properties,
        more=more,
        items=items,
        open=not schema or more is not None,
        keys=tuple(sorted(schema.get("x-kubernetes-list-map-keys", ()))),
        granular=schema.get("x-kubernetes-list-type", "atomic") != "atomic",
        atomic=schema.get("x-kubernetes-map-type") == "atomic",
        combined=dict(_combined(schema, place)),
        rules=rules,
        ruled=bool(rules) or any(each.ruled for each in below),
        defaults=any(each.defaults or "default" in each.schema for each in below),
        free=not bounded and not types,
        exactly=exactly,
        simply=None if bounded else exactly,
    )


def _types(schema: Schema) -> tuple[str, ...]:
    if schema.get(_INT_OR_STRING):
        return "integer", "string"
    return (schema["type"],) if "type" in schema else ()


def _more(schema: Schema, place: str) -> Structure | None:
    given = schema.get("additionalProperties")
    if isinstance(given, Mapping):
        return structure(given, f"{place}.*")
    return ANYTHING if given or schema.get(_PRESERVE) else None


def _combined(schema: Schema, place: str) -> Iterator[tuple[str, tuple[Structure, ...]]]:
    for name in ("allOf", "anyOf", "oneOf", "not"):
        given = schema.get(name) or ()
        if given:
            each_of = (given,) if isinstance(given, Mapping) else given
            yield name, tuple(structure(each, f"{place}.{name}") for each in each_of)


def _rule(given: Mapping[str, Any]) -> Rule:
    return Rule(
        given["rule"],
        given.get("message", ""),
        given.get("reason", "FieldValueInvalid"),
        given.get("fieldPath", ""),
        bool(_TRANSITION.search(given["rule"])),
    )


_METADATA: Final = structure(
    {
        _PRESERVE: True,
        "properties": {
            "finalizers": {"x-kubernetes-list-type": "set"},
            "ownerReferences": {
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["uid"],
            },
        },
    }
)


def rooted(schema: Schema) -> Structure:
    """Of a whole object: whatever the schema says of it, its metadata is that of every object."""
    made = structure(schema)
    return replace(made, properties={**made.properties, "metadata": _METADATA}, free=False)
