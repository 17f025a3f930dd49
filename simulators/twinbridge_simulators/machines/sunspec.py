"""A SunSpec inverter: models 1 (common), 103 (three-phase inverter), 123 (immediate controls).

Holding registers from 40000 on. Offsets below count from a model's ID register, as in DOMAIN;
each number has its scale factor beside it (value = raw x 10^sf).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from pydantic import Field
from typing_extensions import override

from twinbridge_simulators.faults import FaultKind
from twinbridge_simulators.machines.base import BaseMachine, Options, s16, u16, unsigned
from twinbridge_simulators.registers import ExceptionCode, Refused, RegisterBank, Table

BASE = 40000
COMMON, COMMON_LENGTH = BASE + 2, 66
INVERTER, INVERTER_LENGTH = COMMON + 2 + COMMON_LENGTH, 50
CONTROLS, CONTROLS_LENGTH = INVERTER + 2 + INVERTER_LENGTH, 24
END = CONTROLS + 2 + CONTROLS_LENGTH
NOT_IMPLEMENTED = 0xFFFF
NOT_IMPLEMENTED_SIGNED = 0x8000
SIGNED_POINTS = (14, 15, 6, 13, 17, 18, 19, 20, 21, 22, 23, 26, 28, 30, 31, 32, 33, 34, 35, 36, 37)
CONN, LIMIT, LIMIT_REVERT, LIMIT_ENABLED, LIMIT_SF = 4, 5, 7, 9, 23
HOTTEST = 85.0
"""Cel in the cabinet; from there on the inverter protects itself."""
HUNDRED_PERCENT = 1000
"""WMaxLimPct has a scale factor of -1."""


class State(IntEnum):
    """Point St of model 103."""

    OFF = 1
    MPPT = 4
    THROTTLED = 5
    FAULT = 7
    STANDBY = 8


class InverterOptions(Options):
    """The inverter's plate and its sun."""

    power: Annotated[float, Field(gt=0, le=320_000, description="W, rated")] = 10_000.0
    period: Annotated[float, Field(gt=0, description="s, of one day of sun")] = 240.0


@dataclass(frozen=True, slots=True)
class Inputs:
    """`sun` 0 to 1, `limit` 0 to 1 of the rated power."""

    connected: bool
    sun: float
    limit: float = 1.0
    uncooled: bool = False


@dataclass(frozen=True, slots=True)
class Inverter:
    """Watts, watt-hours, cabinet temperature in Cel."""

    watts: float = 0.0
    energy: float = 0.0
    temperature: float = 30.0
    state: State = State.STANDBY


def step(inverter: Inverter, given: Inputs, rated: float, dt: float) -> Inverter:
    """The inverter `dt` seconds later; pure."""
    state = _state(inverter, given)
    running = state in {State.MPPT, State.THROTTLED}
    watts = rated * min(given.sun, given.limit) if running else 0.0
    target = 30.0 + 30.0 * watts / rated + (80.0 if given.uncooled else 0.0)
    temperature = target + (inverter.temperature - target) * math.exp(-dt / 15.0)
    return Inverter(watts, inverter.energy + watts * dt / 3600, temperature, state)


def _state(inverter: Inverter, given: Inputs) -> State:
    """A fault by heat stands until the cabinet has cooled by 15 K."""
    cooling = inverter.state is State.FAULT and inverter.temperature > HOTTEST - 15
    if inverter.temperature >= HOTTEST or cooling:
        return State.FAULT
    if not given.connected:
        return State.OFF
    if given.sun <= 0:
        return State.STANDBY
    return State.THROTTLED if given.limit < given.sun else State.MPPT


