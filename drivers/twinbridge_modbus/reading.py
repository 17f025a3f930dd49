"""A planned read and what it last gave: only what changed is decoded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from twinbridge.core.model import Point, Quality, Reason, Value
from twinbridge.ports import UNCHANGED, Reading, ReadResult
from twinbridge_modbus.codec import BadValue
from twinbridge_modbus.plan import Block, bound

_FUNCTIONS = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
_HEADER = 2
_DIFFERENT = re.compile(rb"[^\0]")
_BITS = (b"\0", b"\1")
_UNSEEN = object()


def read_pdu(table: str, address: int, count: int) -> bytes:
    """A read request of function 1 to 4."""
    return bytes((_FUNCTIONS[table],)) + address.to_bytes(2, "big") + count.to_bytes(2, "big")


class Query(NamedTuple):
    """A read as it goes out, with the number of data bytes that its answer must have."""

    unit: int
    pdu: bytes
    size: int
    timeout: float


def queries(block: Block) -> tuple[Query, ...]:
    """A block's own read, then those of its scale factors."""
    return tuple(
        Query(
            part.unit,
            read_pdu(part.table, part.address, part.count),
            part.payload_bytes,
            part.limits.timeout,
        )
        for part in (block, *block.factors)
    )


class _Entry:
    """One point within the image of a block: the answer and those of its factors, joined."""

    __slots__ = ("_decode", "_factor", "_seen", "_shift", "point", "start", "stop", "whole")

    def __init__(self, point: Point, start: int, stop: int, shift: int, factor: int) -> None:
        self.point, self.start, self.stop = point, start, stop
        self._shift = shift
        self._factor = factor
        self._decode: Callable[[bytes, int], Value] = bound(point).codec.decode
        self._seen: object = _UNSEEN
        self.whole = shift < 0 and not bound(point).codec.partial

    @property
    def bytes_read(self) -> list[int]:
        """Positions in the image that make the value."""
        factor = range(self._factor, self._factor + 2) if self._factor >= 0 else ()
        return [*range(self.start, self.stop), *factor]

    def read(self, image: bytes) -> Reading:
        power = 0
        if self._factor >= 0:
            power = int.from_bytes(image[self._factor : self._factor + 2], "big", signed=True)
        raw = image[self.start : self.stop]
        try:
            value = self._decode(
                raw if self._shift < 0 else _BITS[raw[0] >> self._shift & 1], power
            )
        except BadValue as error:
            return Reading(self.point, None, Quality.BAD, Reason.OUT_OF_RANGE, str(error))
        return Reading(self.point, value)

    def news(self, image: bytes) -> Reading | None:
        """A reading, or None where only other bits of the same bytes have changed."""
        reading = self.read(image)
        seen, self._seen = self._seen, reading.value
        return None if reading.value is not None and seen == reading.value else reading

    def first(self, image: bytes) -> Reading:
        reading = self.read(image)
        self._seen = reading.value
        return reading


class ModbusRead:
    """Fills `twinbridge.ports.ReadRequest`; remembers the last good answer."""

    __slots__ = (
        "__weakref__",
        "_bad",
        "_entries",
        "_last",
        "_owners",
        "_steady",
        "block",
        "points",
        "queries",
    )
    pushed = False

    def __init__(self, block: Block) -> None:
        self.block = block
        self.points: Sequence[Point] = block.points
        self.queries = queries(block)
        entries = sorted(_entries(block), key=lambda e: e.start)
        self._entries = entries
        self._owners: dict[int, list[_Entry]] = {}
        for entry in entries:
            for position in entry.bytes_read:
                self._owners.setdefault(position, []).append(entry)
        self._last: bytes | None = None
        self._bad: dict[Point, Reading] = {}
        self._steady = UNCHANGED

    @property
    def unit(self) -> int:
        return self.block.unit

    @property
    def table(self) -> str:
        return self.block.table

    @property
    def address(self) -> int:
        return self.block.address

    @property
    def count(self) -> int:
        return self.block.count

    @property
    def request_bytes(self) -> int:
        return self.block.request_bytes

    @property
    def response_bytes(self) -> int:
        return self.block.response_bytes

    def forget(self) -> None:
        """After an error the next success delivers every point again."""
        self._last = None

    def confirm(self, image: bytes) -> ReadResult:
        """What is new in an answer. A bad point is told each time, for it is not confirmed."""
        last = self._last
        if image == last:
            return self._steady
        if last is None:
            self._bad.clear()
            readings = [entry.first(image) for entry in self._entries]
        else:
            readings = self._changes(image, last)
        self._last = image
        return self._with_bad(readings)

    def _changes(self, image: bytes, last: bytes) -> list[Reading]:
        """Whoever owns a byte that differs. C finds the bytes: most are equal, at all times."""
        differing = int.from_bytes(image, "big") ^ int.from_bytes(last, "big")
        owners = self._owners
        touched: dict[_Entry, None] = {}
        for found in _DIFFERENT.finditer(differing.to_bytes(len(image), "big")):
            for entry in owners.get(found.start(), ()):
                touched[entry] = None
        return [
            reading
            for entry in touched
            if (reading := entry.read(image) if entry.whole else entry.news(image)) is not None
        ]

    def _with_bad(self, readings: list[Reading]) -> ReadResult:
        bad = self._bad
        told = len(readings)
        for reading in readings[:told]:
            if bad and reading.point in bad:
                del bad[reading.point]
            if reading.value is None:
                bad[reading.point] = reading
        if not bad:
            self._steady = UNCHANGED
            return ReadResult(readings) if readings else UNCHANGED
        self._steady = ReadResult(tuple(bad.values()))
        fresh = {reading.point for reading in readings}
        return ReadResult([*readings, *(r for p, r in bad.items() if p not in fresh)])


def _entries(block: Block) -> Iterator[_Entry]:
    for point in block.points:
        where = bound(point)
        offset = where.address - block.address
        factor = _factor_position(block, where.factor) if where.factor else -1
        if block.table in ("coil", "discrete"):
            start = _HEADER + offset // 8
            yield _Entry(point, start, start + 1, offset % 8, factor)
        else:
            start = _HEADER + 2 * offset
            yield _Entry(point, start, start + 2 * where.count, -1, factor)


def _factor_position(block: Block, place: tuple[str, int]) -> int:
    """Where in the image a scale factor is."""
    start = 0
    for candidate in (block, *block.factors):
        table, address = place
        if candidate.table == table and candidate.address <= address < candidate.end:
            return start + _HEADER + 2 * (address - candidate.address)
        start += _HEADER + candidate.payload_bytes
    raise AssertionError(f"no block has the scale factor {place}")
