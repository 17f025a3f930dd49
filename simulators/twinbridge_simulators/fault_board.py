"""The faults that stand at one server, and which of them strikes a request."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from twinbridge_simulators.faults import Fault, FaultKind
from twinbridge_simulators.pdu import touched


class FaultBoard:
    """Standing faults; of several that match, the latest strikes. Empty is falsy."""

    def __init__(self) -> None:
        self._left: dict[Fault, int | None] = {}

    def __bool__(self) -> bool:
        return bool(self._left)

    def __iter__(self) -> Iterator[Fault]:
        return iter(tuple(self._left))

    def add(self, fault: Fault) -> None:
        """A fault given again starts anew."""
        self._left.pop(fault, None)
        once = fault.kind is FaultKind.LATE and fault.times is None
        self._left[fault] = 1 if once else fault.times

    def remove(self, fault: Fault) -> None:
        self._left.pop(fault, None)

    def has(self, kind: FaultKind) -> bool:
        return any(fault.kind is kind for fault in self._left)

    def strike(self, unit: int, pdu: bytes) -> Fault | None:
        """The fault that this request meets; counts down those with a limit."""
        for fault in reversed(tuple(self._left)):
            if _concerns(fault, unit, pdu):
                self._count_down(fault)
                return fault
        return None

    def _count_down(self, fault: Fault) -> None:
        left = self._left[fault]
        if left == 1:
            del self._left[fault]
        elif left is not None:
            self._left[fault] = left - 1


def _concerns(fault: Fault, unit: int, pdu: bytes) -> bool:
    if fault.unit not in {None, unit}:
        return False
    if fault.table is None and fault.address is None:
        return True
    try:
        cells = list(touched(pdu))
    except struct.error:
        return False
    return any(
        fault.table in {None, table}
        and (fault.address is None or address <= fault.address < address + count)
        for table, address, count in cells
    )
