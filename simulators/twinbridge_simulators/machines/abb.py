"""An ABB drive with the ABB Drives profile: 40001 control word, 40002 REF1, 40004 status word.

Also 40005 ACT1 (speed) and 40006 ACT2 (current). A reference of 20000 is full speed. Once a
control word has come, the drive expects it again within the comms-loss time (58.15); else it
faults, coasts to a stop, and waits for a reset (control word bit 7, rising).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field
from typing_extensions import override

from twinbridge_simulators.faults import FaultKind
from twinbridge_simulators.machines.base import BaseMachine, Options, s16
from twinbridge_simulators.registers import ExceptionCode, Refused, RegisterBank, Table

CONTROL, REFERENCE, STATUS, SPEED, CURRENT = 0, 1, 3, 4, 5
RUN_BITS = 0b1111
"""OFF1, OFF2, OFF3 and 'enable operation' all high: run."""
RESET = 1 << 7
READY_ON, READY_RUN, OPERATING, TRIPPED, AT_SETPOINT, REMOTE = 1, 2, 4, 8, 1 << 8, 1 << 9
FULL_SPEED = 20000
COAST = 1.0
"""Seconds from full speed to standstill with the output off."""


class DriveOptions(Options):
    """What matters of the drive's parameters."""

    commsLoss: Annotated[float, Field(ge=0, description="s, 58.15; 0: never")] = 3.0  # noqa: N815 - as in YAML
    ramp: Annotated[float, Field(gt=0, description="s from standstill to full speed")] = 2.0
    ratedCurrent: Annotated[float, Field(gt=0, description="A")] = 12.0  # noqa: N815


@dataclass(frozen=True, slots=True)
class Drive:
    """`speed` -1 to 1. `silent` s since the last control word, None before the first."""

    speed: float = 0.0
    tripped: bool = False
    silent: float | None = None


@dataclass(frozen=True, slots=True)
class Inputs:
    """`reference` -1 to 1."""

    run: bool
    reference: float
    jammed: bool = False


def step(drive: Drive, given: Inputs, options: DriveOptions, dt: float) -> Drive:
    """The drive `dt` seconds later; pure."""
    silent = None if drive.silent is None else drive.silent + dt
    lost = silent is not None and 0 < options.commsLoss <= silent
    tripped = drive.tripped or lost or (given.jammed and given.run)
    driven = given.run and not tripped
    target = given.reference if driven else 0.0
    most = dt / (COAST if tripped else options.ramp)
    speed = 0.0 if given.jammed else _towards(drive.speed, target, most)
    return Drive(speed, tripped, silent)


def obey(drive: Drive, old: int, new: int) -> Drive:
    """A control word came: the timer starts anew; a rising reset releases the fault."""
    reset = bool(new & ~old & RESET)
    return replace(drive, silent=0.0, tripped=drive.tripped and not reset)


def _towards(now: float, target: float, most: float) -> float:
    return now + min(max(target - now, -most), most)


class AbbDrive(BaseMachine):
    possible_faults: frozenset[FaultKind] = frozenset({FaultKind.JAM})

    def __init__(self, options: DriveOptions | None = None) -> None:
        super().__init__(RegisterBank({0: "ABB", 1: "ACS580", 2: "simulated"}))
        self.options = options or DriveOptions()
        self.drive = Drive()
        self._word = 0
        self._may_run = True
        self.bank.put(Table.HOLDING, CONTROL, 0, 0, 0, 0, 0, 0)
        self.step(0.0)

    @override
    def written(self, table: Table, address: int, values: Sequence[int]) -> None:
        """Status and actual values cannot be written."""
        if address + len(values) > STATUS:
            raise Refused(ExceptionCode.ILLEGAL_ADDRESS)
        if address == CONTROL:
            self._command(values[0])
        self.step(0.0)

    def _command(self, word: int) -> None:
        """After a fault the run bits must go low once before they start the drive again."""
        self.drive = obey(self.drive, self._word, word)
        self._word = word
        if word & RUN_BITS != RUN_BITS:
            self._may_run = True

    def step(self, dt: float) -> None:
        run = self._may_run and self._word & RUN_BITS == RUN_BITS
        raw = self.bank.get(Table.HOLDING, REFERENCE)[0]
        reference = (raw - 0x10000 if raw & 0x8000 else raw) / FULL_SPEED
        given = Inputs(run, max(-1.0, min(1.0, reference)), FaultKind.JAM in self.faults)
        self.drive = step(self.drive, given, self.options, dt)
        if self.drive.tripped:
            self._may_run = False
        self._show(given)

    def _show(self, given: Inputs) -> None:
        drive = self.drive
        operating = given.run and not drive.tripped
        status = REMOTE | (0 if drive.tripped else READY_ON)
        status |= READY_RUN if self._word & 1 and not drive.tripped else 0
        status |= OPERATING if operating else 0
        status |= TRIPPED if drive.tripped else 0
        status |= AT_SETPOINT if operating and drive.speed == given.reference else 0
        current = self.options.ratedCurrent * (0.3 + 0.5 * abs(drive.speed)) if operating else 0.0
        self.bank.put(
            Table.HOLDING, STATUS, status, *s16(drive.speed * FULL_SPEED), *s16(current * 100)
        )
