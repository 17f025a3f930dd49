"""Server-side apply by flat sets of paths: slow, and plain enough to be looked through.

What the hub does is held to it. Lists that are named by their values are left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import orjson

Json: TypeAlias = dict[str, Any]
Schema: TypeAlias = Mapping[str, Any]
Path: TypeAlias = tuple[str, ...]

PRESENT = object()
_SERVERS = frozenset(("name", "namespace", "uid", "resourceVersion", "managedFields"))


def child(schema: Schema, name: str) -> Schema:
    found: Schema = schema.get("properties", {}).get(name, {})
    return found


class _Owner(NamedTuple):
    manager: str
    operation: str
    subresource: str
    api_version: str
    time: str
    fields: frozenset[Path]

    @property
    def key(self) -> tuple[str, str, str]:
        return self.manager, self.operation, self.subresource


def apply(
    live: Json | None,
    applied: Json,
    manager: str,
    schema: Schema,
    *,
    subresource: str,
    force: bool,
    now: str,
    api_version: str,
) -> Json | None:
    """The whole object as the manager wants it, with managedFields; None for a conflict."""
    root = _rooted(schema)
    wanted = dict(_managed(applied, root, subresource))
    before = live or {}
    there = dict(_leaves(before, root, ()))
    owners = _owners(before)
    mine = (manager, "Apply", subresource)
    others = [owner for owner in owners if owner.key != mine]
    changed = {path for path, value in wanted.items() if not _equal(there, path, value)}
    if not force and any(owner.fields & changed for owner in others):
        return None
    others = [owner._replace(fields=owner.fields - changed) for owner in others]
    was = next((owner for owner in owners if owner.key == mine), None)
    kept: frozenset[Path] = frozenset().union(*(owner.fields for owner in others), wanted)
    dropped = (was.fields if was else frozenset()) - kept
    new = _merged(before, _allowed(applied, subresource), root)
    for path in sorted(dropped, key=len):  # an item before what is in it
        if not _is_key(path) and not any(other[: len(path)] == path for other in kept):
            new = _dropped(new, path)
    entry = _Owner(manager, "Apply", subresource, api_version, now, frozenset(wanted))
    if was and was.fields == entry.fields:
        entry = entry._replace(time=was.time)
    return _with_owners(new, [*others, entry])


def track_update(
    old: Json | None,
    new: Json,
    manager: str,
    schema: Schema,
    *,
    subresource: str,
    now: str,
    api_version: str,
) -> Json:
    """`new` with managedFields: what differs from `old` is the manager's from now on."""
    root = _rooted(schema)
    before = dict(_leaves(old or {}, root, ()))
    after = dict(_leaves(new, root, ()))
    changed = {path for path, value in after.items() if not _equal(before, path, value)}
    gone = before.keys() - after.keys()
    reset = new["metadata"].get("managedFields") in ([], [{}])
    owners = [] if reset or old is None else _owners(old)
    mine = (manager, "Update", subresource)
    was = next((owner for owner in owners if owner.key == mine), None)
    others = [
        owner._replace(fields=owner.fields - changed - gone)
        for owner in owners
        if owner.key != mine
    ]
    had = was.fields if was else frozenset()
    time = now if changed or was is None else was.time
    fields = (had - gone) | changed
    entry = _Owner(manager, "Update", subresource, api_version, time, frozenset(fields))
    return _with_owners(new, [*others, entry])


def _rooted(schema: Schema) -> Schema:
    properties = {**schema.get("properties", {}), "metadata": {"properties": {}}}
    return {**schema, "properties": properties}


def _allowed(applied: Json, subresource: str) -> Json:
    """What of an applied object counts: by /status the status alone, else all but it."""
    if subresource == "status":
        names: Collection[str] = ("apiVersion", "kind", "metadata", "status")
        made = {name: applied[name] for name in names if name in applied}
        made["metadata"] = {
            k: v for k, v in applied.get("metadata", {}).items() if k in ("name", "namespace")
        }
        return made
    return dict(applied)


def _managed(applied: Json, root: Schema, subresource: str) -> Iterator[tuple[Path, Any]]:
    return _leaves(_allowed(applied, subresource), root, ())


def _leaves(value: Any, schema: Schema, path: Path) -> Iterator[tuple[Path, Any]]:
    """Every field that somebody can manage."""
    if isinstance(value, dict) and schema.get("x-kubernetes-map-type") != "atomic":
        if path and not value:
            yield path, value
        for name, inner in value.items():
            if _is_the_servers(path, name):
                continue
            yield from _leaves(inner, child(schema, name), (*path, f"f:{name}"))
    elif isinstance(value, list) and _list_type(schema) in ("map", "set"):
        if not value:
            yield path, value
        for item in value:
            element = _element(item, schema)
            yield (*path, element), PRESENT
            if element.startswith("k:"):
                yield from _leaves(item, schema.get("items", {}), (*path, element))
    else:
        yield path, value


