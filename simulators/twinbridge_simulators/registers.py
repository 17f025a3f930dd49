"""What one Modbus unit holds: four sparse tables of coils and registers.

A table is a sorted list of runs of adjoining cells, kept as they go on the wire (registers as two
bytes, bits as one), so that a read is one slice.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import IntEnum, StrEnum
from itertools import chain


class Table(StrEnum):
    COIL = "coil"
    DISCRETE = "discrete"
    HOLDING = "holding"
    INPUT = "input"

    @property
    def width(self) -> int:
        """Bytes that a cell takes in the bank."""
        return 1 if self in {Table.COIL, Table.DISCRETE} else 2


class ExceptionCode(IntEnum):
    """MODBUS Application Protocol V1.1b3, 7."""

    ILLEGAL_FUNCTION = 1
    ILLEGAL_ADDRESS = 2
    ILLEGAL_VALUE = 3
    DEVICE_FAILURE = 4
    ACKNOWLEDGE = 5
    BUSY = 6
    GATEWAY_PATH = 10
    GATEWAY_TARGET = 11


class Refused(Exception):
    """The unit answers with an exception response."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code:#04x}")
        self.code = code


WriteHook = Callable[[Table, int, Sequence[int]], None]
"""Called once a client's write is stored; raises Refused to have it taken back."""


def _accept(_table: Table, _address: int, _values: Sequence[int]) -> None:
    """Any value will do."""


class _Run:
    """Adjoining cells from `start`."""

    __slots__ = ("cells", "start")

    def __init__(self, start: int, cells: bytearray) -> None:
        self.start = start
        self.cells = cells


class RegisterBank:
    """The tables of one unit. Cells that are not defined answer 'illegal data address'.

    `identification` holds the objects of FC 43/14 by id: 0 vendor, 1 product code, 2 revision.
    Some devices answer 03 to reads above a limit of their own: `most_registers`.
    """

    def __init__(self, identification: Mapping[int, str] | None = None) -> None:
        self.identification = dict(identification or {})
        self.on_write: WriteHook = _accept
        self.most_registers = 125
        self._runs: dict[Table, list[_Run]] = {table: [] for table in Table}
        self._starts: dict[Table, list[int]] = {table: [] for table in Table}
        self._frozen: dict[Table, dict[int, bytes]] = {table: {} for table in Table}

    def define(self, table: Table, address: int, count: int = 1) -> None:
        """Make cells exist, with value 0 where they did not; `address` is as on the wire."""
        if not 0 <= address <= address + count <= 0x10000:  # noqa: PLR2004 - 16-bit addresses
            raise ValueError(f"{table} {address}+{count}: addresses are 0 to 65535")
        cells = {address + i: bytes(table.width) for i in range(count)}
        for run in self._runs[table]:
            width = table.width
            for i in range(len(run.cells) // width):
                cells[run.start + i] = bytes(run.cells[i * width : (i + 1) * width])
        self._rebuild(table, cells)

    def _rebuild(self, table: Table, cells: Mapping[int, bytes]) -> None:
        runs: list[_Run] = []
        for address in sorted(cells):
            last = runs[-1] if runs else None
            if last and last.start + len(last.cells) // table.width == address:
                last.cells += cells[address]
            else:
                runs.append(_Run(address, bytearray(cells[address])))
        self._runs[table] = runs
        self._starts[table] = [run.start for run in runs]

    def _locate(self, table: Table, address: int, count: int) -> tuple[bytearray, int, int]:
        """The run's cells, and where in it the asked ones begin and end, in bytes."""
        width = table.width
        index = bisect_right(self._starts[table], address) - 1
        if index >= 0:
            run = self._runs[table][index]
            begin = (address - run.start) * width
            end = begin + count * width
            if end <= len(run.cells):
                return run.cells, begin, end
        raise Refused(ExceptionCode.ILLEGAL_ADDRESS)

    def read(self, table: Table, address: int, count: int) -> bytes:
        """Cells as kept: two bytes a register, one byte a bit. Raises Refused (02)."""
        cells, begin, end = self._locate(table, address, count)
        return bytes(cells[begin:end])

    def write(self, table: Table, address: int, values: Sequence[int]) -> None:
        """A client's write; raises Refused when a cell or the machine does not take it."""
        cells, begin, end = self._locate(table, address, len(values))
        before = bytes(cells[begin:end])
        self._store(table, address, _packed(table, values))
        try:
            self.on_write(table, address, values)
        except Refused:
            cells[begin:end] = before
            raise

    def put(self, table: Table, address: int, *values: int) -> None:
        """What the machine itself shows; defines the cells that are new."""
        self.put_raw(table, address, _packed(table, values))

    def put_raw(self, table: Table, address: int, cells: bytes) -> None:
        """As `put`, with the cells as they go on the wire (a bit is one byte)."""
        with suppress(Refused):
            self._store(table, address, cells)
            return
        self.define(table, address, len(cells) // table.width)
        self._store(table, address, cells)

    def _store(self, table: Table, address: int, new: bytes) -> None:
        cells, begin, end = self._locate(table, address, len(new) // table.width)
        cells[begin:end] = new
        for frozen, cell in self._frozen[table].items():
            at = begin + (frozen - address) * table.width
            if begin <= at < end:
                cells[at : at + table.width] = cell

    def get(self, table: Table, address: int, count: int = 1) -> tuple[int, ...]:
        """Cells as numbers."""
        raw = self.read(table, address, count)
        if table.width == 1:
            return tuple(raw)
        return tuple(raw[i] << 8 | raw[i + 1] for i in range(0, len(raw), 2))

    def freeze(self, table: Table | None = None, address: int | None = None) -> None:
        """Hold cells at what they are now, whatever machine or client write; None means all."""
        for where in [table] if table else list(Table):
            for run in self._runs[where]:
                for i in range(len(run.cells) // where.width):
                    if address in {None, run.start + i}:
                        cell = bytes(run.cells[i * where.width : (i + 1) * where.width])
                        self._frozen[where].setdefault(run.start + i, cell)

    def thaw(self) -> None:
        for frozen in self._frozen.values():
            frozen.clear()

    def defined(self, table: Table) -> list[range]:
        """The addresses that exist, as runs."""
        return [
            range(run.start, run.start + len(run.cells) // table.width) for run in self._runs[table]
        ]


def _packed(table: Table, values: Sequence[int]) -> bytes:
    return bytes(
        values if table.width == 1 else chain.from_iterable(divmod(v, 256) for v in values)
    )
