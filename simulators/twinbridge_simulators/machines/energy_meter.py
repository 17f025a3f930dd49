"""An energy meter with MQTT: `power` W, `energy` kWh, voltages V, currents A, `frequency` Hz.

Its physics are those of the SDM630.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from twinbridge_simulators.machines import sdm630
from twinbridge_simulators.machines.valued import BaseValueMachine


class EnergyMeterOptions(sdm630.MeterOptions):
    """What the feeder carries, and how often it is told."""

    every: Annotated[float, Field(gt=0, description="s between reports")] = 1.0


class EnergyMeter(BaseValueMachine):
    interval = 0.1

    def __init__(self, options: EnergyMeterOptions | None = None) -> None:
        super().__init__()
        self.options = options or EnergyMeterOptions()
        self.meter = sdm630.Meter()
        self.step(0.0)

    def step(self, dt: float) -> None:
        self.meter = sdm630.step(self.meter, self.options, dt)
        self.values["power"] = self.meter.watts
        self.values["energy"] = self.meter.imported
        self.values["energy-exported"] = self.meter.exported
        self.values["frequency"] = 50.0
        for phase, share in enumerate(sdm630.PHASE_SHARES, start=1):
            amperes = abs(self.meter.watts) * share / (sdm630.NOMINAL_VOLTS * sdm630.POWER_FACTOR)
            volts = sdm630.NOMINAL_VOLTS - sdm630.SOURCE_OHMS * amperes
            self.values[f"voltage-l{phase}"] = round(volts, 3)
            self.values[f"current-l{phase}"] = round(amperes, 3)
