"""Machines that show named values instead of registers: those behind MQTT and OPC UA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import ClassVar, Protocol

from typing_extensions import override

from twinbridge.core.model import Point, Value
from twinbridge.errors import InvalidInput
from twinbridge_simulators.faults import FaultKind
from twinbridge_simulators.machines.base import Machine
from twinbridge_simulators.machines.signals import GenericOptions, Signals


class ValueMachine(Machine, Protocol):
    """`values` is what it shows now, by the names of properties."""

    @property
    def values(self) -> Mapping[str, Value]: ...

    def write(self, name: str, value: Value) -> None:
        """Somebody asks it to. Raises InvalidInput when it does not."""


class BaseValueMachine:
    """The parts that all of them have; a subclass fills `values` in `step`."""

    interval: float = 0.05
    possible_faults: frozenset[FaultKind] = frozenset()
    writable: ClassVar[frozenset[str]] = frozenset()

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}
        self.faults: set[FaultKind] = set()

    def write(self, name: str, value: Value) -> None:
        if name not in self.writable:
            allowed = ", ".join(sorted(self.writable)) or "nothing"
            raise InvalidInput(f"{name} cannot be written; allowed is {allowed}")
        self.take(name, value)

    def take(self, name: str, value: Value) -> None:
        """A value for one of `writable`."""
        raise NotImplementedError(name)


class GenericValues(BaseValueMachine):
    """Any Device's properties: each moves, or holds what is written."""

    def __init__(self, points: Sequence[Point], options: GenericOptions, random: Random) -> None:
        super().__init__()
        self.interval = options.interval
        self._signals = Signals(points, options, random)
        self.possible_faults = self._signals.possible_faults
        self.values.update(self._signals.first)
        self.step(0.0)

    def step(self, dt: float) -> None:
        self.values.update(self._signals.step(dt, self.faults))

    @override
    def write(self, name: str, value: Value) -> None:
        if name not in self.values:
            raise InvalidInput(f"there is no {name}; allowed is {', '.join(sorted(self.values))}")
        self.values[name] = value
