"""The reference of every field, as Markdown, from the same schemas as the CRDs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from twinbridge.api.base import API_VERSION
from twinbridge.api.crds import schema_of
from twinbridge.api.driver_models import DriverModels
from twinbridge.api.resources import KINDS
from twinbridge.api.structural import Schema

_HEAD = f"""# Resources

Group and version `{API_VERSION}`. A field in **bold** is required. A duration is a number with
its unit: `200ms`, `3s`, `1.5m`, `8h`. A value of any type is written as itself: `true`, `12.5`,
`text`. This page is what `twinbridge crds --reference` prints.
"""


def markdown(drivers: Mapping[str, DriverModels]) -> str:
    return "\n".join([_HEAD, *(line for kind in KINDS for line in _kind(kind, drivers))]) + "\n"


def _kind(kind: str, drivers: Mapping[str, DriverModels]) -> Iterator[str]:
    schema = schema_of(kind, drivers)
    yield from (f"## {kind}", "", schema.get("description", ""), "")
    yield from ("| field | type | meaning |", "|---|---|---|")
    for part in ("spec", "status"):
        required = part in schema.get("required", ())
        yield from _rows(part, schema["properties"][part], required=required)
    yield ""


def _rows(path: str, schema: Schema, *, required: bool) -> Iterator[str]:
    name = f"**`{path}`**" if required else f"`{path}`"
    rules = " ".join(f"({r['message']})" for r in schema.get("x-kubernetes-validations", ()))
    meaning = f"{schema.get('description', '')} {rules}".strip().replace("|", "\\|")
    yield f"| {name} | {_type(schema)} | {meaning} |"
    inner, prefix = schema, path
    if schema.get("type") == "array":
        inner, prefix = schema["items"], f"{path}[]"
    if path.endswith(("all", "any", "of", "enabledWhen.condition")) and "above" in inner.get(
        "properties", {}
    ):
        return  # the same as under when
    for field, value in inner.get("properties", {}).items():
        yield from _rows(f"{prefix}.{field}", value, required=field in inner.get("required", ()))


def _type(schema: Schema) -> str:
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"])
    if "pattern" in schema and "(ms|s|m|h)" in schema["pattern"]:
        return "duration"
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {schema['items'].get('type', 'any')}"
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"{kind} {low:g} to {high:g}"
    if low is not None:
        return f"{kind} {'>' if schema.get('exclusiveMinimum') else '≥'} {low:g}"
    return str(kind)
