"""Get and list."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import NamedTuple

from twinbridge.hub import asked, formats, refusals
from twinbridge.hub.asked import Place, Target
from twinbridge.hub.formats import Format
from twinbridge.hub.kinds import Json
from twinbridge.hub.refusals import Cause, Refused
from twinbridge.hub.store import HubStore
from twinbridge.hub.stored import Key, Stored
from twinbridge.hub.watch import Selection

_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. "
    "You must start a new list without the continue parameter."
)


class Page(NamedTuple):
    items: list[Stored]
    version: int
    onward: str
    remaining: int


def list_of(
    store: HubStore, target: Target, chosen: Selection, query: Mapping[str, str], form: Format
) -> bytes:
    """The answer to a list. Raises Refused."""
    page = _page(store, chosen, query)
    metadata: Json = {"resourceVersion": str(page.version)}
    if page.onward:
        metadata["continue"] = page.onward
        if not (query.get("labelSelector") or query.get("fieldSelector")):
            metadata["remainingItemCount"] = page.remaining
    return formats.listed(target.kind, page.items, metadata, form)


def _page(store: HubStore, chosen: Selection, query: Mapping[str, str]) -> Page:
    place = asked.place_of(query["continue"]) if query.get("continue") else None
    version = _version(store, query, place)
    items = _at(store, chosen.resource, version, place)
    selected = sorted(
        (item for item in items.values() if chosen.has(item)),
        key=lambda item: (item.key.namespace, item.key.name),
    )
    if place:
        names = [(item.key.namespace, item.key.name) for item in selected]
        selected = selected[bisect_right(names, place.after) :]
    limit = asked.limit_of(query)
    if not limit or len(selected) <= limit:
        return Page(selected, version, "", 0)
    last = selected[limit - 1].key
    onward = asked.token_of(Place(version, (last.namespace, last.name)))
    return Page(selected[:limit], version, onward, len(selected) - limit)


def _version(store: HubStore, query: Mapping[str, str], place: Place | None) -> int:
    """Of which the list shall be."""
    wanted, match = asked.version_of(query), query.get("resourceVersionMatch", "")
    if place:
        if wanted:
            told = "specifying resource version is not allowed when using continue"
            raise refusals.bad_request(told)
        return place.version
    if match not in ("", "Exact", "NotOlderThan"):
        told = f'Unsupported value: "{match}": supported values: "Exact", "NotOlderThan", ""'
        raise _bad_match("FieldValueNotSupported", told)
    if match and wanted is None:
        told = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
        raise _bad_match("FieldValueForbidden", told)
    if match == "Exact" and wanted == 0:
        told = 'Forbidden: resourceVersionMatch "Exact" is forbidden for resourceVersion "0"'
        raise _bad_match("FieldValueForbidden", told)
    if wanted and wanted > store.version:
        raise refusals.too_large_version(wanted, store.version)
    exact = match == "Exact" or (not match and asked.limit_of(query) > 0)
    return wanted if wanted and exact else store.version


def _bad_match(reason: str, told: str) -> Refused:
    return refusals.invalid_options("ListOptions", [Cause("resourceVersionMatch", reason, told)])


def _at(store: HubStore, resource: str, version: int, place: Place | None) -> Mapping[Key, Stored]:
    if version > store.version:
        raise refusals.too_large_version(version, store.version)
    try:
        return store.items_at(resource, version)
    except Refused:
        if place:
            raise refusals.expired(_TOO_OLD) from None
        message = "The resourceVersion for the provided list is too old."
        raise refusals.expired(message) from None
