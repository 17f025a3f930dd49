"""What the properties of any Device do over time, without knowing the machine or its wire."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Annotated

from pydantic import Field, model_validator

from twinbridge.core.model import Point, Value, ValueType
from twinbridge.errors import InvalidInput
from twinbridge_simulators.faults import FaultKind
from twinbridge_simulators.machines.base import Options
from twinbridge_simulators.waveforms import Waveform, phase_value, walk

HEATING = 3.0
"""Seconds in which an overheating machine comes to the top of its range."""
TEMPERATURE_UNITS = frozenset({"Cel", "K", "[degF]"})
SPAN_WITHOUT_LIMITS = 100.0


class PropertyOptions(Options):
    """How one property moves; limits default to the property's own."""

    waveform: Waveform | None = None
    minimum: float | None = None
    maximum: float | None = None
    period: Annotated[float, Field(gt=0, description="s")] = 60.0
    value: Annotated[bool | int | float | str | None, Field(description="Held, or at first")] = None

    @model_validator(mode="after")
    def _ordered(self) -> PropertyOptions:
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum:g} is above maximum {self.maximum:g}")
        return self


class GenericOptions(Options):
    interval: Annotated[float, Field(gt=0, le=60, description="s between changes")] = 0.1
    properties: Annotated[dict[str, PropertyOptions], Field(default_factory=dict)]


@dataclass(slots=True)
class _Signal:
    """One property in motion. `level` and `phase` are shares of its range and period."""

    point: Point
    waveform: Waveform
    low: float
    high: float
    period: float
    phase: float
    level: float = 0.5
    heat: float = 0.0


class Signals:
    """Properties in motion; those that can be written, and strings, stay at their first value.

    Raises InvalidInput when the options name a property that is not among the points.
    """

    def __init__(self, points: Sequence[Point], options: GenericOptions, random: Random) -> None:
        self._random = random
        self._time = 0.0
        _check_names(options.properties.keys(), {point.spec.name for point in points})
        self.first: dict[str, Value] = {}
        self._signals = [
            s
            for point in points
            if (s := self._set_up(point, options.properties.get(point.spec.name)))
        ]
        hot = any(s.point.spec.unit in TEMPERATURE_UNITS for s in self._signals)
        self.possible_faults = frozenset({FaultKind.OVERHEAT} if hot else ())

    def _set_up(self, point: Point, chosen: PropertyOptions | None) -> _Signal | None:
        """Keep its first value; None for what does not move by itself."""
        given = chosen or PropertyOptions()
        low, high = _range(point, given)
        first = given.value if given.value is not None else _first_value(point, low)
        self.first[point.spec.name] = first
        waveform = given.waveform or _usual_waveform(point, given)
        if waveform is Waveform.HOLD or point.spec.type is ValueType.STRING:
            return None
        return _Signal(point, waveform, low, high, given.period, self._random.random())

    def step(self, dt: float, faults: set[FaultKind]) -> Mapping[str, Value]:
        """What moves, `dt` seconds later."""
        self._time += dt
        hot = FaultKind.OVERHEAT in faults
        return {s.point.spec.name: self._moved(s, dt, hot=hot) for s in self._signals}

    def _moved(self, signal: _Signal, dt: float, *, hot: bool) -> Value:
        if signal.waveform is Waveform.RANDOM_WALK:
            signal.level = walk(signal.level, dt, signal.period, self._random)
        else:
            phase = signal.phase + self._time / signal.period
            signal.level = phase_value(signal.waveform, phase)
        kind = signal.point.spec.type
        if kind is ValueType.BOOL:
            return signal.level >= 0.5  # noqa: PLR2004 - the upper half
        value = signal.low + (signal.high - signal.low) * signal.level
        value = _heated(signal, value, dt, hot=hot)
        return round(value) if kind is ValueType.INT else value


def _check_names(named: Collection[str], known: set[str]) -> None:
    if unknown := sorted(set(named) - known):
        raise InvalidInput(
            f"options: properties: no property {unknown[0]!r}; "
            f"allowed are {', '.join(sorted(known))}"
        )


def _heated(signal: _Signal, value: float, dt: float, *, hot: bool) -> float:
    """Overheating takes a temperature from its wave to its property's maximum, and back."""
    spec = signal.point.spec
    if spec.unit not in TEMPERATURE_UNITS:
        return value
    change = dt / HEATING if hot else -dt / HEATING
    signal.heat = min(1.0, max(0.0, signal.heat + change))
    top = spec.maximum if spec.maximum is not None else signal.high + SPAN_WITHOUT_LIMITS
    return value + (top - value) * signal.heat


def _range(point: Point, given: PropertyOptions) -> tuple[float, float]:
    low = given.minimum if given.minimum is not None else point.spec.minimum
    high = given.maximum if given.maximum is not None else point.spec.maximum
    if low is None:
        low = min(0.0, high - SPAN_WITHOUT_LIMITS) if high is not None else 0.0
    return low, high if high is not None else low + SPAN_WITHOUT_LIMITS


def _usual_waveform(point: Point, given: PropertyOptions) -> Waveform:
    if point.spec.access.writable or given.value is not None:
        return Waveform.HOLD
    usual = {ValueType.BOOL: Waveform.SQUARE, ValueType.INT: Waveform.RAMP}
    return usual.get(point.spec.type, Waveform.SINE)


def _first_value(point: Point, low: float) -> Value:
    """A string takes a label that its address has a name for."""
    match point.spec.type:
        case ValueType.BOOL:
            return False
        case ValueType.STRING:
            labels = getattr(getattr(point.address, "model", None), "labels", None)
            return str(next(iter(labels.values()))) if labels else point.spec.name
        case ValueType.INT:
            return round(max(low, 0.0))
        case _:
            return max(low, 0.0)