def _is_the_servers(path: Path, name: str) -> bool:
    if not path:
        return name in ("apiVersion", "kind")
    return path == ("f:metadata",) and name in _SERVERS


def _list_type(schema: Schema) -> str:
    return str(schema.get("x-kubernetes-list-type", "atomic"))


def _element(item: Any, schema: Schema) -> str:
    keys = schema.get("x-kubernetes-list-map-keys")
    if keys and isinstance(item, dict):
        named = {key: item.get(key) for key in sorted(keys)}
        return f"k:{orjson.dumps(named).decode()}"
    return f"v:{orjson.dumps(item).decode()}"


def _equal(there: Mapping[Path, Any], path: Path, value: Any) -> bool:
    return path in there and type(there[path]) is type(value) and there[path] == value


def _merged(live: Any, applied: Any, schema: Schema) -> Any:
    if isinstance(applied, dict) and isinstance(live, dict):
        if schema.get("x-kubernetes-map-type") == "atomic":
            return applied
        made = dict(live)
        for name, value in applied.items():
            made[name] = _merged(live.get(name), value, child(schema, name))
        return made
    if isinstance(applied, list) and isinstance(live, list) and _list_type(schema) != "atomic":
        return _merged_list(live, applied, schema)
    return applied


def _merged_list(live: list[Any], applied: list[Any], schema: Schema) -> list[Any]:
    wanted = {_element(item, schema): item for item in applied}
    made = []
    for item in live:
        given = wanted.pop(_element(item, schema), None)
        made.append(item if given is None else _merged(item, given, schema.get("items", {})))
    return [*made, *wanted.values()]


def _is_key(path: Path) -> bool:
    """Whether it is what an item of a keyed list is known by: that goes with the item alone."""
    if len(path) < 2 or not path[-2].startswith("k:"):
        return False
    return path[-1][2:] in orjson.loads(path[-2][2:])


def _dropped(document: Any, path: Path) -> Any:
    """Without what is at the path; what is given stays as it was."""
    if isinstance(document, dict) and path[0][2:] in document:
        return _without_field(document, path[0][2:], path[1:])
    if isinstance(document, list):
        return _without_item(document, path[0], path[1:])
    return document


def _without_field(document: Json, name: str, rest: Path) -> Json:
    inner = _dropped(document[name], rest) if rest else None
    if inner in (None, {}, []):  # what was in it alone goes with it
        return {key: value for key, value in document.items() if key != name}
    return {**document, name: inner}


def _without_item(document: list[Any], head: str, rest: Path) -> list[Any]:
    named = orjson.loads(head[2:])
    if not rest:
        return [item for item in document if not _is_named(item, head, named)]
    return [_dropped(i, rest) if _is_named(i, head, named) else i for i in document]


def _is_named(item: Any, head: str, named: Any) -> bool:
    if head.startswith("v:"):
        return bool(item == named)
    return isinstance(item, dict) and all(item.get(key) == named[key] for key in named)


def _owners(document: Json) -> list[_Owner]:
    return [
        _Owner(
            entry.get("manager", ""),
            entry.get("operation", "Update"),
            entry.get("subresource", ""),
            entry.get("apiVersion", ""),
            entry.get("time", ""),
            frozenset(_paths(entry.get("fieldsV1") or {}, ())),
        )
        for entry in document.get("metadata", {}).get("managedFields") or ()
        if isinstance(entry, dict)
    ]


def _paths(fields: Mapping[str, Any], at: Path) -> Iterator[Path]:
    for name, inner in fields.items():
        if name == ".":
            yield at
        elif inner:
            yield from _paths(inner, (*at, name))
        else:
            yield (*at, name)


def _with_owners(document: Json, owners: list[_Owner]) -> Json:
    entries = [_entry(owner) for owner in owners if owner.fields]
    return {**document, "metadata": {**document["metadata"], "managedFields": entries}}


def _entry(owner: _Owner) -> Json:
    made: Json = {
        "manager": owner.manager,
        "operation": owner.operation,
        "apiVersion": owner.api_version,
        "time": owner.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": _tree(owner.fields),
    }
    if owner.subresource:
        made["subresource"] = owner.subresource
    return made


def _tree(paths: Collection[Path]) -> Json:
    made: Json = {}
    for path in sorted(paths):
        at = made
        for element in path:
            at = at.setdefault(element, {})
    for path in paths:
        at = made
        for element in path:
            at = at[element]
        if at:
            at["."] = {}
    return made
