"""OpenAPI of what the hub serves: for `kubectl explain`, and to find out what it may ask for.

`kubectl` looks for the parameters of PATCH to know whether the server validates and dry-runs
(k8s.io/cli-runtime/pkg/resource, QueryParamVerifierV3), and for the paths to find a schema.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, TypeAlias

Json: TypeAlias = dict[str, Any]

_INFO: Final = {"title": "TwinBridge hub", "version": "v1.32.0"}
_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_TEXT: Final = {"type": "string"}
_TEXTS: Final = {"type": "object", "additionalProperties": _TEXT}
_LIST_OF_TEXTS: Final = {"type": "array", "items": _TEXT}
_OBJECTS: Final = {"type": "array", "items": {"type": "object"}}
_OBJECT_META: Final[Json] = {
    "description": "ObjectMeta is metadata that all persisted resources must have.",
    "type": "object",
    "properties": {
        "name": {**_TEXT, "description": "Unique within a namespace."},
        "generateName": {**_TEXT, "description": "Start of a name that the server completes."},
        "namespace": {**_TEXT, "description": "The space within which the name is unique."},
        "labels": {**_TEXTS, "description": "By which objects are selected."},
        "annotations": {**_TEXTS, "description": "For tools to keep what they need."},
        "finalizers": {**_LIST_OF_TEXTS, "description": "Hold a deleted object until all go."},
        "ownerReferences": {**_OBJECTS, "description": "Objects that this one depends on."},
        "managedFields": {**_OBJECTS, "description": "Who manages which fields."},
        "uid": {**_TEXT, "description": "Unique in time and space; set by the server."},
        "resourceVersion": {**_TEXT, "description": "Changes with each write."},
        "generation": {"type": "integer", "description": "Counts changes of the desired state."},
        "creationTimestamp": {"type": "string", "format": "date-time"},
        "deletionTimestamp": {"type": "string", "format": "date-time"},
    },
}
_QUERY: Final = {
    "dryRun": "`All`: do everything but keep it.",
    "fieldManager": "Who manages what is written.",
    "fieldValidation": "Of unknown fields: `Ignore`, `Warn` or `Strict`.",
}


def openapi_v3_index(group_versions: Iterable[str]) -> Json:
    """Where the document of each group and version is."""
    paths = {}
    for each in group_versions:
        path = f"apis/{each}" if "/" in each else f"api/{each}"
        stamp = sha256(each.encode()).hexdigest()[:16]
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={stamp}"}
    return {"paths": paths}


def openapi_v3(group_version: str, crds: Iterable[Mapping[str, Any]]) -> Json:
    """The kinds of one group and version, of those that `crds` define."""
    schemas: Json = {_META: _OBJECT_META}
    paths: Json = {}
    for crd in _of(group_version, crds):
        name = _schema_name(crd)
        schemas[name] = _schema(crd, "#/components/schemas/")
        paths |= dict(_paths(crd, f"#/components/schemas/{name}"))
    return {
        "openapi": "3.0.0",
        "info": _INFO,
        "paths": paths,
        "components": {"schemas": schemas},
    }


def openapi_v2(crds: Sequence[Mapping[str, Any]]) -> Json:
    """All kinds in one document, the old way."""
    definitions = {_schema_name(crd): _schema(crd, "#/definitions/") for crd in crds}
    return {
        "swagger": "2.0",
        "info": _INFO,
        "paths": {},
        "definitions": {_META: _OBJECT_META, **definitions},
    }


def _of(group_version: str, crds: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    group, _, version = group_version.rpartition("/")
    for crd in crds:
        spec = crd["spec"]
        if spec["group"] == group and spec["versions"][0]["name"] == version:
            yield crd


def _schema_name(crd: Mapping[str, Any]) -> str:
    spec = crd["spec"]
    group = ".".join(reversed(spec["group"].split("."))) or "io.k8s.api.core"
    return f"{group}.{spec['versions'][0]['name']}.{spec['names']['kind']}"


def _kind(crd: Mapping[str, Any]) -> Json:
    spec = crd["spec"]
    version = spec["versions"][0]["name"]
    return {"group": spec["group"], "version": version, "kind": spec["names"]["kind"]}


def _schema(crd: Mapping[str, Any], references: str) -> Json:
    given = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    properties = {**given["properties"], "metadata": {"$ref": f"{references}{_META}"}}
    return {
        **given,
        "properties": properties,
        "x-kubernetes-group-version-kind": [_kind(crd)],
    }


def _paths(crd: Mapping[str, Any], schema: str) -> Iterator[tuple[str, Json]]:
    spec = crd["spec"]
    group, version = spec["group"], spec["versions"][0]["name"]
    base = f"/apis/{group}/{version}" if group else f"/api/{version}"
    if spec["scope"] == "Namespaced":
        base += "/namespaces/{namespace}"
    collection = f"{base}/{spec['names']['plural']}"
    yield collection, _operations(crd, schema, {"get": "list", "post": "post"})
    single = {"get": "get", "put": "put", "patch": "patch", "delete": "delete"}
    yield f"{collection}/{{name}}", _operations(crd, schema, single)


def _operations(crd: Mapping[str, Any], schema: str, verbs: Mapping[str, str]) -> Json:
    return {method: _operation(crd, schema, action) for method, action in verbs.items()}


def _operation(crd: Mapping[str, Any], schema: str, action: str) -> Json:
    shown = {"application/json": {"schema": {"$ref": schema}}}
    made: Json = {
        "operationId": f"{action}{_schema_name(crd)}",
        "responses": {"200": {"description": "OK", "content": shown}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _kind(crd),
    }
    if action in ("post", "put", "patch"):
        made["parameters"] = [
            {"name": name, "in": "query", "description": told, "schema": _TEXT}
            for name, told in _QUERY.items()
        ]
        made["requestBody"] = {"content": shown}
    return made
