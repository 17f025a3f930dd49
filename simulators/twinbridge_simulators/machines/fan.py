"""A fan with a speed controller: commands `run` and `setpoint`; reports `running` and `speed`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field
from typing_extensions import override

from twinbridge.core.model import Value
from twinbridge.errors import InvalidInput
from twinbridge_simulators.faults import FaultKind
from twinbridge_simulators.machines.base import Options
from twinbridge_simulators.machines.valued import BaseValueMachine

TURNING = 1.0
"""% of full speed from which on it counts as running."""


class FanOptions(Options):
    every: Annotated[float, Field(gt=0, description="s between reports; changes at once")] = 1.0
    running: Annotated[bool, Field(description="Whether it runs at the start")] = False
    setpoint: Annotated[float, Field(ge=0, le=100, description="% of full speed")] = 100.0
    spinUp: Annotated[float, Field(gt=0, description="s from standstill to full speed")] = 1.5  # noqa: N815 - as in YAML
    coastDown: Annotated[float, Field(gt=0, description="s from full speed to standstill")] = 3.0  # noqa: N815
    ratedPower: Annotated[float, Field(gt=0, description="W at full speed")] = 750.0  # noqa: N815


@dataclass(frozen=True, slots=True)
class Wheel:
    """`speed` and `setpoint` in % of full speed."""

    run: bool
    setpoint: float
    speed: float = 0.0


def step(wheel: Wheel, plate: FanOptions, dt: float, *, jammed: bool = False) -> Wheel:
    """The wheel `dt` seconds later; pure."""
    if jammed:
        return replace(wheel, speed=0.0)
    target = wheel.setpoint if wheel.run else 0.0
    up, down = 100 * dt / plate.spinUp, 100 * dt / plate.coastDown
    return replace(wheel, speed=wheel.speed + min(max(target - wheel.speed, -down), up))


class Fan(BaseValueMachine):
    """Values: `run`, `setpoint`, `running`, `speed` (%), `power` (W, by the cube of the speed)."""

    possible_faults = frozenset({FaultKind.JAM})
    writable: ClassVar[frozenset[str]] = frozenset({"run", "setpoint"})

    def __init__(self, options: FanOptions | None = None) -> None:
        super().__init__()
        self.options = options or FanOptions()
        start = self.options.setpoint if self.options.running else 0.0
        self.wheel = Wheel(self.options.running, self.options.setpoint, start)
        self.step(0.0)

    @property
    def running(self) -> bool:
        return self.wheel.speed >= TURNING

    @property
    def speed(self) -> float:
        """% of full speed."""
        return self.wheel.speed

    @override
    def take(self, name: str, value: Value) -> None:
        if name == "run":
            self.wheel = replace(self.wheel, run=bool(value))
        elif isinstance(value, str) or not 0 <= value <= 100:  # noqa: PLR2004 - per cent
            raise InvalidInput(f"setpoint {value!r}: allowed is 0 to 100")
        else:
            self.wheel = replace(self.wheel, setpoint=float(value))
        self.step(0.0)

    def step(self, dt: float) -> None:
        self.wheel = step(self.wheel, self.options, dt, jammed=FaultKind.JAM in self.faults)
        self.values["run"] = self.wheel.run
        self.values["setpoint"] = self.wheel.setpoint
        self.values["running"] = self.running
        self.values["speed"] = round(self.wheel.speed, 1)
        self.values["power"] = round(self.options.ratedPower * (self.wheel.speed / 100) ** 3, 1)
