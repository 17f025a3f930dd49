"""JSON schema as pydantic makes it → structural schema as the API server takes it.

No references, no `anyOf` of types, no `additionalProperties` beside `properties` (unknown fields
are pruned), exclusive bounds as flags. Defaults are said in the description and left to us.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from pydantic import BaseModel

Schema: TypeAlias = dict[str, Any]  # a schema is a tree of whatever JSON holds

PRESERVE = "x-kubernetes-preserve-unknown-fields"
_DROPPED = ("title", "default", "additionalProperties", "$defs", "const")


def structural(model: type[BaseModel]) -> Schema:
    """The schema of a model, complete in itself. Raises ValueError where it recurs."""
    schema = model.model_json_schema(by_alias=True)
    return _convert(schema, schema.get("$defs", {}), ())


def _convert(given: Mapping[str, Any], defs: Mapping[str, Schema], seen: tuple[str, ...]) -> Schema:
    schema = dict(given)
    if "$ref" in schema:
        name = schema.pop("$ref").rsplit("/", 1)[-1]
        if name in seen:
            raise ValueError(f"{name} contains itself: a structural schema must end")
        seen = (*seen, name)
        schema = {**defs[name], **schema}
    alternatives = [s for s in schema.pop("anyOf", ()) if s.get("type") != "null"]
    if alternatives:
        if len(alternatives) > 1:
            raise ValueError(f"a structural schema has one type, not {alternatives}")
        return _convert({**alternatives[0], **schema}, defs, seen)
    return _plain(schema, defs, seen)


def _plain(schema: Schema, defs: Mapping[str, Schema], seen: tuple[str, ...]) -> Schema:
    made = {key: value for key, value in schema.items() if key not in _DROPPED}
    if "const" in schema:
        made["enum"] = [schema["const"]]
    for bound, flag in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if flag in made:
            if made.get("type") == "string":
                made.pop(flag)
            else:
                made[bound], made[flag] = made[flag], True
    if made.get("type") == "string":
        made.pop("minimum", None)
    _describe_default(made, schema)
    if "properties" in made:
        made["properties"] = {
            name: _convert(value, defs, seen) for name, value in made["properties"].items()
        }
    elif schema.get("type") == "object":
        _open_object(made, schema, defs, seen)
    if "items" in made:
        made["items"] = _convert(made["items"], defs, seen)
    return made


def _open_object(
    made: Schema, schema: Schema, defs: Mapping[str, Schema], seen: tuple[str, ...]
) -> None:
    values = schema.get("additionalProperties")
    if isinstance(values, dict):
        made["additionalProperties"] = _convert(values, defs, seen)
    elif values is not False:
        made[PRESERVE] = True


def _describe_default(made: Schema, schema: Schema) -> None:
    default = schema.get("default")
    if default is None or default in ("", [], {}) or isinstance(default, dict):
        return
    word = str(default).lower() if isinstance(default, bool) else default
    made["description"] = f"{made.get('description', '')} Default: {word}.".strip()
