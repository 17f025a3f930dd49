"""A steam boiler: a burner heats, steam goes out through a valve that also relieves pressure.

Its values, by name: `temperature` Cel, `pressure` bar above the atmosphere, `water-level` %,
`valve` % open (where it is), `valve-setpoint` %, `burner` (whether it burns), `setpoint` Cel at
which its own thermostat lets go of the burner, `enabled` (whether the burner is wanted),
`shut-down` (an emergency shutdown stands).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field
from typing_extensions import override

from twinbridge.core.model import Value
from twinbridge.errors import InvalidInput
from twinbridge_simulators.faults import FaultKind
from twinbridge_simulators.machines.base import Options
from twinbridge_simulators.machines.valued import BaseValueMachine

BOILING = 100.0
BAR_PER_KELVIN = 0.12
"""Saturated steam, made a straight line: 0 bar at 100 Cel, 6 bar at 150 Cel."""
HYSTERESIS = 2.0
"""K by which it cools before the thermostat lights the burner again."""
LOSS = 1 / 600
"""Share of the excess over the ambient that it loses each second."""
VALVE_COOLING = 6.0
"""K/s that a fully open valve takes out at 6 bar."""
FEED = 0.5
"""% of water a second that the feed pump brings while the level is low."""
STEAM = 0.6
"""% of water a second that a fully open valve at 6 bar lets out."""


class BoilerOptions(Options):
    """The plate, and how fast its physics move."""

    temperature: Annotated[float, Field(ge=0, le=200, description="Cel, at the start")] = 135.0
    ambient: Annotated[float, Field(description="Cel")] = 25.0
    setpoint: Annotated[float, Field(ge=20, le=180, description="Cel, of the thermostat")] = 140.0
    heating: Annotated[float, Field(gt=0, description="K/s with the burner on")] = 2.5
    valve: Annotated[float, Field(ge=0, le=100, description="% open, at the start")] = 20.0
    valveTime: Annotated[float, Field(gt=0, description="s, time constant of the valve")] = 0.4  # noqa: N815 - as in YAML
    highPressure: Annotated[float, Field(gt=0, description="bar, of its own alarm")] = 7.0  # noqa: N815
    name: Annotated[str, Field(min_length=1, pattern=r"^[\w-]+$", description="Its node")] = (
        "Boiler"
    )
    users: Annotated[
        dict[str, str],
        Field(default_factory=dict, description="Passwords by user; none: anybody"),
    ]


@dataclass(frozen=True, slots=True)
class Kettle:
    """`temperature` Cel, `level` and `valve` and `wanted_valve` in %."""

    temperature: float
    level: float = 60.0
    valve: float = 0.0
    wanted_valve: float = 0.0
    enabled: bool = True
    burning: bool = False
    shut_down: bool = False

    @property
    def pressure(self) -> float:
        """In bar above the atmosphere."""
        return max(0.0, (self.temperature - BOILING) * BAR_PER_KELVIN)


def step(
    kettle: Kettle, plate: BoilerOptions, setpoint: float, dt: float, *, runaway: bool = False
) -> Kettle:
    """The boiler `dt` seconds later; pure. `runaway`: the thermostat has failed, full fire.

    Even then the burner goes out when it is disabled or shut down.
    """
    burning = _burns(kettle, setpoint, runaway=runaway)
    valve = kettle.wanted_valve + (kettle.valve - kettle.wanted_valve) * math.exp(
        -dt / plate.valveTime
    )
    flow = valve / 100 * min(kettle.pressure / 6, 2.0)
    heat = plate.heating * (2.5 if runaway else 1.0) if burning else 0.0
    loss = (kettle.temperature - plate.ambient) * LOSS
    return replace(
        kettle,
        temperature=min(kettle.temperature + (heat - loss - VALVE_COOLING * flow) * dt, 250.0),
        level=min(100.0, max(0.0, kettle.level + (_feed(kettle.level) - STEAM * flow) * dt)),
        valve=valve,
        burning=burning,
    )


def _burns(kettle: Kettle, setpoint: float, *, runaway: bool) -> bool:
    if not kettle.enabled or kettle.shut_down:
        return False
    if runaway:
        return True
    below = HYSTERESIS if not kettle.burning else 0.0
    return kettle.temperature < setpoint - below


def _feed(level: float) -> float:
    return FEED * min(1.0, max(0.0, (65.0 - level) / 10))


class Boiler(BaseValueMachine):
    possible_faults = frozenset({FaultKind.OVERHEAT})
    writable: ClassVar[frozenset[str]] = frozenset({"valve-setpoint", "enabled", "setpoint"})

    def __init__(self, options: BoilerOptions | None = None) -> None:
        super().__init__()
        self.options = options or BoilerOptions(users={})
        self.setpoint = self.options.setpoint
        self.kettle = Kettle(
            self.options.temperature, valve=self.options.valve, wanted_valve=self.options.valve
        )
        self.step(0.0)

    @property
    def temperature(self) -> float:
        """Cel."""
        return self.kettle.temperature

    @property
    def pressure(self) -> float:
        """In bar above the atmosphere."""
        return self.kettle.pressure

    @property
    def burner(self) -> bool:
        """Whether it burns."""
        return self.kettle.burning

    @property
    def valve(self) -> float:
        """% open."""
        return self.kettle.valve

    @property
    def pressure_is_high(self) -> bool:
        return self.pressure >= self.options.highPressure

    def emergency_shutdown(self) -> None:
        """The burner goes out and stays out, the valve opens, until `reset`."""
        self.kettle = replace(self.kettle, shut_down=True, enabled=False, wanted_valve=100.0)
        self.step(0.0)

    def reset(self) -> None:
        """After a shutdown; the burner must be switched on anew."""
        self.kettle = replace(self.kettle, shut_down=False)
        self.step(0.0)

    def set_burner(self, *, on: bool) -> None:
        """Raises InvalidInput while an emergency shutdown stands."""
        self.write("enabled", on)

    @override
    def take(self, name: str, value: Value) -> None:
        if isinstance(value, str):
            raise InvalidInput(f"{name}: {value!r} is no number")
        if name == "enabled":
            if value and self.kettle.shut_down:
                raise InvalidInput("the boiler is shut down; reset it first")
            self.kettle = replace(self.kettle, enabled=bool(value))
        elif name == "setpoint":
            self.setpoint = _within(name, value, 20, 180)
        else:
            self.kettle = replace(self.kettle, wanted_valve=_within(name, value, 0, 100))
        self.step(0.0)

    def step(self, dt: float) -> None:
        runaway = FaultKind.OVERHEAT in self.faults
        self.kettle = step(self.kettle, self.options, self.setpoint, dt, runaway=runaway)
        kettle = self.kettle
        self.values.update(
            {
                "temperature": kettle.temperature,
                "pressure": kettle.pressure,
                "water-level": kettle.level,
                "valve": kettle.valve,
                "valve-setpoint": kettle.wanted_valve,
                "burner": kettle.burning,
                "enabled": kettle.enabled,
                "setpoint": self.setpoint,
                "shut-down": kettle.shut_down,
            }
        )


def _within(name: str, value: float, low: float, high: float) -> float:
    if not low <= value <= high:
        raise InvalidInput(f"{name} {value:g}: allowed is {low:g} to {high:g}")
    return float(value)
