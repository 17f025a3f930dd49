"""Sets of fields, as `managedFields` has them: FieldsV1.

A set is a tree. Its elements name fields (`f:spec`), items by their keys (`k:{"name":"run"}`) and
items by their values (`v:"a"`); what has nothing below it is in the set, and so is what has `.`.
Source: sigs.k8s.io/structured-merge-diff/v4, fieldpath.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, TypeAlias

import orjson

from twinbridge.hub.json_values import same
from twinbridge.hub.structure import Json, Structure

Fields: TypeAlias = dict[str, Any]
Path: TypeAlias = tuple[str, ...]

ITSELF: Final = "."
LEAF: Final[Fields] = {}
_SERVERS: Final = frozenset(
    (
        "name", "namespace", "generateName", "uid", "resourceVersion", "generation", "selfLink",
        "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields",
    )
)  # fmt: skip


def manageable(document: Json) -> Json:
    """Without what the server alone sets, and nobody manages."""
    made = {k: v for k, v in document.items() if k not in ("apiVersion", "kind", "metadata")}
    metadata = {k: v for k, v in document.get("metadata", {}).items() if k not in _SERVERS}
    return {"metadata": metadata, **made} if metadata else made


def element(item: Any, at: Structure) -> str:  # noqa: ANN401 - any JSON
    """How an item of a list that is managed one by one is named."""
    if at.keys and isinstance(item, dict):
        first = item.get(at.keys[0])
        if len(at.keys) == 1 and isinstance(first, str):
            return _keyed(at.keys[0], first)
        named = {key: item.get(key) for key in at.keys}
        return f"k:{orjson.dumps(named).decode()}"
    return f"v:{orjson.dumps(item).decode()}"


@lru_cache(maxsize=10_000)
def _keyed(key: str, value: str) -> str:
    return f"k:{orjson.dumps({key: value}).decode()}"


def fields_of(value: Any, at: Structure) -> Fields:  # noqa: ANN401 - any JSON
    """All that can be managed in it; LEAF where that is the value itself."""
    if not value:
        return LEAF
    if isinstance(value, dict) and not at.atomic:
        return {
            f"f:{name}": fields_of(inner, at.child(name))
            if isinstance(inner, dict | list)
            else LEAF
            for name, inner in value.items()
        }
    if isinstance(value, list) and at.granular:
        return {element(item, at): _item(item, at) for item in value}
    return LEAF


def _item(item: Any, at: Structure) -> Fields:  # noqa: ANN401 - any JSON
    if at.keys and isinstance(item, dict):
        return {ITSELF: LEAF, **fields_of(item, at.item())}
    return LEAF


def differing(old: Any, new: Any, at: Structure) -> Fields | None:  # noqa: ANN401 - any JSON
    """What of the new is not so in the old; None for nothing."""
    if new and isinstance(new, dict) and isinstance(old, dict) and not at.atomic:
        found = {
            f"f:{name}": differing(old[name], inner, at.child(name))
            if name in old
            else fields_of(inner, at.child(name))
            for name, inner in new.items()
        }
    elif new and isinstance(new, list) and isinstance(old, list) and at.granular:
        there = {element(item, at): item for item in old}
        found = {}
        for item in new:
            name = element(item, at)
            known = name in there
            found[name] = differing_item(there[name], item, at) if known else _item(item, at)
    elif same(old, new):
        return None
    else:
        return fields_of(new, at)
    some = {name: below for name, below in found.items() if below is not None}
    return some or None


def differing_item(old: Any, new: Any, at: Structure) -> Fields | None:  # noqa: ANN401 - any JSON
    """Of two items of one name: they are both there."""
    return differing(old, new, at.item()) if at.keys and isinstance(new, dict) else None


def holds(fields: Fields) -> bool:
    """Whether it itself is in the set."""
    return not fields or ITSELF in fields


def _made(below: Fields, *, itself: bool) -> Fields | None:
    if itself:
        return {ITSELF: LEAF, **below} if below else LEAF
    return below or None


def common(one: Fields, other: Fields) -> Fields:
    """What is in both."""
    found: Fields = {}
    for name in one.keys() & other.keys():
        if name == ITSELF:
            continue
        mine, theirs = one[name], other[name]
        both = _made(common(mine, theirs), itself=holds(mine) and holds(theirs))
        if both is not None:
            found[name] = both
    return found


def minus(one: Fields, other: Fields) -> Fields:
    """What is in one and not in the other."""
    if one == other or not one:
        return {}
    found: Fields = {}
    for name, mine in one.items():
        if name == ITSELF:
            continue
        theirs = other.get(name)
        if theirs is None:
            found[name] = mine
            continue
        rest = _made(minus(mine, theirs), itself=holds(mine) and not holds(theirs))
        if rest is not None:
            found[name] = rest
    return found


def union(one: Fields, other: Fields) -> Fields:
    """What is in any of them."""
    made = {name: below for name, below in one.items() if name != ITSELF}
    for name, theirs in other.items():
        if name == ITSELF:
            continue
        mine = made.get(name)
        if mine is None:
            made[name] = theirs
        elif mine is not theirs:
            held = holds(mine) or holds(theirs)
            below = union(mine, theirs)
            made[name] = {ITSELF: LEAF, **below} if held and below else below
    return made


def in_order(fields: Fields) -> Fields:
    """As the API server writes it."""
    return {name: in_order(fields[name]) if fields[name] else LEAF for name in sorted(fields)}


def paths(fields: Fields, at: Path = ()) -> Iterator[Path]:
    for name, below in fields.items():
        if name == ITSELF:
            yield at
        elif below:
            yield from paths(below, (*at, name))
        else:
            yield (*at, name)


def dotted(path: Path) -> str:
    """`.spec.properties[name="run"].type`"""
    return "".join(map(_said, path))


def _said(name: str) -> str:
    if name.startswith("f:"):
        return f".{name[2:]}"
    if name.startswith("v:"):
        return f"[={name[2:]}]"
    named: Mapping[str, Any] = orjson.loads(name[2:])
    return "[" + ",".join(f"{k}={orjson.dumps(v).decode()}" for k, v in named.items()) + "]"
