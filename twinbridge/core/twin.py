"""What a twin may become: reported only by reading, desired only along its life cycle."""

from __future__ import annotations

import math

from twinbridge.core.model import (
    PropertySpec,
    Quality,
    Reason,
    Sample,
    Value,
    ValueType,
    finite,
    same_value,
    shown,
)
from twinbridge.errors import InvalidDesired


def report(
    previous: Sample,
    spec: PropertySpec,
    value: Value | None,
    quality: Quality,
    reason: Reason,
    source_time: int,
    seq: int,
    detail: str = "",
) -> Sample | None:
    """The sample that a reading makes of the previous one, or None when it changes nothing.

    A bad reading keeps the last good value and its time; NaN and the infinities are bad.
    `minimum` and `maximum` bound what may be written: a reading beyond them stands as read.
    """
    if value is not None and not finite(value):
        quality, reason = Quality.BAD, Reason.OUT_OF_RANGE
        detail = detail or f"the device gives {value}"
    if quality is Quality.BAD or value is None:
        return _bad(previous, reason or Reason.DEVICE_FAULT, seq, detail)
    if spec.type is ValueType.FLOAT and type(value) is int:
        value = float(value)
    if (
        value == previous.value
        and type(value) is type(previous.value)
        and quality is previous.quality
        and reason is previous.reason
        and detail == previous.detail
    ):
        return None
    # As Sample(…), which costs twice as much; this is done for every value that changes.
    return tuple.__new__(Sample, (value, quality, reason, source_time, seq, detail))


def late(previous: Sample, source_time: int, horizon: int | None) -> bool:
    """Whether a reading is a replay, given the device's own time of it and of the last one.

    An older reading is late. With a `horizon` (ns) only one that is older by no more than that
    is: beyond it, or when the last value is not good, the device's clock was set back, and a
    device whose clock was set back is not to be silenced.
    """
    if previous.value is None:
        return False
    behind = previous.source_time - source_time
    if horizon is None:
        return behind > 0
    return previous.good and 0 < behind <= horizon


def _bad(previous: Sample, reason: Reason, seq: int, detail: str) -> Sample | None:
    same = previous.quality is Quality.BAD and previous.reason is reason
    if same and previous.detail == detail:
        return None
    return lose(previous, reason, seq, detail)


def lose(previous: Sample, reason: Reason, seq: int, detail: str = "") -> Sample:
    """The property gives no values: bad, with the last good value and its time."""
    return Sample(previous.value, Quality.BAD, reason, previous.source_time, seq, detail)


_KINDS: dict[ValueType, tuple[type, str]] = {
    ValueType.BOOL: (bool, "true or false"),
    ValueType.INT: (int, "a whole number"),
    ValueType.FLOAT: (float, "a number"),
    ValueType.STRING: (str, "a text"),
}


def check_desired(spec: PropertySpec, value: Value) -> Value:
    """The value as its property's type: an int may stand for a float, a bool for no number.

    Raises InvalidDesired, naming the property and what is allowed.
    """
    if not spec.access.writable:
        raise _invalid(spec, "cannot be written: it is read-only", "properties that are writable")
    kind, allowed = _KINDS[spec.type]
    if spec.type is ValueType.FLOAT and type(value) is int:
        value = _as_float(spec, value)
    if type(value) is not kind:
        raise _invalid(spec, f"{shown(value)} is of the wrong type", allowed)
    if not finite(value):
        raise _invalid(spec, f"{shown(value)} is no number that a machine can be set to", allowed)
    if isinstance(value, int | float) and not isinstance(value, bool):
        _check_range(spec, value)
    return value


def _as_float(spec: PropertySpec, value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        raise _invalid(spec, "is too large", "a number that fits a float64") from None


def _check_range(spec: PropertySpec, value: float) -> None:
    low = -math.inf if spec.minimum is None else spec.minimum
    high = math.inf if spec.maximum is None else spec.maximum
    if not low <= value <= high:
        unit = f" {spec.unit}" if spec.unit else ""
        raise _invalid(spec, f"{shown(value)} is out of range", f"{low:g} to {high:g}{unit}")


def _invalid(spec: PropertySpec, what: str, allowed: str) -> InvalidDesired:
    return InvalidDesired(
        f"{spec.name}: {what}; allowed: {allowed}", field=spec.name, allowed=allowed
    )


def expired(
    accepted: int, valid_until: int | None, accepted_mono: int, wall: int, mono: int
) -> bool:
    """Whether a desired value is too old to be written (DOMAIN §1.7).

    Its age counts on the monotonic clock. `accepted_mono` 0: it was accepted before a restart,
    so only wall time is left, and a clock that stands before the acceptance counts against it.
    """
    if valid_until is None:
        return False
    if accepted_mono:
        return mono - accepted_mono >= valid_until - accepted
    return not accepted <= wall < valid_until


def satisfied(spec: PropertySpec, desired: Value, sample: Sample) -> bool:
    """Whether a good reading agrees with what is desired; bad data satisfies nothing."""
    return sample.good and same_value(sample.value, desired, spec.tolerance)
