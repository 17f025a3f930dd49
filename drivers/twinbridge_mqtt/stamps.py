"""When a device says that it measured: a payload's own time in UTC nanoseconds."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias

from twinbridge_mqtt.config import PayloadTime, TimeUnit
from twinbridge_mqtt.places import at_column, at_path, at_pointer
from twinbridge_mqtt.refusal import BadPayload, shown

Stamp: TypeAlias = Callable[[object], int]
"""From what the payload was parsed to. Raises BadPayload."""

_UNITS: dict[TimeUnit, int] = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_LATEST = 2**63 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def compile_stamp(place: PayloadTime) -> Stamp:
    if place.path is not None:
        extract = at_path(place.path)
    elif place.pointer is not None:
        extract = at_pointer(place.pointer)
    else:
        extract = at_column(place.column or 0)
    if place.unit == "iso":
        return lambda document: _iso(extract(document))
    unit = _UNITS[place.unit]
    return lambda document: _count(extract(document), unit)


def _count(raw: object, unit: int) -> int:
    number = raw
    if isinstance(raw, str) and len(raw) < 40 and raw.isascii():  # noqa: PLR2004 - digits of a time
        try:
            number = int(raw) if raw.strip().isdigit() else float(raw)
        except ValueError:
            number = None
    if type(number) is int:
        stamp = number * unit
    elif type(number) is float and math.isfinite(number):
        stamp = round(number * unit)
    else:
        raise BadPayload(f"{shown(raw)} is no timestamp")
    if not 0 <= stamp <= _LATEST:
        raise BadPayload(f"{shown(raw)} is no time between 1970 and 2262")
    return stamp


def _iso(raw: object) -> int:
    try:
        when = datetime.fromisoformat(raw) if isinstance(raw, str) else None
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise BadPayload(f"{shown(raw)} is no timestamp such as 2026-01-31T08:00:00Z")
    since = when - _EPOCH
    stamp = (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000
    if not 0 <= stamp <= _LATEST:
        raise BadPayload(f"{shown(raw)} is no time between 1970 and 2262")
    return stamp
