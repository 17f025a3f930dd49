"""How much work a benchmark does, said once for the generator, the floor and the definitions."""

from __future__ import annotations

from dataclasses import dataclass

BLOCK = 125
"""Registers per read, Modbus's limit."""


@dataclass(frozen=True, slots=True)
class Load:
    devices: int
    registers: int
    interval: int
    """Milliseconds, of polls and of the machines' changes alike."""
    change: float = 0.1
    """Share of the registers that changes per interval."""
    armed: int = 0
    """The first so many devices have a trip rule."""
    trip_interval: int = 20
    """Milliseconds, scan class of the trips' inputs."""
    dead: int = 0
    units_per_port: int = 1

    @property
    def polls_per_second(self) -> float:
        blocks = -(-self.registers // BLOCK)
        plain = self.devices * blocks * 1000 / self.interval
        return plain + self.armed * 1000 / self.trip_interval

    def generator_options(self) -> list[str]:
        return _options(
            devices=self.devices,
            registers=self.registers,
            interval=self.interval,
            change=self.change,
            units_per_port=self.units_per_port,
            dead=self.dead,
        )

    def floor_options(self) -> list[str]:
        return _options(
            devices=self.devices,
            registers=self.registers,
            interval=self.interval,
            units_per_port=self.units_per_port,
            armed=self.armed,
            trip_interval=self.trip_interval,
        )


def _options(**values: float) -> list[str]:
    return [
        word
        for name, value in values.items()
        for word in ("--" + name.replace("_", "-"), str(value))
    ]
