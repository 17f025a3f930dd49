"""Twins, alarms and rules as they go over the wire: plain dicts, ready for JSON.

The same shapes serve REST, SSE and MQTT. Timestamps are RFC 3339 in UTC with milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TypeAlias

from twinbridge.api import durations
from twinbridge.core.alarm import Alarm
from twinbridge.core.messages import Contact
from twinbridge.core.model import (
    MILLISECOND,
    SECOND,
    DesiredSpec,
    PropertySpec,
    Reason,
    Sample,
    Value,
)
from twinbridge.core.rule import RuleInstance
from twinbridge.errors import InvalidDesired

Json: TypeAlias = dict[str, object]

_LONGEST = 3650 * 86_400 * SECOND
DURATION_ALLOWED = "a duration of 1ms to 87600h with its unit: 500ms, 10s, 5m, 8h"
TIMESTAMP_ALLOWED = "an RFC 3339 timestamp with offset: 2026-01-31T08:00:00Z"


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def timestamp(ns: int) -> str | None:
    """RFC 3339 with milliseconds; None for 0, which means 'not yet'."""
    if ns <= 0:
        return None
    seconds, rest = divmod(ns, SECOND)
    return f"{_second(seconds)}.{rest // MILLISECOND:03d}Z"


def parse_timestamp(text: object, field: str) -> int:
    """UTC ns. Raises InvalidDesired for anything but RFC 3339 with an offset, 1970 or later."""
    try:
        when = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        when = None
    if when is None or when.tzinfo is None or when.timestamp() < 0:
        raise InvalidDesired(
            f"{field}: {text!r} is no timestamp", field=field, allowed=TIMESTAMP_ALLOWED
        )
    whole = int(when.replace(microsecond=0).timestamp())
    return whole * SECOND + when.microsecond * 1000


def parse_duration(text: object, field: str) -> int:
    """Nanoseconds, above 0. Raises InvalidDesired for anything else."""
    try:
        ns = durations.parse_duration(text) if isinstance(text, str) and len(text) < 32 else 0  # noqa: PLR2004 - no sane duration is longer
    except ValueError:
        ns = 0
    if not MILLISECOND <= ns <= _LONGEST:
        raise InvalidDesired(
            f"{field}: {text!r} is no duration", field=field, allowed=DURATION_ALLOWED
        )
    return ns


def parse_patch(patch: Mapping[str, object]) -> dict[str, DesiredSpec | None]:
    """A merge patch of desired values; None withdraws. Raises InvalidDesired naming the field.

    A value is written as itself, or as `{"value": …, "validFor": "10s"}` or `"validUntil"`.
    """
    return {name: _parse_wish(name, wish) for name, wish in patch.items()}


def _parse_wish(name: str, wish: object) -> DesiredSpec | None:
    if wish is None:
        return None
    if not isinstance(wish, dict):
        return DesiredSpec(name, _scalar(wish, name))
    for key in wish:
        if key not in ("value", "validFor", "validUntil"):
            raise InvalidDesired(
                f"{name}.{key}: unknown field",
                field=f"{name}.{key}",
                allowed="value, validFor, validUntil",
            )
    if "value" not in wish:
        raise InvalidDesired(
            f"{name}.value: missing", field=f"{name}.value", allowed="the value that is desired"
        )
    if "validFor" in wish and "validUntil" in wish:
        raise InvalidDesired(
            f"{name}.validUntil: given together with validFor",
            field=f"{name}.validUntil",
            allowed="one of validFor and validUntil",
        )
    return DesiredSpec(
        name,
        _scalar(wish["value"], f"{name}.value"),
        valid_until=_optional(wish, "validUntil", name, parse_timestamp),
        valid_for=_optional(wish, "validFor", name, parse_duration),
    )


def _optional(
    wish: Mapping[str, object], key: str, name: str, parse: Callable[[object, str], int]
) -> int | None:
    return parse(wish[key], f"{name}.{key}") if key in wish else None


def _scalar(value: object, field: str) -> Value:
    if isinstance(value, bool | int | float | str):
        return value
    raise InvalidDesired(
        f"{field}: not a scalar", field=field, allowed="true, false, a number or a string"
    )


def reported_view(sample: Sample) -> Json:
    view: Json = {
        "value": sample.value,
        "quality": sample.quality.value,
        "timestamp": timestamp(sample.source_time),
    }
    if sample.reason is not Reason.NONE:
        view["reason"] = sample.reason.value
    if sample.detail:
        view["message"] = sample.detail
    return view


def samples_view(device: str, samples: Iterable[tuple[str, Sample]]) -> Json:
    """What one poll of one device changed; of several samples of a property the last one."""
    return {
        "device": device,
        "properties": {name: {"reported": reported_view(sample)} for name, sample in samples},
    }


def contact_view(contact: Contact) -> Json:
    return {
        "device": contact.device,
        "connected": contact.connected,
        "timestamp": timestamp(contact.at),
        "message": contact.message,
    }


def property_view(spec: PropertySpec, sample: Sample | None, desired: Json | None) -> Json:
    """One property of a twin; `reported` is null for a property that cannot be read."""
    view: Json = {
        "reported": reported_view(sample) if sample is not None else None,
        "desired": desired,
        "type": spec.type.value,
        "access": spec.access.value,
    }
    if spec.unit:
        view["unit"] = spec.unit
    if spec.minimum is not None:
        view["minimum"] = spec.minimum
    if spec.maximum is not None:
        view["maximum"] = spec.maximum
    return view


def alarm_view(alarm: Alarm, now: int) -> Json:
    """`now` is UTC ns: whether a shelving still stands depends on it."""
    return {
        "id": alarm.id,
        "rule": alarm.rule,
        "device": alarm.device,
        "severity": alarm.severity.value,
        "state": alarm.display(now),
        "active": alarm.active,
        "acked": alarm.acked,
        "ackedBy": alarm.acked_by or None,
        "latched": alarm.latched,
        "shelvedUntil": timestamp(alarm.shelved_until) if alarm.shelved_until > now else None,
        "since": timestamp(alarm.since),
        "cleared": timestamp(alarm.cleared),
        "message": alarm.message,
        "trip": {
            "state": alarm.trip.value,
            "message": alarm.trip_message,
            "detectToAckMs": _milliseconds(alarm.detect_to_ack),
            "detectToVerifiedMs": _milliseconds(alarm.detect_to_verified),
            "holds": [{"device": d, "property": p, "value": v} for d, p, v in alarm.holds],
        },
        "inputs": [
            {"property": ref, "value": value, "quality": quality}
            for ref, value, quality in alarm.inputs
        ],
    }


def _milliseconds(ns: int) -> float | None:
    return round(ns / MILLISECOND, 3) if ns else None


def instance_view(instance: RuleInstance, mode: str, alarm: Alarm | None, now: int) -> Json:
    """A rule on one device, with the alarm that stands for it."""
    return {
        "device": instance.device,
        "id": instance.id,
        "mode": mode,
        "state": alarm.display(now) if alarm else "Normal",
        "tripped": alarm.tripped if alarm else False,
        "alarm": alarm.id if alarm else None,
    }
