"""A motor behind a Schneider TeSys Tera motor manager.

The map is DOMAIN's; registers marked * are the simulator's own, since the published part of the
map has none for them:

    0x157C, 0x157E, 0x1580  holding u32 x 0.001  current L1, L2, L3, A
    0x158A                  holding u32 x 0.1    voltage, V
    0x1594                  holding u16 x 0.01   frequency, Hz
    0x1596                  holding u32 x 0.001  power, kW
    0x159C                  holding u64 x 0.001  energy, kWh
    0x15B0 *                holding s16 x 0.1    winding temperature, Cel
    0x15B1 *                holding u16 x 0.1    mechanical load, % of rated, writable
    0x0210, 0x0211          discrete             running forward, reverse
    0x0212 *                discrete             the manager's own thermal trip stands
    0x02C0                  holding              command: bit 0 run, 3 trip reset, 12 stop

Bit 0 is held: the motor runs while it is 1. Bits 3 and 12 act once and clear themselves; bit 12
wins over bit 0 and clears it, so that a stopped motor starts only by a new command.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field
from typing_extensions import override

from twinbridge_simulators.faults import FaultKind
from twinbridge_simulators.machines.base import BaseMachine, Options, s16, u16, unsigned
from twinbridge_simulators.registers import RegisterBank, Table

CURRENTS, VOLTAGE, FREQUENCY, POWER, ENERGY = (
    (0x157C, 0x157E, 0x1580),
    0x158A,
    0x1594,
    0x1596,
    0x159C,
)
TEMPERATURE, LOAD = 0x15B0, 0x15B1
RUNNING_FORWARD, RUNNING_REVERSE, TRIPPED = 0x0210, 0x0211, 0x0212
COMMAND = 0x02C0
RUN, TRIP_RESET, STOP = 1 << 0, 1 << 3, 1 << 12

LINE_VOLTAGE, LINE_FREQUENCY, POWER_FACTOR = 400.0, 50.0, 0.86
NO_LOAD_SHARE = 0.35
"""An idle induction motor draws about a third of its rated current, to magnetise."""
LOCKED_ROTOR = 6.0
"""Times the rated current, with the rotor held."""
SOFT_START = 0.3
"""By how much a soft starter lets the current rise above that of the load, at standstill."""

UNCOOLED_SLOWER = 10
"""How much more slowly a motor without ventilation cools at standstill."""


class MotorOptions(Options):
    """The motor's plate, and how fast its physics move."""

    ratedCurrent: Annotated[float, Field(gt=0, description="A")] = 20.0  # noqa: N815 - as in YAML
    load: Annotated[float, Field(ge=0, le=200, description="% of rated")] = 70.0
    running: Annotated[bool, Field(description="Whether it runs at the start")] = True
    ambient: Annotated[float, Field(description="Cel")] = 25.0
    temperatureRise: Annotated[float, Field(gt=0, description="K at rated load")] = 60.0  # noqa: N815
    heatingTime: Annotated[float, Field(gt=0, description="s, thermal time constant")] = 10.0  # noqa: N815
    coastDown: Annotated[float, Field(gt=0, description="s to standstill")] = 0.3  # noqa: N815
    tripTemperature: Annotated[float, Field(description="Cel, the manager's own trip")] = 155.0  # noqa: N815


@dataclass(frozen=True, slots=True)
class Motor:
    """The state. `speed` 0 to 1; `current` A; `temperature` Cel; `energy` kWh."""

    temperature: float
    speed: float = 0.0
    current: float = 0.0
    power: float = 0.0
    energy: float = 0.0
    tripped: bool = False


@dataclass(frozen=True, slots=True)
class Inputs:
    """What acts on the motor: the command, the load (1 = rated), and what has gone wrong."""

    run: bool
    load: float
    jammed: bool = False
    uncooled: bool = False


def step(motor: Motor, given: Inputs, plate: MotorOptions, dt: float) -> Motor:
    """The motor `dt` seconds later; pure."""
    driven = given.run and not motor.tripped
    speed = _speed(motor.speed, given, driven, plate.coastDown, dt)
    current = _current(given, speed, plate.ratedCurrent) if driven else 0.0
    temperature = _temperature(motor.temperature, current, given.uncooled, plate, dt)
    factor = POWER_FACTOR if speed > 0 else 0.3
    power = math.sqrt(3) * LINE_VOLTAGE * current * factor / 1000
    return Motor(
        temperature=temperature,
        speed=speed,
        current=current,
        power=power,
        energy=motor.energy + power * dt / 3600,
        tripped=motor.tripped or temperature >= plate.tripTemperature,
    )


def reset(motor: Motor, plate: MotorOptions) -> Motor:
    """The manager's own trip is released once the winding has cooled by 20 K."""
    return replace(motor, tripped=motor.tripped and motor.temperature > plate.tripTemperature - 20)


