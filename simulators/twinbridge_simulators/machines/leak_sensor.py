"""A battery-powered water sensor on the floor: `wet`, `battery` and `temperature`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from twinbridge_simulators.faults import FaultKind
from twinbridge_simulators.machines.base import Options
from twinbridge_simulators.machines.valued import BaseValueMachine


class LeakSensorOptions(Options):
    every: Annotated[float, Field(gt=0, description="s between reports; changes at once")] = 10.0
    battery: Annotated[float, Field(ge=0, le=100, description="%, at the start")] = 93.0
    life: Annotated[float, Field(gt=0, description="s, from a full battery to an empty one")] = 1e8
    ambient: Annotated[float, Field(description="Cel")] = 18.5


class LeakSensor(BaseValueMachine):
    """Wet for as long as the fault `leak` stands."""

    possible_faults = frozenset({FaultKind.LEAK})

    def __init__(self, options: LeakSensorOptions | None = None) -> None:
        super().__init__()
        self.options = options or LeakSensorOptions()
        self.battery = self.options.battery
        self.step(0.0)

    @property
    def wet(self) -> bool:
        return FaultKind.LEAK in self.faults

    def step(self, dt: float) -> None:
        self.battery = max(0.0, self.battery - 100 * dt / self.options.life)
        self.values["wet"] = self.wet
        self.values["battery"] = round(self.battery, 1)
        self.values["temperature"] = self.options.ambient
