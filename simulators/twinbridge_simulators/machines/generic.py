"""A Modbus machine made from nothing but its Device: a property moves, or holds what is written."""

from __future__ import annotations

from random import Random

from twinbridge.core.model import Point, Value
from twinbridge_modbus.address import BoundAddress
from twinbridge_modbus.codec import Refused as Unencodable
from twinbridge_simulators.machines.base import BaseMachine
from twinbridge_simulators.machines.signals import GenericOptions, Signals
from twinbridge_simulators.registers import RegisterBank, Table


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
        given = options or GenericOptions(properties={})
        self.interval = given.interval
        self._signals = Signals(points, given, random or Random(0))  # noqa: S311 - repeatable
        self.possible_faults = self._signals.possible_faults
        self._addresses = {point.spec.name: _address(point) for point in points}
        for name, address in self._addresses.items():
            self._define(address)
            self._put(address, self._signals.first[name])
        self.step(0.0)

    def _define(self, address: BoundAddress) -> None:
        if address.factor:
            self.bank.define(Table(address.factor[0]), address.factor[1])
        self.bank.define(Table(address.table), address.address, address.count)

    def step(self, dt: float) -> None:
        for name, value in self._signals.step(dt, self.faults).items():
            self._put(self._addresses[name], value)

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


def _address(point: Point) -> BoundAddress:
    if not isinstance(point.address, BoundAddress):
        raise TypeError(f"{point.ref}: no Modbus address")
    return point.address
