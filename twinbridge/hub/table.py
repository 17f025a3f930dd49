"""Objects as rows of a Table (meta.k8s.io/v1), which `kubectl get` shows as it comes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from twinbridge.hub import jsonpath
from twinbridge.hub.kinds import Column, Json, Kind

_NAME: Final = {
    "name": "Name",
    "type": "string",
    "format": "name",
    "description": "Name must be unique within a namespace.",
    "priority": 0,
}


def table(kind: Kind, documents: Iterable[Json], metadata: Json, include: str) -> Json:
    """`include`: what of each object goes along: `None`, `Metadata` or `Object`."""
    now = datetime.now(UTC)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": [_NAME, *map(_definition, kind.columns)],
        "rows": [_row(kind, document, include, now) for document in documents],
    }


def _definition(column: Column) -> Json:
    shown = "string" if column.kind == "date" else column.kind
    return {
        "name": column.name,
        "type": shown,
        "format": "",
        "description": column.description,
        "priority": column.priority,
    }


def _row(kind: Kind, document: Json, include: str, now: datetime) -> Json:
    cells = [document["metadata"]["name"]]
    cells += [_cell(document, column, now) for column in kind.columns]
    row: Json = {"cells": cells}
    if include == "Object":
        row["object"] = document
    elif include != "None":
        row["object"] = partial(document)
    return row


def _cell(document: Json, column: Column, now: datetime) -> object:
    value = jsonpath.first(document, column.path)
    if value is None:
        return None
    if column.kind == "date":
        return _since(str(value), now)
    if column.kind == "string":
        return _text(value)
    return value


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict) and "name" in value:  # an event's object
        return f"{str(value.get('kind', '')).lower()}/{value['name']}"
    return str(value)


def partial(document: Json) -> Json:
    """Its metadata alone."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": document["metadata"],
    }


def _since(moment: str, now: datetime) -> str:
    try:
        seconds = int((now - datetime.fromisoformat(moment)).total_seconds())
    except (ValueError, TypeError):
        return "<invalid>"
    return human_duration(max(seconds, 0))


_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86_400, 365 * 86_400


def human_duration(seconds: int) -> str:  # noqa: PLR0911 - one line for each of its ranges
    """As `kubectl` shows ages (k8s.io/apimachinery/pkg/util/duration, HumanDuration)."""
    minutes, hours = seconds // _MINUTE, seconds // _HOUR
    days, years = seconds // _DAY, seconds // _YEAR
    if seconds < 2 * _MINUTE:
        return f"{seconds}s"
    if minutes < 10:  # noqa: PLR2004 - the source's bounds, here and below
        return _two(minutes, "m", seconds % _MINUTE, "s")
    if minutes < 3 * 60:
        return f"{minutes}m"
    if hours < 8:  # noqa: PLR2004
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:  # noqa: PLR2004
        return f"{hours}h"
    if days < 8:  # noqa: PLR2004
        return _two(days, "d", hours % 24, "h")
    if days < 2 * 365:
        return f"{days}d"
    if years < 8:  # noqa: PLR2004
        return _two(years, "y", days % 365, "d")
    return f"{years}y"


def _two(large: int, unit: str, small: int, part: str) -> str:
    return f"{large}{unit}{small}{part}" if small else f"{large}{unit}"
