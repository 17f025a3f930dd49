"""An Eastron SDM630 V2 three-phase meter: input registers, float32, high word first.

Volts at 0, 2, 4; amperes 6, 8, 10; watts 12, 14, 16; total W 52; power factor 62; Hz 70;
import kWh 72; export kWh 74. It refuses reads of more than 60 registers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from twinbridge_simulators.machines.base import BaseMachine, Options, float32
from twinbridge_simulators.registers import RegisterBank, Table

VOLTS, AMPERES, WATTS = (0, 2, 4), (6, 8, 10), (12, 14, 16)
TOTAL_WATTS, FACTOR, HERTZ, IMPORTED, EXPORTED = 52, 62, 70, 72, 74
MOST_REGISTERS = 60
POWER_FACTOR, NOMINAL_VOLTS, SOURCE_OHMS = 0.92, 230.0, 0.1
PHASE_SHARES = (0.32, 0.33, 0.35)


class MeterOptions(Options):
    """What the meter's feeder carries: a mean power with a slow swing. Negative: it exports."""

    power: Annotated[float, Field(description="W, all phases, on the mean")] = 6000.0
    swing: Annotated[float, Field(description="W, up and down from the mean")] = 2000.0
    period: Annotated[float, Field(gt=0, description="s, of one swing")] = 60.0


@dataclass(frozen=True, slots=True)
class Meter:
    """`time` s since the start, `watts` of all phases, energies in kWh."""

    time: float = 0.0
    watts: float = 0.0
    imported: float = 0.0
    exported: float = 0.0


def step(meter: Meter, feeder: MeterOptions, dt: float) -> Meter:
    """The meter `dt` seconds later; import and export count apart and never run back."""
    time = meter.time + dt
    watts = feeder.power + feeder.swing * math.sin(2 * math.pi * time / feeder.period)
    energy = watts * dt / 3_600_000
    return Meter(
        time=time,
        watts=watts,
        imported=meter.imported + max(energy, 0.0),
        exported=meter.exported + max(-energy, 0.0),
    )


class Sdm630(BaseMachine):
    interval = 0.1

    def __init__(self, options: MeterOptions | None = None) -> None:
        super().__init__(RegisterBank({0: "Eastron", 1: "SDM630", 2: "simulated"}))
        self.bank.most_registers = MOST_REGISTERS
        self.bank.define(Table.INPUT, 0, 76)
        self.feeder = options or MeterOptions()
        self.meter = Meter()
        self.step(0.0)

    def step(self, dt: float) -> None:
        self.meter = step(self.meter, self.feeder, dt)
        self._show(self.meter)

    def _show(self, meter: Meter) -> None:
        for phase, share in enumerate(PHASE_SHARES):
            watts = meter.watts * share
            amperes = abs(watts) / (NOMINAL_VOLTS * POWER_FACTOR)
            self._put(VOLTS[phase], NOMINAL_VOLTS - SOURCE_OHMS * amperes)
            self._put(AMPERES[phase], amperes)
            self._put(WATTS[phase], watts)
        self._put(TOTAL_WATTS, meter.watts)
        self._put(FACTOR, POWER_FACTOR)
        self._put(HERTZ, 50.0 + 0.02 * math.sin(meter.time))
        self._put(IMPORTED, meter.imported)
        self._put(EXPORTED, meter.exported)

    def _put(self, address: int, value: float) -> None:
        self.bank.put(Table.INPUT, address, *float32(value))
