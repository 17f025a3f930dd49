"""What is wrong with an object, as its structural schema has it.

Messages are those of the API server (k8s.io/kube-openapi/pkg/validation, apiextensions-apiserver);
a mistake in one of several alternatives is told of the field that has them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

from twinbridge.errors import TwinBridgeError
from twinbridge.hub.json_values import same
from twinbridge.hub.string_formats import is_of_format
from twinbridge.hub.structure import Json, Schema, Structure

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}
MOST_CAUSES: Final = 100
_NEAR: Final = 1e-9
"""As near to a whole number as fractions come: 0.3 / 0.1."""


class Cause(NamedTuple):
    """What is wrong with one field: `type` such as `FieldValueRequired`."""

    field: str
    type: str
    message: str


class Enough(TwinBridgeError):
    """As many mistakes are known as are asked for."""


class Mistakes:
    """`causes`: the first so many of them; then it raises Enough."""

    def __init__(self, most: int = MOST_CAUSES) -> None:
        self.causes: list[Cause] = []
        self._most = most

    def told(self, field: str, kind: str, message: str) -> None:
        self.causes.append(Cause(field, kind, message))
        if len(self.causes) >= self._most:
            raise Enough

    def invalid(self, field: str, value: object, message: str) -> None:
        shown = '"object"' if isinstance(value, dict) else quoted(value)
        self.told(field, "FieldValueInvalid", f"Invalid value: {shown}: {message}")


def quoted(value: object) -> str:
    return orjson.dumps(value).decode()


def check_object(new: Json, old: Json | None, root: Structure, found: Mistakes) -> None:
    """Its metadata, and what it has from the old one, is not looked at. Raises Enough."""
    _required(new, root.schema, "", found)
    for name, value in new.items():
        if name == "metadata" or (old is not None and old.get(name) is value):
            continue
        check(value, root.child(name), name, found)


def check(value: Any, at: Structure, path: str, found: Mistakes) -> None:  # noqa: ANN401 - any JSON
    schema = at.schema
    if value is None and schema.get("nullable"):
        return
    if at.types and type(value) is not at.exactly and not _is_any(value, at.types):
        shown, wanted = _type(value), ",".join(at.types)
        told = f'Invalid value: "{shown}": {path} in body must be of type {wanted}: "{shown}"'
        found.told(path, "FieldValueTypeInvalid", told)
        return
    if "enum" in schema and not _is_one_of(value, schema["enum"]):
        allowed = ", ".join(f'"{_plain(each)}"' for each in schema["enum"])
        told = f"Unsupported value: {quoted(value)}: supported values: {allowed}"
        found.told(path, "FieldValueNotSupported", told)
    if isinstance(value, str):
        _text(value, schema, path, found)
    elif isinstance(value, dict):
        _object(value, at, path, found)
    elif isinstance(value, list):
        _array(value, at, path, found)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _number(value, schema, path, found)
    if at.combined:
        _combined(value, at, path, found)


def _is_one_of(value: object, allowed: Sequence[object]) -> bool:
    if isinstance(value, str):
        return value in allowed
    return any(same(value, each) for each in allowed)


def _is_any(value: object, wanted: Iterable[str]) -> bool:
    return any(_is(value, each) for each in wanted)


def _is(value: object, wanted: str) -> bool:
    if isinstance(value, bool):
        return wanted == "boolean"
    if isinstance(value, float) and value.is_integer() and wanted == "integer":
        return True
    return isinstance(value, _TYPES[wanted])


def _type(value: object) -> str:
    if value is None:
        return "null"
    return next(name for name in _NAMED if _is(value, name))


_NAMED: Final = ("boolean", "integer", "number", "string", "array", "object")


def _plain(value: object) -> str:
    return value if isinstance(value, str) else quoted(value)


@lru_cache(maxsize=1024)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text)


def _text(value: str, schema: Schema, path: str, found: Mistakes) -> None:
    if len(value) < schema.get("minLength", 0):
        least = schema["minLength"]
        found.invalid(path, value, f"{path} in body should be at least {least} chars long")
    if "maxLength" in schema and len(value) > schema["maxLength"]:
        told = f"Too long: may not be more than {schema['maxLength']} bytes"
        found.told(path, "FieldValueTooLong", told)
    if "pattern" in schema and not _pattern(schema["pattern"]).search(value):
        found.invalid(path, value, f"{path} in body should match '{schema['pattern']}'")
    if "format" in schema and not is_of_format(value, schema["format"]):
        shown = quoted(value)
        told = f"Invalid value: {shown}: {path} in body must be of type {schema['format']}: {shown}"
        found.told(path, "FieldValueTypeInvalid", told)


def _number(value: float, schema: Schema, path: str, found: Mistakes) -> None:
    if "minimum" in schema:
        bound, open_end = schema["minimum"], schema.get("exclusiveMinimum", False)
        if value < bound or (open_end and value == bound):
            what = "greater than" if open_end else "greater than or equal to"
            found.invalid(path, value, f"{path} in body should be {what} {bound}")
    if "maximum" in schema:
        bound, open_end = schema["maximum"], schema.get("exclusiveMaximum", False)
        if value > bound or (open_end and value == bound):
            what = "less than" if open_end else "less than or equal to"
            found.invalid(path, value, f"{path} in body should be {what} {bound}")
    if "multipleOf" in schema and not _is_multiple(value, schema["multipleOf"]):
        found.invalid(path, value, f"{path} in body should be a multiple of {schema['multipleOf']}")


def _is_multiple(value: float, of: float) -> bool:
    times = value * (1 / of) if of < 1 else value / of
    return abs(times - round(times)) < _NEAR


def _required(value: Json, schema: Schema, path: str, found: Mistakes) -> None:
    for name in schema.get("required", ()):
        if name not in value:
            found.told(f"{path}.{name}".lstrip("."), "FieldValueRequired", "Required value")


def _object(value: Json, at: Structure, path: str, found: Mistakes) -> None:
    schema = at.schema
    _required(value, schema, path, found)
    if len(value) < schema.get("minProperties", 0):
        told = f"{path} in body should have at least {schema['minProperties']} properties"
        found.invalid(path, value, told)
    if len(value) > schema.get("maxProperties", len(value)):
        _too_many(len(value), schema["maxProperties"], path, found)
    properties, more = at.properties, at.more
    for name, inner in value.items():
        below = properties.get(name) or more
        if below is None or below.free or type(inner) is below.simply:
            continue
        check(inner, below, f"{path}.{name}", found)


def _too_many(given: int, most: int, path: str, found: Mistakes) -> None:
    found.told(path, "FieldValueTooMany", f"Too many: {given}: must have at most {most} items")


def _array(value: list[Any], at: Structure, path: str, found: Mistakes) -> None:
    schema = at.schema
    if len(value) > schema.get("maxItems", len(value)):
        _too_many(len(value), schema["maxItems"], path, found)
    if len(value) < schema.get("minItems", 0):
        told = f"{path} in body should have at least {schema['minItems']} items"
        found.invalid(path, len(value), told)
    below = at.item()
    if not below.free:
        for index, inner in enumerate(value):
            if type(inner) is not below.simply:
                check(inner, below, f"{path}[{index}]", found)
    if at.granular:
        _duplicates(value, at.keys, path, found)


def _duplicates(value: list[Any], keys: Sequence[str], path: str, found: Mistakes) -> None:
    seen: set[str] = set()
    for index, item in enumerate(value):
        named = {k: item.get(k) for k in keys} if keys and isinstance(item, dict) else item
        shown = quoted(named)
        if shown in seen:
            found.told(f"{path}[{index}]", "FieldValueDuplicate", f"Duplicate value: {shown}")
        seen.add(shown)


_COUNTS: Final[Mapping[str, tuple[Callable[[int, int], bool], str]]] = {
    "allOf": (lambda fit, given: fit == given, "must validate all the schemas (allOf)"),
    "anyOf": (lambda fit, _: fit > 0, "must validate at least one schema (anyOf)"),
    "oneOf": (lambda fit, _: fit == 1, "must validate one and only one schema (oneOf)."),
    "not": (lambda fit, _: fit == 0, "must not validate the schema (not)"),
}


def _combined(value: Any, at: Structure, path: str, found: Mistakes) -> None:  # noqa: ANN401 - any JSON
    for name, given in at.combined.items():
        enough, said = _COUNTS[name]
        fit = sum(_fits(value, each, path) for each in given)
        if enough(fit, len(given)):
            continue
        many = f" Found {fit} valid alternatives" if fit else " Found none valid"
        told = f'"{path}" {said}{many if name == "oneOf" else ""}'
        found.told(path, "FieldValueInvalid", f'Invalid value: "": {told}')


def _fits(value: Any, at: Structure, path: str) -> bool:  # noqa: ANN401 - any JSON
    try:
        check(value, at, path, Mistakes(most=1))
    except Enough:
        return False
    return True
