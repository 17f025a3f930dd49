"""Raw values ↔ values: scaling, labels, truth and time.

A scaled number is rounded to the nearest raw value, a half away from zero, in exact decimal
arithmetic: 0.15 at scale 0.1 is 1.5, so 2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from fractions import Fraction
from typing import TypeAlias

from twinbridge.core.model import PropertySpec, Value, ValueType
from twinbridge.core.scaling import exact, nearest, scaled
from twinbridge_modbus.config import ModbusAddress
from twinbridge_modbus.raw import BadValue, Raw, Refused

_LARGEST_POWER = 20
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")

Conversion: TypeAlias = tuple[Callable[[Raw, int], Value], Callable[[Value, int], Raw]]


def conversion(spec: PropertySpec, address: ModbusAddress) -> Conversion:
    if address.labels is not None:
        return _labelled(address.labels)
    if address.encoding == "unixtime" and spec.type is ValueType.STRING:
        return _timestamps()
    if spec.type is ValueType.BOOL:
        return (lambda number, _power: bool(number)), _whether
    if spec.type is ValueType.STRING:
        return (lambda characters, _power: characters), lambda value, _power: str(value)
    return _Scale(spec, address).conversion()


def _whether(value: Value, _power: int) -> Raw:
    if not isinstance(value, bool):
        raise Refused(f"{value!r} is neither true nor false")
    return int(value)


def _labelled(labels: dict[int, str]) -> Conversion:
    numbers = {label: number for number, label in labels.items()}

    def to_value(number: Raw, _power: int) -> Value:
        label = labels.get(number)  # type: ignore[arg-type]  # other types merely have no label
        if label is None:
            raise BadValue(f"raw value {number} has no label")
        return label

    def to_raw(value: Value, _power: int) -> Raw:
        if not isinstance(value, str) or value not in numbers:
            raise Refused(f"{value!r} is no label; allowed are {', '.join(numbers)}")
        return numbers[value]

    return to_value, to_raw


def _timestamps() -> Conversion:
    def to_value(number: Raw, _power: int) -> Value:
        moment = datetime.fromtimestamp(float(number), UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

    def to_raw(value: Value, _power: int) -> Raw:
        if not isinstance(value, str) or not _TIMESTAMP.fullmatch(value):
            raise Refused(f"{value!r} is no RFC 3339 time such as 2026-01-31T12:00:00Z")
        return math.floor(datetime.fromisoformat(value).timestamp())

    return to_value, to_raw


class _Scale:
    """value = raw * scale * 10^power + offset, within the property's limits if it is clamped."""

    def __init__(self, spec: PropertySpec, address: ModbusAddress) -> None:
        self._integral = spec.type is ValueType.INT
        self._whole_raw = address.encoding not in ("float32", "float64")
        self._given_scale, self._given_offset = address.scale, address.offset
        self._scale = exact(1.0 if address.scale is None else address.scale)
        self._offset = exact(address.offset)
        self._factored = address.scale_factor is not None
        limits = (spec.minimum, spec.maximum) if address.clamp else (None, None)
        self._minimum, self._maximum = limits

    def conversion(self) -> Conversion:
        if self._integral:
            return self._to_int, self._to_raw
        return (self._plain() or self._to_float), self._to_raw

    def _plain(self) -> Callable[[Raw, int], Value] | None:
        """The common case, an integer with a fixed scale, without exact arithmetic."""
        fixed = not self._factored and self._minimum is None and self._maximum is None
        if not (fixed and self._whole_raw):
            return None
        value = scaled(self._given_scale, self._given_offset)
        return lambda number, _power: value(int(number))

    def _factor(self, power: int) -> Fraction:
        if abs(power) > _LARGEST_POWER:
            raise BadValue(f"scale factor 10^{power} is not available")
        return self._scale * Fraction(10) ** power if power else self._scale

    def _to_float(self, number: Raw, power: int) -> Value:
        factor = self._factor(power)
        value = float(number)
        if math.isfinite(value):
            value = _double(Fraction(number) * factor + self._offset)
        if not math.isfinite(value):
            raise BadValue(f"raw value {number} becomes {value}")
        return self._clamped(value)

    def _to_int(self, number: Raw, power: int) -> Value:
        if not isinstance(number, int):
            raise BadValue(f"raw value {number} is not whole")
        return int(self._clamped(int(number * self._factor(power) + self._offset)))

    def _clamped(self, value: float) -> float:
        if self._minimum is not None and value < self._minimum:
            return self._minimum
        if self._maximum is not None and value > self._maximum:
            return self._maximum
        return value

    def _to_raw(self, value: Value, power: int) -> Raw:
        if isinstance(value, bool | str) or not math.isfinite(value):
            raise Refused(f"{value!r} is not a finite number")
        raw = (exact(value) - self._offset) / self._factor(power)
        return nearest(raw) if self._whole_raw else _as_float(raw)


def _double(number: Fraction) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _as_float(raw: Fraction) -> float:
    try:
        return float(raw)
    except OverflowError:
        raise Refused("the value does not fit a 64-bit float") from None
