"""Samples, twins, alarms and answers as JSON. Pure. Timestamps are ms since 1970 in UTC."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import orjson

from twinbridge.api.wire import Json, alarm_view
from twinbridge.core.alarm import Alarm
from twinbridge.core.model import MILLISECOND, Quality, Reason, Sample, Value
from twinbridge.ports import HistoryRow, TwinView

EXACT = 2**53
"""Beyond it a reader that takes every number for a float64 reads another integer."""


def encode(content: object) -> bytes:
    try:
        return orjson.dumps(content)
    except TypeError:  # an integer beyond 64 bits, or half of a surrogate pair
        return json.dumps(content, separators=(",", ":")).encode()


class Values:
    """How values are written. `text_beyond`: integers beyond 2^53 as strings."""

    def __init__(self, *, text_beyond: bool) -> None:
        self._text_beyond = text_beyond

    def sample(self, sample: Sample) -> Json:
        value, quality, reason, source_time, _, detail = sample
        view: Json = {
            "value": value,
            "quality": quality.value,
            "timestamp": source_time // MILLISECOND or None,
        }
        kind = type(value)
        if kind is int:
            view["value"] = self.integer(value)  # type: ignore[arg-type]  # an int, as it says
        elif kind is float and not math.isfinite(value):  # type: ignore[arg-type]  # a float
            view["value"] = None
            view["quality"] = Quality.BAD.value
            view["reason"] = Reason.OUT_OF_RANGE.value
        if reason is not Reason.NONE:
            view["reason"] = reason.value
        if detail:
            view["message"] = detail
        return view

    def integer(self, value: int) -> int | str:
        return str(value) if self._text_beyond and not -EXACT <= value <= EXACT else value

    def with_unit(self, sample: Sample, unit: str) -> Json:
        view = self.sample(sample)
        if unit:
            view["unit"] = unit
        return view

    def bare(self, sample: Sample) -> bytes:
        """The value alone: a text as it is, all else as in JSON.

        Empty while it is bad: a bare value cannot say so, and what is bad is never left to look
        good.
        """
        value = sample.value
        if value is None or sample.quality is Quality.BAD:
            return b""
        if isinstance(value, float) and not math.isfinite(value):
            return b""
        if isinstance(value, str):
            return value.encode("utf-8", "replace")
        return encode(value)

    def row(self, row: HistoryRow) -> Json:
        value: Value | None = row.value
        if isinstance(value, int) and not isinstance(value, bool):
            value = self.integer(value)
        return {"value": value, "quality": row.quality, "timestamp": row.timestamp // MILLISECOND}


def changes(at: int, properties: Mapping[str, Json], desired: Json | None = None) -> bytes:
    """`at` is UTC ns."""
    content: Json = {"timestamp": at // MILLISECOND, "properties": properties}
    if desired is not None:
        content["desired"] = desired
    return encode(content)


def twin(
    view: TwinView,
    at: int,
    values: Values,
    units: Mapping[str, str],
    *,
    node: str,
    tripped: bool,
    desired: Json,
) -> bytes:
    """Every property that can be read. `at` is UTC ns; `desired` by property, as REST shows it."""
    return encode(
        {
            "timestamp": at // MILLISECOND,
            "node": node,
            "device": view.spec.name,
            "connected": view.connected,
            "tripped": tripped,
            "properties": {
                name: values.with_unit(sample, units.get(name, ""))
                for name, sample in view.samples.items()
            },
            "desired": desired,
        }
    )


def alarm(alarm: Alarm, node: str, now: int) -> bytes:
    """As REST shows it at UTC ns `now`, and the node."""
    return encode({**alarm_view(alarm, now), "node": node})


def history(at: int, rows: Mapping[str, Sequence[HistoryRow]], values: Values) -> bytes:
    """Recorded samples by property, the oldest first. `at` is UTC ns."""
    properties = {name: [values.row(row) for row in of] for name, of in rows.items()}
    return encode({"timestamp": at // MILLISECOND, "properties": properties})


def node_of(payload: bytes) -> str:
    """The node that a retained twin or alarm names; '' if none."""
    try:
        content = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return ""
    said = content.get("node") if isinstance(content, dict) else None
    return said if isinstance(said, str) else ""
