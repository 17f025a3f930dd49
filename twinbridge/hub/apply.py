"""Who manages which fields, and server-side apply.

Source: Kubernetes, Server-Side Apply; sigs.k8s.io/structured-merge-diff/v4, merge.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from typing import Any, Final

from twinbridge.errors import TwinBridgeError
from twinbridge.hub.field_sets import (
    ITSELF,
    Fields,
    common,
    differing,
    dotted,
    element,
    fields_of,
    holds,
    in_order,
    manageable,
    minus,
    paths,
    union,
)
from twinbridge.hub.schema import ResourceSchema
from twinbridge.hub.structure import Json, Structure

_BY_STATUS: Final = ("apiVersion", "kind", "status")
_NOTHING: Final[Fields] = {}


class ApplyConflict(TwinBridgeError):
    """Others manage fields that the apply would change: `causes` are (field, manager)."""

    def __init__(self, causes: list[tuple[str, str]]) -> None:
        super().__init__(f"{len(causes)} fields are managed by others")
        self.causes = causes


def apply(
    live: Json | None,
    applied: Json,
    manager: str,
    schema: ResourceSchema,
    *,
    subresource: str,
    force: bool,
    now: str,
    api_version: str,
) -> Json:
    """The whole object as the manager wants it, with managedFields. Raises ApplyConflict.

    The usual case is quick: a manager applies the same fields again, and shares none of them.
    """
    root, before = schema.structure, live or {}
    given = _counted(applied, subresource)
    wanted = fields_of(manageable(given), root)
    mine = _entry(manager, "Apply", subresource, api_version, now)
    was, others = _apart(before, mine)
    if any(common(other["fieldsV1"], wanted) for other in others):
        changed = differing(manageable(before), manageable(given), root) or _NOTHING
        conflicts = list(_conflicts(others, changed))
        if conflicts and not force:
            raise ApplyConflict(conflicts)
        others = [_less(other, changed) for other in others]
    new = merged(before, given, root)
    if was is not None and was["fieldsV1"] == wanted:
        return _with_owners(new, [*others, {**was, "apiVersion": api_version}])
    if was is not None:
        kept = reduce(union, (other["fieldsV1"] for other in others), wanted)
        new = _map_without(new, minus(was["fieldsV1"], kept), kept, root)
    return _with_owners(new, [*others, {**mine, "fieldsV1": in_order(wanted)}])


def track_update(
    old: Json | None,
    new: Json,
    manager: str,
    schema: ResourceSchema,
    *,
    subresource: str,
    now: str,
    api_version: str,
) -> Json:
    """`new` with managedFields: what differs from `old` is the manager's from now on."""
    before, after = _where_they_differ(old or {}, new)
    changed = differing(before, after, schema.structure) or _NOTHING
    gone = minus(fields_of(before, schema.structure), fields_of(after, schema.structure))
    reset = new["metadata"].get("managedFields") in ([], [{}])
    mine = _entry(manager, "Update", subresource, api_version, now)
    was, others = _apart({} if reset or old is None else old, mine)
    touched = union(changed, gone)
    others = [_less(other, touched) for other in others] if touched else others
    had = was["fieldsV1"] if was else _NOTHING
    if was and not touched:
        mine["time"] = was["time"]
    fields = in_order(union(minus(had, gone), changed))
    return _with_owners(new, [*others, {**mine, "fieldsV1": fields}])


def _counted(applied: Json, subresource: str) -> Json:
    """What of an applied object counts: by /status the status alone."""
    if subresource != "status":
        return applied
    made: Json = {name: applied[name] for name in _BY_STATUS if name in applied}
    named = {k: v for k, v in applied.get("metadata", {}).items() if k in ("name", "namespace")}
    return {**made, "metadata": named}


def _where_they_differ(old: Json, new: Json) -> tuple[Json, Json]:
    """What can be managed of both, without the parts that one has from the other."""
    shared = [name for name, value in new.items() if old.get(name) is value]
    before = manageable({k: v for k, v in old.items() if k not in shared})
    return before, manageable({k: v for k, v in new.items() if k not in shared})