class SunSpecInverter(BaseMachine):
    interval = 0.1
    possible_faults: frozenset[FaultKind] = frozenset({FaultKind.OVERHEAT})

    def __init__(self, options: InverterOptions | None = None) -> None:
        super().__init__(RegisterBank())
        self.plate = options or InverterOptions()
        self.inverter = Inverter()
        self._time = self.plate.period / 4
        self._revert_in: float | None = None
        self._lay_out()
        self.step(0.0)

    def _lay_out(self) -> None:
        self._put(BASE, 0x5375, 0x6E53)
        self._put(COMMON, 1, COMMON_LENGTH, *[0] * COMMON_LENGTH)
        for offset, length, text in (
            (2, 16, "TwinBridge"),
            (18, 16, "Simulated inverter"),
            (42, 8, "1.0"),
            (50, 16, "SIM-0001"),
        ):
            raw = text.encode().ljust(2 * length, b"\0")
            self.bank.put_raw(Table.HOLDING, COMMON + offset, raw)
        self._put(INVERTER, 103, INVERTER_LENGTH, *[NOT_IMPLEMENTED] * INVERTER_LENGTH)
        for offset in SIGNED_POINTS:
            self._put(INVERTER + offset, NOT_IMPLEMENTED_SIGNED)
        self._put(CONTROLS, 123, CONTROLS_LENGTH, *[NOT_IMPLEMENTED] * CONTROLS_LENGTH)
        self._put(CONTROLS + CONN, 1, HUNDRED_PERCENT)
        self._put(CONTROLS + LIMIT_REVERT, 0)
        self._put(CONTROLS + LIMIT_ENABLED, 0)
        self._put(CONTROLS + LIMIT_SF, *s16(-1))
        self._put(END, 0xFFFF, 0)

    @override
    def written(self, table: Table, address: int, values: Sequence[int]) -> None:
        """Only the implemented controls may be written: Conn, WMaxLimPct, RvrtTms, WMaxLim_Ena."""
        for control, value in enumerate(values, address - CONTROLS):
            most = {CONN: 1, LIMIT: HUNDRED_PERCENT, LIMIT_REVERT: 0xFFFE, LIMIT_ENABLED: 1}
            if control not in most:
                raise Refused(ExceptionCode.ILLEGAL_ADDRESS)
            if value > most[control]:
                raise Refused(ExceptionCode.ILLEGAL_VALUE)
        revert = self._control(LIMIT_REVERT)
        limited = bool(self._control(LIMIT_ENABLED))
        self._revert_in = float(revert) if revert and limited else None
        self.step(0.0)

    def _control(self, offset: int) -> int:
        return self.bank.get(Table.HOLDING, CONTROLS + offset)[0]

    def step(self, dt: float) -> None:
        self._time += dt
        self._revert(dt)
        limited = self._control(LIMIT_ENABLED)
        given = Inputs(
            connected=bool(self._control(CONN)),
            sun=max(0.0, math.sin(2 * math.pi * self._time / self.plate.period)),
            limit=self._control(LIMIT) / HUNDRED_PERCENT if limited else 1.0,
            uncooled=FaultKind.OVERHEAT in self.faults,
        )
        self.inverter = step(self.inverter, given, self.plate.power, dt)
        self._show(self.inverter)

    def _revert(self, dt: float) -> None:
        """A limit that nobody renews falls away after WMaxLimPct_RvrtTms."""
        if self._revert_in is not None:
            self._revert_in -= dt
            if self._revert_in <= 0:
                self._revert_in = None
                self._put(CONTROLS + LIMIT_ENABLED, 0)

    def _show(self, inverter: Inverter) -> None:
        amperes = inverter.watts / (3 * 230.0)
        phases = u16(amperes * 100)
        self._put(INVERTER + 2, *u16(amperes * 3 * 100), *phases * 3, *s16(-2))
        self._put(INVERTER + 10, *u16(2300) * 3, *s16(-1))
        self._put(INVERTER + 14, *s16(inverter.watts / 10), *s16(1))
        self._put(INVERTER + 16, *u16(5000), *s16(-2))
        self._put(INVERTER + 24, *unsigned(inverter.energy, 2), *s16(0))
        self._put(INVERTER + 33, *s16(inverter.temperature * 10))
        self._put(INVERTER + 37, *s16(-1), inverter.state)

    def _put(self, address: int, *values: int) -> None:
        self.bank.put(Table.HOLDING, address, *values)
