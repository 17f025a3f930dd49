"""A machine made from nothing but its Device: each property moves, or holds what is written."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Annotated

from pydantic import Field, model_validator

from twinbridge.core.model import Point, Value, ValueType
from twinbridge.errors import InvalidInput
from twinbridge_modbus.address import BoundAddress
from twinbridge_modbus.codec import Refused as Unencodable
from twinbridge_simulators.faults import FaultKind
from twinbridge_simulators.machines.base import BaseMachine, Options
from twinbridge_simulators.registers import RegisterBank, Table
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
    address: BoundAddress
    waveform: Waveform
    low: float
    high: float
    period: float
    phase: float
    level: float = 0.5
    heat: float = 0.0


class GenericMachine(BaseMachine):
    """Registers and encodings are those of the Device; a property that can be written holds."""

    def __init__(
        self,
        points: tuple[Point, ...],
        options: GenericOptions | None = None,
        *,
        bank: RegisterBank | None = None,
        random: Random | None = None,
    ) -> None:
        super().__init__(bank or RegisterBank({0: "TwinBridge", 1: "simulated", 2: "1"}))
        self._options = options or GenericOptions(properties={})
        self._random = random or Random(0)  # noqa: S311 - a simulation is to be repeatable
        self.interval = self._options.interval
        self._time = 0.0
        self._check_names({point.spec.name for point in points})
        self._signals = [s for point in points if (s := self._set_up(point))]
        hot = any(s.point.spec.unit in TEMPERATURE_UNITS for s in self._signals)
        self.possible_faults = frozenset({FaultKind.OVERHEAT} if hot else ())
        self.step(0.0)

    def _check_names(self, known: set[str]) -> None:
        if unknown := sorted(self._options.properties.keys() - known):
            raise InvalidInput(
                f"options: properties: no property {unknown[0]!r}; "
                f"allowed are {', '.join(sorted(known))}"
            )

    def _set_up(self, point: Point) -> _Signal | None:
        """Lay out the registers, give the first value; None for what does not move by itself."""
        address = point.address
        if not isinstance(address, BoundAddress):
            raise TypeError(f"{point.ref}: no Modbus address")
        if address.factor:
            self.bank.define(Table(address.factor[0]), address.factor[1])
        self.bank.define(Table(address.table), address.address, address.count)
        given = self._options.properties.get(point.spec.name, PropertyOptions())
        low, high = _range(point, given)
        first = given.value if given.value is not None else _first_value(point, address, low)
        self._put(address, first)
        waveform = given.waveform or _usual_waveform(point, given)
        if waveform is Waveform.HOLD or point.spec.type is ValueType.STRING:
            return None
        phase = self._random.random()
        return _Signal(point, address, waveform, low, high, given.period, phase)

    def step(self, dt: float) -> None:
        self._time += dt
        for signal in self._signals:
            self._put(signal.address, self._moved(signal, dt))

    def _moved(self, signal: _Signal, dt: float) -> Value:
        if signal.waveform is Waveform.RANDOM_WALK:
            signal.level = walk(signal.level, dt, signal.period, self._random)
        else:
            phase = signal.phase + self._time / signal.period
            signal.level = phase_value(signal.waveform, phase)
        kind = signal.point.spec.type
        if kind is ValueType.BOOL:
            return signal.level >= 0.5  # noqa: PLR2004 - the upper half
        value = signal.low + (signal.high - signal.low) * signal.level
        value = self._heated(signal, value, dt)
        return round(value) if kind is ValueType.INT else value

    def _heated(self, signal: _Signal, value: float, dt: float) -> float:
        """Overheating takes a temperature from its wave to its property's maximum, and back."""
        spec = signal.point.spec
        if spec.unit not in TEMPERATURE_UNITS:
            return value
        change = dt / HEATING if FaultKind.OVERHEAT in self.faults else -dt / HEATING
        signal.heat = min(1.0, max(0.0, signal.heat + change))
        top = spec.maximum if spec.maximum is not None else signal.high + SPAN_WITHOUT_LIMITS
        return value + (top - value) * signal.heat

    def _put(self, address: BoundAddress, value: Value) -> None:
        """A value outside what the encoding holds leaves the register as it is."""
        table = Table(address.table)
        current = self.bank.read(table, address.address, address.count)
        try:
            raw = address.codec.encode(value, self._power(address), current)
        except Unencodable:
            return
        self.bank.put_raw(table, address.address, raw)

    def _power(self, address: BoundAddress) -> int:
        if address.factor is None:
            return 0
        raw = self.bank.get(Table(address.factor[0]), address.factor[1])[0]
        return raw - 0x10000 if raw & 0x8000 else raw


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


def _first_value(point: Point, address: BoundAddress, low: float) -> Value:
    match point.spec.type:
        case ValueType.BOOL:
            return False
        case ValueType.STRING:
            labels = address.model.labels
            return next(iter(labels.values())) if labels else point.spec.name
        case ValueType.INT:
            return round(max(low, 0.0))
        case _:
            return max(low, 0.0)