def merged(live: Any, applied: Any, at: Structure) -> Any:  # noqa: ANN401 - any JSON
    """The live value with the applied one in it."""
    if isinstance(applied, dict) and isinstance(live, dict) and not at.atomic:
        made = dict(live)
        for name, value in applied.items():
            below = isinstance(value, dict | list) and name in live
            made[name] = merged(live[name], value, at.child(name)) if below else value
        return made
    if isinstance(applied, list) and isinstance(live, list) and at.granular:
        return _merged_list(live, applied, at)
    return applied


def _merged_list(live: list[Any], applied: list[Any], at: Structure) -> list[Any]:
    wanted = {element(item, at): item for item in applied}
    if len(wanted) < len(applied):
        return applied  # an item that is given twice is for the schema to refuse
    made = []
    for item in live:
        given = wanted.pop(element(item, at), None)
        made.append(item if given is None else merged(item, given, at.item()))
    return [*made, *wanted.values()]


def _map_without(
    value: Json, gone: Fields, kept: Fields, at: Structure, keys: tuple[str, ...] = ()
) -> Json:
    """Without the fields that are gone; the keys of an item go with the item alone."""
    made = dict(value)
    for name, below in gone.items():
        field = name[2:]
        if name == ITSELF or field not in made or field in keys:
            continue
        rest = _rest(made[field], below, kept.get(name), at.child(field))
        if rest in (None, {}, []):  # what was in it alone goes with it
            del made[field]
        else:
            made[field] = rest
    return made


def _rest(value: Any, gone: Fields, kept: Fields | None, at: Structure) -> Any:  # noqa: ANN401 - any JSON
    if holds(gone) and kept is None:
        return None
    if isinstance(value, dict):
        return _map_without(value, gone, kept or _NOTHING, at)
    if isinstance(value, list) and at.granular:
        return _list_without(value, gone, kept or _NOTHING, at)
    return value


def _list_without(value: list[Any], gone: Fields, kept: Fields, at: Structure) -> list[Any]:
    made = []
    for item in value:
        name = element(item, at)
        below, stays = gone.get(name), kept.get(name)
        if below is not None and holds(below) and stays is None:
            continue
        if below is not None and isinstance(item, dict):
            item = _map_without(item, below, stays or _NOTHING, at.item(), at.keys)  # noqa: PLW2901 - less of it
        made.append(item)
    return made


def _entry(manager: str, operation: str, subresource: str, api_version: str, now: str) -> Json:
    """Of managedFields, without the fields."""
    made: Json = {
        "manager": manager,
        "operation": operation,
        "apiVersion": api_version,
        "time": now,
        "fieldsType": "FieldsV1",
    }
    return {**made, "subresource": subresource} if subresource else made


def _key(entry: Json) -> tuple[str, str, str]:
    return entry["manager"], entry["operation"], entry.get("subresource", "")


def _apart(document: Json, mine: Json) -> tuple[Json | None, list[Json]]:
    """The entry of this manager as it was, and those of all others."""
    was, others = None, []
    for entry in document.get("metadata", {}).get("managedFields") or ():
        if _key(entry) == _key(mine):
            was = entry
        else:
            others.append(entry)
    return was, others


def _less(entry: Json, lost: Fields) -> Json:
    rest = minus(entry["fieldsV1"], lost)
    return {**entry, "fieldsV1": rest}


def _with_owners(document: Json, owners: Iterable[Json]) -> Json:
    entries = sorted((owner for owner in owners if owner["fieldsV1"]), key=_rank)
    return {**document, "metadata": {**document["metadata"], "managedFields": entries}}


def _rank(entry: Json) -> tuple[str, ...]:
    """The API server's order, so that it says nothing of who wrote last."""
    subresource = entry.get("subresource", "")
    time, manager = entry["time"], entry["manager"]
    return entry["operation"], time, manager, entry["apiVersion"], subresource


def _conflicts(others: Iterable[Json], changed: Fields) -> Iterator[tuple[str, str]]:
    for other in others:
        for path in sorted(paths(common(other["fieldsV1"], changed))):
            yield dotted(path), _told(other)


def _told(entry: Json) -> str:
    subresource, updated = entry.get("subresource"), entry["operation"] == "Update"
    where = f' with subresource "{subresource}"' if subresource else ""
    at = f" at {entry['time']}" if updated and entry["time"] else ""
    return f'"{entry["manager"]}"{where} using {entry["apiVersion"]}{at}'
