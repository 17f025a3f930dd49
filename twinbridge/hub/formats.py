"""How an answer is wanted: whole objects, their metadata alone, or a Table; JSON or YAML."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple

import orjson

from twinbridge.hub import refusals
from twinbridge.hub.events_k8s import to_shown
from twinbridge.hub.kinds import Json, Kind
from twinbridge.hub.stored import Change, Stored, metadata_in
from twinbridge.hub.table import partial, table

WHOLE, METADATA, TABLE = "", "PartialObjectMetadata", "Table"
ACCEPTED: Final = ("application/json", "application/yaml")
_ANY: Final = ("", "*/*", "application/*")


_PARTIAL: Final = b'{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":%b}'


class Format(NamedTuple):
    """`shape` WHOLE, METADATA or TABLE; `include` as a Table's request says."""

    shape: str = WHOLE
    include: str = "Metadata"
    yaml: bool = False

    @property
    def media_type(self) -> str:
        if self.yaml:
            return "application/yaml"
        return "application/json"


class MediaRange(NamedTuple):
    kind: str
    parameters: dict[str, str]


def media_ranges(accept: str) -> Iterator[MediaRange]:
    """Of an Accept header, in its order; clients of Kubernetes give no weights."""
    for part in accept.split(","):
        kind, *given = (piece.strip() for piece in part.split(";"))
        pairs = (piece.partition("=") for piece in given)
        yield MediaRange(kind.lower(), {name.lower(): value for name, _, value in pairs})


def wanted(accept: str, include: str = "") -> Format:
    """The first of the client's ways that is ours. Raises Refused: 406."""
    for kind, parameters in media_ranges(accept):
        if kind not in _ANY and kind not in ACCEPTED:
            continue
        shape = parameters.get("as", "").removesuffix("List")
        if shape not in (WHOLE, METADATA, TABLE):
            continue
        if shape and (parameters.get("v"), parameters.get("g")) != ("v1", "meta.k8s.io"):
            continue
        return Format(shape, include or "Metadata", yaml=kind == "application/yaml")
    raise refusals.not_acceptable(ACCEPTED)


def one(kind: Kind, document: Json, form: Format) -> Json:
    """An object that is stored as `document`, as it is wanted."""
    if form.shape == METADATA:
        return partial(document)
    shown = to_shown(kind, document)
    if form.shape == TABLE:
        version = document["metadata"].get("resourceVersion", "")
        return table(kind, [shown], {"resourceVersion": version}, form.include)
    return shown


def listed(kind: Kind, items: Iterable[Stored], metadata: Json, form: Format) -> bytes:
    """A list of them, as JSON."""
    if form.shape == TABLE:
        documents = (to_shown(kind, item.document()) for item in items)
        return orjson.dumps(table(kind, documents, metadata, form.include))
    if form.shape == METADATA:
        head = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
    else:
        head = {"kind": f"{kind.kind}List", "apiVersion": kind.api_version}
    start = orjson.dumps({**head, "metadata": metadata})[:-1]
    return b'%b,"items":[%b]}' % (start, b",".join(_encoded(kind, i, form) for i in items))


def _encoded(kind: Kind, item: Stored, form: Format) -> bytes:
    if form.shape == WHOLE and not kind.stored_as:
        return item.body
    if form.shape == METADATA:
        return _PARTIAL % item.metadata
    return orjson.dumps(one(kind, item.document(), form))


def event(kind: Kind, said: str, item: Stored, form: Format) -> bytes:
    """A line of a watch: `said` ADDED, MODIFIED or DELETED."""
    return b'{"type":"%b","object":%b}\n' % (said.encode(), _encoded(kind, item, form))


def changed(kind: Kind, said: str, change: Change, form: Format) -> bytes:
    """The same line for every watcher that wants it so, made once."""
    of_old = said == "DELETED" and not change.deleted
    key = (kind.api_version, form, said)
    line = change.encoded.get(key)
    if line is None:
        item = _left(change) if of_old else change.item
        line = change.encoded[key] = event(kind, said, item, form)
    return line


def _left(change: Change) -> Stored:
    """Of what left a selection: its old state, with the version at which it left."""
    assert change.old is not None  # noqa: S101 - only what was selected can leave
    document = change.old.document()
    document["metadata"]["resourceVersion"] = str(change.item.version)
    old = change.old
    body = orjson.dumps(document)
    return replace(old, version=change.item.version, body=body, about=metadata_in(document, body))


def bookmark(kind: Kind, version: int, form: Format, *, initial_end: bool = False) -> bytes:
    metadata: Json = {"resourceVersion": str(version), "creationTimestamp": None}
    if initial_end:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    if form.shape == TABLE:
        mark: Json = table(kind, (), metadata, form.include)
    elif form.shape == METADATA:
        mark = partial({"metadata": metadata})
    else:
        mark = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
    return orjson.dumps({"type": "BOOKMARK", "object": mark}) + b"\n"
