"""Objects against the structural schema of a CustomResourceDefinition.

Messages are those of the API server (k8s.io/kube-openapi/pkg/validation, apiextensions-apiserver).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

import orjson

from twinbridge.hub.rules_cel import holds

Json: TypeAlias = dict[str, Any]
Schema: TypeAlias = Mapping[str, Any]

_PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
_RULES: Final = "x-kubernetes-validations"
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}
_MOST_CAUSES: Final = 100


class Cause(NamedTuple):
    """What is wrong with one field: `type` such as `FieldValueRequired`."""

    field: str
    type: str
    message: str


class ResourceSchema:
    """The schema of one version of a kind."""

    def __init__(self, root: Schema) -> None:
        self.root = root

    @classmethod
    def of(cls, crd: Mapping[str, Any], version: str = "v1alpha1") -> ResourceSchema:
        for served in crd["spec"]["versions"]:
            if served["name"] == version:
                return cls(served["schema"]["openAPIV3Schema"])
        raise ValueError(f"{crd['metadata']['name']} has no version {version}")

    def check(self, new: Json, old: Json | None) -> list[Cause]:
        """What is wrong with it. Parts that are as they were before are not looked at again."""
        properties = self.root.get("properties", {})
        causes = [_required(name) for name in self.root.get("required", ()) if name not in new]
        for name, value in new.items():
            if name == "metadata" or (old is not None and old.get(name) == value):
                continue
            for cause in _check(value, properties.get(name, {}), name):
                causes.append(cause)
                if len(causes) >= _MOST_CAUSES:
                    return causes
        return causes

    def prune(self, document: Json) -> tuple[Json, list[str]]:
        """Without the fields that the schema does not know, and the paths of these."""
        unknown: list[str] = []
        pruned = _prune(document, self.root, "", unknown)
        return pruned, unknown

    def defaulted(self, document: Json) -> Json:
        """With the defaults of the schema for what is left out."""
        made: Json = _default(document, self.root)
        return made


def child(schema: Schema, name: str) -> Schema:
    """The schema of a field of an object; empty where anything goes."""
    found = schema.get("properties", {}).get(name)
    if found is None:
        more = schema.get("additionalProperties")
        found = more if isinstance(more, Mapping) else {}
    return found  # type: ignore[no-any-return]  # a schema is a tree of JSON


def _prune(value: Any, schema: Schema, path: str, unknown: list[str]) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, list):
        items = schema.get("items", {})
        return [_prune(v, items, f"{path}[{i}]", unknown) for i, v in enumerate(value)]
    if not isinstance(value, dict):
        return value
    known = schema.get("properties", {})
    open_to_all = not schema or schema.get(_PRESERVE) or "additionalProperties" in schema
    bare = schema.get("type") == "object" and not known and path == "metadata"
    made: Json = {}
    for name, inner in value.items():
        at = f"{path}.{name}" if path else name
        if name in known or open_to_all or bare:
            made[name] = _prune(inner, child(schema, name), at, unknown)
        else:
            unknown.append(at)
    return made


def _default(value: Any, schema: Schema) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, list) and "items" in schema:
        return [_default(inner, schema["items"]) for inner in value]
    if not isinstance(value, dict):
        return value
    made = {name: _default(inner, child(schema, name)) for name, inner in value.items()}
    for name, known in schema.get("properties", {}).items():
        if name not in made and "default" in known:
            made[name] = known["default"]
        elif made.get(name, name) is None and not known.get("nullable"):
            made.pop(name)  # null is as if it were left out
    return made


def _check(value: Any, schema: Schema, path: str) -> Iterator[Cause]:  # noqa: ANN401 - any JSON
    if value is None and schema.get("nullable"):
        return
    wanted = schema.get("type")
    if wanted and not _is(value, wanted):
        shown = _type(value)
        told = f'Invalid value: "{shown}": {path} in body must be of type {wanted}: "{shown}"'
        yield Cause(path, "FieldValueTypeInvalid", told)
        return
    if "enum" in schema and value not in schema["enum"]:
        allowed = ", ".join(map(_shown, schema["enum"]))
        told = f"Unsupported value: {_shown(value)}: supported values: {allowed}"
        yield Cause(path, "FieldValueNotSupported", told)
    if isinstance(value, str):
        yield from _text(value, schema, path)
    elif isinstance(value, dict):
        yield from _object(value, schema, path)
    elif isinstance(value, list):
        yield from _array(value, schema, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _number(value, schema, path)
    yield from _alternatives(value, schema, path)
    yield from _rules(value, schema, path)


def _is(value: object, wanted: str) -> bool:
    if isinstance(value, bool):
        return wanted == "boolean"
    if isinstance(value, float) and value.is_integer() and wanted == "integer":
        return True
    return isinstance(value, _TYPES[wanted])


def _type(value: object) -> str:
    if value is None:
        return "null"
    for name in ("boolean", "integer", "number", "string", "array", "object"):
        if _is(value, name):
            return name
    return "unknown"


def _shown(value: object) -> str:
    return orjson.dumps(value).decode()


def _required(path: str) -> Cause:
    return Cause(path, "FieldValueRequired", "Required value")


def _invalid(path: str, value: object, told: str) -> Cause:
    shown = '"object"' if isinstance(value, dict) else _shown(value)
    return Cause(path, "FieldValueInvalid", f"Invalid value: {shown}: {told}")


@lru_cache(maxsize=1024)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text)


def _text(value: str, schema: Schema, path: str) -> Iterator[Cause]:
    if len(value) < schema.get("minLength", 0):
        least = schema["minLength"]
        yield _invalid(path, value, f"{path} in body should be at least {least} chars long")
    if "maxLength" in schema and len(value) > schema["maxLength"]:
        told = f"Too long: may not be more than {schema['maxLength']} bytes"
        yield Cause(path, "FieldValueTooLong", told)
    if "pattern" in schema and not _pattern(schema["pattern"]).search(value):
        yield _invalid(path, value, f"{path} in body should match '{schema['pattern']}'")


def _number(value: float, schema: Schema, path: str) -> Iterator[Cause]:
    if "minimum" in schema:
        bound, open_end = schema["minimum"], schema.get("exclusiveMinimum", False)
        if value < bound or (open_end and value == bound):
            what = "greater than" if open_end else "greater than or equal to"
            yield _invalid(path, value, f"{path} in body should be {what} {bound}")
    if "maximum" in schema:
        bound, open_end = schema["maximum"], schema.get("exclusiveMaximum", False)
        if value > bound or (open_end and value == bound):
            what = "less than" if open_end else "less than or equal to"
            yield _invalid(path, value, f"{path} in body should be {what} {bound}")


def _object(value: Json, schema: Schema, path: str) -> Iterator[Cause]:
    for name in schema.get("required", ()):
        if name not in value:
            yield _required(f"{path}.{name}")
    if len(value) < schema.get("minProperties", 0):
        told = f"{path} in body should have at least {schema['minProperties']} properties"
        yield _invalid(path, value, told)
    if len(value) > schema.get("maxProperties", len(value)):
        told = f"Too many: {len(value)}: must have at most {schema['maxProperties']} items"
        yield Cause(path, "FieldValueTooMany", told)
    for name, inner in value.items():
        yield from _check(inner, child(schema, name), f"{path}.{name}")


def _array(value: list[Any], schema: Schema, path: str) -> Iterator[Cause]:
    if "maxItems" in schema and len(value) > schema["maxItems"]:
        told = f"Too many: {len(value)}: must have at most {schema['maxItems']} items"
        yield Cause(path, "FieldValueTooMany", told)
    if len(value) < schema.get("minItems", 0):
        told = f"{path} in body should have at least {schema['minItems']} items"
        yield _invalid(path, len(value), told)
    for index, inner in enumerate(value):
        yield from _check(inner, schema.get("items", {}), f"{path}[{index}]")
    keys = schema.get("x-kubernetes-list-map-keys")
    if keys or schema.get("x-kubernetes-list-type") == "set":
        yield from _duplicates(value, keys, path)


def _duplicates(value: list[Any], keys: list[str] | None, path: str) -> Iterator[Cause]:
    seen: set[str] = set()
    for index, item in enumerate(value):
        named = {k: item.get(k) for k in keys} if keys and isinstance(item, dict) else item
        shown = _shown(named)
        if shown in seen:
            yield Cause(f"{path}[{index}]", "FieldValueDuplicate", f"Duplicate value: {shown}")
        seen.add(shown)


_COUNTS: Final[dict[str, Callable[[int, int], bool]]] = {
    "oneOf": lambda fit, _: fit == 1,
    "anyOf": lambda fit, _: fit > 0,
    "allOf": lambda fit, given: fit == given,
}


def _alternatives(value: Any, schema: Schema, path: str) -> Iterator[Cause]:  # noqa: ANN401 - any JSON
    for name, enough in _COUNTS.items():
        given = schema.get(name)
        if not given:
            continue
        fit = sum(not any(_check(value, each, path)) for each in given)
        if not enough(fit, len(given)):
            which = "one and only one" if name == "oneOf" else "at least one"
            which = "all the schemas" if name == "allOf" else f"{which} schema"
            yield _invalid(path, value, f"{path} in body must validate {which} ({name})")


def _rules(value: Any, schema: Schema, path: str) -> Iterator[Cause]:  # noqa: ANN401 - any JSON
    for rule in schema.get(_RULES, ()):
        problem = holds(rule["rule"], value)
        if problem is not None:
            told = rule.get("message") or f"failed rule: {rule['rule']}"
            yield _invalid(path, value, f"{told}{problem}")
