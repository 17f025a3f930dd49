"""Points → blocks: as few requests as the device allows. Pure.

A block never splits a value, never exceeds the device's caps, and reads an address that nobody
asked for only to close a gap of at most `maxGap` registers (16 bits each), and never one that is
declared readSensitive or that the device has refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TypeAlias

from twinbridge.core.model import Point
from twinbridge_modbus.address import BoundAddress, Limits
from twinbridge_modbus.config import Table

Place: TypeAlias = tuple[int, Table, int]
"""Unit, table, zero-based address."""

_READ_PDU = 5
_BITS_OF_A_REGISTER = 16


@dataclass(slots=True)
class Knowledge:
    """What a device has taught: addresses that it refused, and places where to cut."""

    refused: dict[Place, str] = field(default_factory=dict)
    cuts: set[Place] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring addresses that one request must read whole; `end` is outside."""

    first: int
    end: int
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """One read request of one unit. `factors` are read with it, for scale factors elsewhere.

    `probe`: the device refused it before; `unreadable` says why it cannot be asked for at all.
    """

    unit: int
    table: Table
    spans: tuple[Span, ...]
    limits: Limits
    factors: tuple[Block, ...] = ()
    probe: bool = False
    unreadable: str = ""

    @property
    def points(self) -> tuple[Point, ...]:
        return tuple(point for span in self.spans for point in span.points)

    @property
    def address(self) -> int:
        return self.spans[0].first

    @property
    def end(self) -> int:
        return max(span.end for span in self.spans)

    @property
    def count(self) -> int:
        return self.end - self.address

    @property
    def payload_bytes(self) -> int:
        return (self.count + 7) // 8 if self.table in ("coil", "discrete") else 2 * self.count

    @property
    def request_bytes(self) -> int:
        """On the wire, with those for the scale factors."""
        own = _READ_PDU + (3 if self.limits.rtu else 7)
        return own + sum(factor.request_bytes for factor in self.factors)

    @property
    def response_bytes(self) -> int:
        own = 2 + self.payload_bytes + (3 if self.limits.rtu else 7)
        return own + sum(factor.response_bytes for factor in self.factors)


def bound(point: Point) -> BoundAddress:
    """A point's address, which this driver has bound."""
    if not isinstance(point.address, BoundAddress):
        raise TypeError(f"{point.ref} has no Modbus address")
    return point.address


def plan_blocks(points: Iterable[Point], known: Knowledge | None = None) -> list[Block]:
    """Every readable point in exactly one block; points of other intervals are kept apart."""
    known = known or Knowledge()
    readable = sorted((p for p in points if p.spec.access.readable), key=_class_and_place)
    blocks: list[Block] = []
    for _, members in groupby(readable, key=_scan_class):
        sound: list[Point] = []
        for point in members:
            if _refused(bound(point), known):
                blocks.append(_probe(point))
            else:
                sound.append(point)
        blocks += _plan_class(sound, known)
    return blocks


def _scan_class(point: Point) -> tuple[object, ...]:
    where = bound(point)
    limits = where.limits
    caps = (limits.max_registers, limits.max_bits, limits.max_gap, limits.timeout, limits.rtu)
    return where.unit, where.table, point.interval, caps, limits.mask_write, limits.sensitive


def _class_and_place(point: Point) -> tuple[object, ...]:
    where = bound(point)
    return *_scan_class(point), where.address, where.end


def _refused(where: BoundAddress, known: Knowledge) -> bool:
    own = any((where.unit, where.table, a) in known.refused for a in _addresses(where))
    return own or (where.factor is not None and (where.unit, *where.factor) in known.refused)


def _addresses(where: BoundAddress) -> range:
    return range(where.address, where.end)


def _probe(point: Point) -> Block:
    where = bound(point)
    span = Span(where.address, where.end, (point,))
    return Block(where.unit, where.table, (span,), where.limits, lone_factors([point]), probe=True)


def lone_factors(points: Sequence[Point]) -> tuple[Block, ...]:
    """A request each for the scale factors of these points."""
    wheres = {w.factor: w for w in map(bound, points) if w.factor is not None}
    return tuple(
        Block(w.unit, table, (Span(address, address + 1, ()),), w.limits)
        for (table, address), w in wheres.items()
    )


def _plan_class(points: Sequence[Point], known: Knowledge) -> list[Block]:
    if not points:
        return []
    rules = _Rules(bound(points[0]), known)
    spans, impossible = _spans(points, rules)
    runs: list[list[Span]] = []
    for span in sorted(spans, key=lambda s: (s.first, s.end)):
        if runs and rules.joins(runs[-1], span):
            runs[-1].append(span)
        else:
            runs.append([span])
    return [rules.block(run, known) for run in runs] + impossible