def _speed(speed: float, given: Inputs, driven: bool, coast: float, dt: float) -> float:  # noqa: FBT001 - reads as a sentence
    if given.jammed:
        return 0.0
    return min(1.0, speed + dt / 0.6) if driven else max(0.0, speed - dt / coast)


def _current(given: Inputs, speed: float, rated: float) -> float:
    if given.jammed:
        return LOCKED_ROTOR * rated
    steady = NO_LOAD_SHARE + (1 - NO_LOAD_SHARE) * given.load
    return rated * steady * (1 + SOFT_START * (1 - speed))


def _temperature(
    now: float,
    current: float,
    uncooled: bool,  # noqa: FBT001 - a flag of the plant
    plate: MotorOptions,
    dt: float,
) -> float:
    """First-order heating by the square of the current; without cooling it heats thrice as far,
    and standing still it stays hot for long.
    """
    rise = plate.temperatureRise * (current / plate.ratedCurrent) ** 2 * (3 if uncooled else 1)
    target = plate.ambient + rise
    slower = UNCOOLED_SLOWER if uncooled and not current else 1
    return target + (now - target) * math.exp(-dt / (plate.heatingTime * slower))


class TesysTera(BaseMachine):
    possible_faults: frozenset[FaultKind] = frozenset({FaultKind.OVERHEAT, FaultKind.JAM})

    def __init__(self, options: MotorOptions | None = None) -> None:
        super().__init__(RegisterBank({0: "Schneider Electric", 1: "LTMT", 2: "simulated"}))
        self.plate = options or MotorOptions()
        self.motor = Motor(temperature=self.plate.ambient)
        bank = self.bank
        bank.put(Table.DISCRETE, RUNNING_FORWARD, 0, 0, 0)
        bank.put(Table.HOLDING, COMMAND, RUN if self.plate.running else 0)
        bank.put(Table.HOLDING, LOAD, *u16(self.plate.load * 10))
        if self.plate.running:
            self._settle()
        self.show()

    @property
    def command(self) -> int:
        return self.bank.get(Table.HOLDING, COMMAND)[0]

    @property
    def running(self) -> bool:
        """Whether it turns, or tries to."""
        return self.motor.speed > 0 or self.motor.current > 0

    def _settle(self) -> None:
        """Begin as a motor that has run for long."""
        given = self._inputs()
        current = _current(given, 1.0, self.plate.ratedCurrent)
        warm = _temperature(0.0, current, False, self.plate, 100 * self.plate.heatingTime)
        self.motor = step(Motor(temperature=warm, speed=1.0), given, self.plate, 0.0)

    def _inputs(self) -> Inputs:
        overheated = FaultKind.OVERHEAT in self.faults
        load = self.bank.get(Table.HOLDING, LOAD)[0] / 1000
        return Inputs(
            run=bool(self.command & RUN),
            load=load + (0.3 if overheated else 0.0),
            jammed=FaultKind.JAM in self.faults,
            uncooled=overheated,
        )

    @override
    def written(self, table: Table, address: int, values: Sequence[int]) -> None:
        if address <= COMMAND < address + len(values) and table is Table.HOLDING:
            self._obey(values[COMMAND - address])

    def _obey(self, command: int) -> None:
        if command & TRIP_RESET:
            self.motor = reset(self.motor, self.plate)
        if command & STOP or self.motor.tripped:
            command &= ~RUN
        self.bank.put(Table.HOLDING, COMMAND, command & ~(STOP | TRIP_RESET))
        self.step(0.0)

    def step(self, dt: float) -> None:
        """An overload that lasts makes the manager itself let go, and it drops the command."""
        self.motor = step(self.motor, self._inputs(), self.plate, dt)
        if self.motor.tripped and self.command & RUN:
            self.bank.put(Table.HOLDING, COMMAND, self.command & ~RUN)
        self.show()

    def show(self) -> None:
        motor, put = self.motor, self.bank.put
        for phase, address in enumerate(CURRENTS):
            put(
                Table.HOLDING,
                address,
                *unsigned(motor.current * (1 + 0.01 * (phase - 1)) * 1000, 2),
            )
        put(Table.HOLDING, VOLTAGE, *unsigned(LINE_VOLTAGE * 10, 2))
        put(Table.HOLDING, FREQUENCY, *u16(LINE_FREQUENCY * 100))
        put(Table.HOLDING, POWER, *unsigned(motor.power * 1000, 2))
        put(Table.HOLDING, ENERGY, *unsigned(motor.energy * 1000, 4))
        put(Table.HOLDING, TEMPERATURE, *s16(motor.temperature * 10))
        put(Table.DISCRETE, RUNNING_FORWARD, int(self.running), 0, int(motor.tripped))
