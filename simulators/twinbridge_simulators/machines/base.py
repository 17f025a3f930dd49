"""What every simulated machine is: physics that move with time, and mostly a bank of registers."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from twinbridge_simulators.faults import FaultKind
from twinbridge_simulators.registers import RegisterBank, Table


class Machine(Protocol):
    """`step` moves the physics by `dt` seconds and shows them."""

    @property
    def interval(self) -> float:
        """How often it wants to be stepped, in seconds."""

    @property
    def possible_faults(self) -> frozenset[FaultKind]:
        """The machine faults that it can have."""

    @property
    def faults(self) -> set[FaultKind]:
        """The machine faults that it has now."""

    def step(self, dt: float) -> None: ...


class BankMachine(Machine, Protocol):
    """`bank` is its face on the wire."""

    @property
    def bank(self) -> RegisterBank: ...


class Options(BaseModel):
    """What the annotation `simulator.twinbridge.io/options` may set, as a YAML mapping."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BaseMachine:
    """The parts that all machines with registers have; a subclass shows itself in `show`."""

    interval: float = 0.02
    possible_faults: frozenset[FaultKind] = frozenset()

    def __init__(self, bank: RegisterBank) -> None:
        self.bank = bank
        self.faults: set[FaultKind] = set()
        bank.on_write = self.written

    def written(self, table: Table, address: int, values: Sequence[int]) -> None:
        """A client wrote; raise Refused to take it back."""


def u16(value: float) -> tuple[int]:
    return (min(max(round(value), 0), 0xFFFF),)


def s16(value: float) -> tuple[int]:
    return (min(max(round(value), -0x8000), 0x7FFF) & 0xFFFF,)


def unsigned(value: float, registers: int) -> tuple[int, ...]:
    """Big-endian words, clamped to what fits."""
    top = (1 << 16 * registers) - 1
    raw = min(max(round(value), 0), top).to_bytes(2 * registers, "big")
    return struct.unpack(f">{registers}H", raw)


def float32(value: float) -> tuple[int, int]:
    high, low = struct.unpack(">HH", struct.pack(">f", value))
    return high, low