def _spans(points: Sequence[Point], rules: _Rules) -> tuple[list[Span], list[Block]]:
    """Unsplittable spans, and blocks for atomic groups that no request can read whole."""
    shared: dict[tuple[int, int], list[Point]] = {}
    groups: dict[str, list[Point]] = {}
    for point in points:
        group = bound(point).model.atomic_group
        if group is None:
            shared.setdefault(rules.extent(point), []).append(point)
        else:
            groups.setdefault(group, []).append(point)
    spans = [Span(*extent, tuple(members)) for extent, members in shared.items()]
    impossible: list[Block] = []
    for group, members in groups.items():
        extents = sorted(rules.extent(p) for p in members)
        span = Span(extents[0][0], max(end for _, end in extents), tuple(members))
        if rules.whole(extents, span):
            spans.append(span)
        else:
            impossible.append(rules.impossible(span, group))
    return spans, impossible


class _Rules:
    """What may be read together in one table of one unit."""

    def __init__(self, where: BoundAddress, known: Knowledge) -> None:
        self._unit, self._table, self._limits = where.unit, where.table, where.limits
        bits = where.table in ("coil", "discrete")
        self._most = where.limits.most(where.table)
        self._gap = where.limits.max_gap * (_BITS_OF_A_REGISTER if bits else 1)
        self._cuts = {a for unit, table, a in known.cuts if (unit, table) == where_key(where)}
        self._forbidden = {
            a for unit, table, a in known.refused if (unit, table) == where_key(where)
        }
        self._sensitive = [(f, e) for table, f, e in where.limits.sensitive if table == where.table]

    def extent(self, point: Point) -> tuple[int, int]:
        """The value's addresses, together with its scale factor's if that is near."""
        where = bound(point)
        if where.factor is None or where.factor[0] != where.table:
            return where.address, where.end
        factor = where.factor[1]
        near = [(where.address, where.end), (factor, factor + 1)]
        first, end = min(near)[0], max(e for _, e in near)
        small = end - first - where.count - 1 <= self._gap
        if small and self.whole(sorted(near), Span(first, end, ())):
            return first, end
        return where.address, where.end

    def whole(self, extents: Sequence[tuple[int, int]], span: Span) -> bool:
        """Whether one request may read the span, of which `extents` (sorted) are asked for."""
        if span.end - span.first > self._most:
            return False
        reached = extents[0][1]
        for first, end in extents[1:]:
            if first >= reached and not self._crossable(reached, first):
                return False
            reached = max(reached, end)
        return True

    def joins(self, run: Sequence[Span], span: Span) -> bool:
        reached = max(s.end for s in run)
        if max(reached, span.end) - run[0].first > self._most:
            return False
        if span.first < reached:
            return True
        return span.first - reached <= self._gap and self._crossable(reached, span.first)

    def _crossable(self, first: int, end: int) -> bool:
        """Whether a request may go on from `first`, where it would end, to `end`."""
        if any(first <= cut <= end for cut in self._cuts):
            return False
        if any(s_first < end and first < s_end for s_first, s_end in self._sensitive):
            return False
        return self._forbidden.isdisjoint(range(first, end))

    def block(self, run: Sequence[Span], known: Knowledge) -> Block:
        within = range(run[0].first, max(s.end for s in run))
        apart = [
            p
            for span in run
            for p in span.points
            if (w := bound(p)).factor and (w.factor[0] != w.table or w.factor[1] not in within)
        ]
        factors = self._factor_blocks(apart, known)
        return Block(self._unit, self._table, tuple(run), self._limits, factors)

    def _factor_blocks(self, points: Sequence[Point], known: Knowledge) -> tuple[Block, ...]:
        places = sorted({w.factor for w in map(bound, points) if w.factor is not None})
        blocks: list[Block] = []
        for table, members in groupby(places, key=lambda place: place[0]):
            rules = _Rules(_in_table(bound(points[0]), table), known)
            run: list[Span] = []
            for _, address in members:
                span = Span(address, address + 1, ())
                if run and not rules.joins(run, span):
                    blocks.append(Block(self._unit, table, tuple(run), self._limits))
                    run = []
                run.append(span)
            blocks.append(Block(self._unit, table, tuple(run), self._limits))
        return tuple(blocks)

    def impossible(self, span: Span, group: str) -> Block:
        why = f"atomicGroup {group} cannot be read in one request: an address between is refused"
        return Block(self._unit, self._table, (span,), self._limits, unreadable=why)


def where_key(where: BoundAddress) -> tuple[int, Table]:
    return where.unit, where.table


def _in_table(where: BoundAddress, table: Table) -> BoundAddress:
    return replace(where, table=table)
