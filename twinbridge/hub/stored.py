"""An object as the hub holds it, and what happened to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from twinbridge.hub.kinds import Json, Kind

_NOTHING: Mapping[str, str] = {}


class Key(NamedTuple):
    """Names an object: `resource` as it is stored, such as `devices.devices.twinbridge.io`."""

    resource: str
    namespace: str
    name: str


@dataclass(frozen=True, eq=False, slots=True)
class Stored:
    """Its JSON with its resource version, and what selectors look at."""

    key: Key
    version: int
    body: bytes
    labels: Mapping[str, str]
    selectable: Json
    """The object, reduced to the fields by which it can be selected."""
    about: slice = field(default_factory=lambda: slice(0))
    """Where its metadata is in its JSON."""

    def document(self) -> Json:
        """A fresh copy."""
        found: Json = orjson.loads(self.body)
        return found

    @property
    def metadata(self) -> bytes:
        """As JSON."""
        return self.body[self.about]


def stored(kind: Kind, key: Key, version: int, document: Json, body: bytes) -> Stored:
    labels = document["metadata"].get("labels") or _NOTHING
    return Stored(
        key, version, body, labels, _reduced(document, kind.fields), metadata_in(document, body)
    )


def metadata_in(document: Json, body: bytes) -> slice:
    """Where its metadata is in the JSON of a document."""
    metadata = orjson.dumps(document["metadata"])
    start = body.index(b'"metadata":' + metadata) + len(b'"metadata":')
    return slice(start, start + len(metadata))


def _reduced(document: Json, paths: tuple[str, ...]) -> Json:
    made: Json = {}
    for path in paths:
        at, to = document, made
        *way, last = path.split(".")
        for step in way:
            found = at.get(step)
            at = found if isinstance(found, dict) else {}
            to = to.setdefault(step, {})
        if last in at:
            to[last] = at[last]
    return made


def selected_value(item: Stored, path: str) -> str:
    """The value of a selectable field as text, '' where it has none."""
    at: object = item.selectable
    for step in path.split("."):
        at = at.get(step) if isinstance(at, dict) else None
    return "" if at is None else str(at)


@dataclass(frozen=True, eq=False, slots=True)
class Change:
    """What happened at `item.version`; a deleted item is its last state with that version."""

    item: Stored
    old: Stored | None
    deleted: bool
    encoded: dict[object, bytes] = field(default_factory=dict)
    """Each way in which some watcher wanted it, made once."""

    @property
    def new(self) -> Stored | None:
        return None if self.deleted else self.item
