"""Finds which point of a refused block is at fault, by halves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic

from twinbridge.core.model import Point, Quality, Reason
from twinbridge.errors import WriteRejected
from twinbridge.ports import Reading
from twinbridge_modbus.plan import Block, Place, Span, bound, lone_factors
from twinbridge_modbus.reading import ModbusRead

BUDGET = 16
"""Requests in one go, and no new one after the device's timeout: a trip waits behind them."""


@dataclass(slots=True)
class Finding:
    """What was read, what was refused and why, and where the next plan has to cut."""

    readings: list[Reading] = field(default_factory=list)
    refused: dict[Point, str] = field(default_factory=dict)
    cuts: set[Place] = field(default_factory=set)


async def isolate(block: Block, why: str, image: Callable[[Block], Awaitable[bytes]]) -> Finding:
    """`block` has just been refused with `why`. `image` reads a part; it raises WriteRejected."""
    found = Finding()
    todo: list[tuple[Block, str]] = []
    leaves: list[Block] = []
    _divide(block, why, todo, found)
    until = monotonic() + block.limits.timeout
    for _ in range(BUDGET):
        if not todo or monotonic() > until:
            break
        part, _why = todo.pop()
        try:
            found.readings += ModbusRead(part).confirm(await image(part)).readings
        except WriteRejected as refusal:
            _divide(part, str(refusal), todo, found)
        else:
            leaves.append(part)
    for part, told in todo:
        found.readings += [_bad(point, told) for point in part.points]
        leaves.append(part)
    if todo or not found.refused:
        found.cuts |= {(leaf.unit, leaf.table, leaf.address) for leaf in leaves}
        found.cuts |= {(leaf.unit, leaf.table, leaf.end) for leaf in leaves}
    return found


def _divide(block: Block, why: str, todo: list[tuple[Block, str]], found: Finding) -> None:
    """Halve a refused block; the refusal of a single value is the finding."""
    parts = _parts(block)
    if parts:
        todo += [(part, why) for part in reversed(parts)]
        return
    for point in block.points:
        found.refused[point] = why
        found.readings.append(_bad(point, why))


def _parts(block: Block) -> list[Block]:
    spans = block.spans
    if len(spans) > 1:
        middle = len(spans) // 2
        return [_part(block, spans[:middle]), _part(block, spans[middle:])]
    values = _values(spans[0].points)
    same = len(values) == 1 and (values[0].first, values[0].end) == (spans[0].first, spans[0].end)
    return [] if same else [_part(block, (value,)) for value in values]


def _values(points: Sequence[Point]) -> list[Span]:
    """The values of a span by themselves, without its gaps and scale factors."""
    places: dict[tuple[int, int], list[Point]] = {}
    for point in points:
        where = bound(point)
        places.setdefault((where.address, where.end), []).append(point)
    return [Span(*place, tuple(members)) for place, members in sorted(places.items())]


def _part(block: Block, spans: tuple[Span, ...]) -> Block:
    end = max(span.end for span in spans)
    apart = [
        point
        for span in spans
        for point in span.points
        if (w := bound(point)).factor is not None
        and not (w.factor[0] == w.table and spans[0].first <= w.factor[1] < end)
    ]
    return replace(block, spans=spans, factors=lone_factors(apart))


def _bad(point: Point, why: str) -> Reading:
    return Reading(point, None, Quality.BAD, Reason.NOT_READ, why)
