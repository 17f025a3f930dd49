"""Which nodes go together: what is told by itself, what is asked for, and in which portions."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from twinbridge.core.model import Point
from twinbridge_opcua.address import bound

AT_ONCE = 100
"""Points of one request; a link splits it further where the server bears less."""


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """Points of one device and scan class. `pushed`: a subscription tells them."""

    points: Sequence[Point]
    pushed: bool


def arrange(
    points: Sequence[Point], not_monitored: Container[Point], at_once: int
) -> list[Request]:
    """Apart are what can be written, since a read-back asks for a whole request, and what is
    told at another pace.
    """
    groups: dict[tuple[bool, bool, bool], list[Point]] = {}
    for point in points:
        pushed = bound(point).subscribe and point not in not_monitored
        kind = pushed, point.urgent, point.spec.access.writable
        groups.setdefault(kind, []).append(point)
    return [
        Request(portion, pushed)
        for (pushed, *_), group in groups.items()
        for portion in portions(group, at_once)
    ]


def portions(points: Sequence[Point], size: int) -> Iterator[tuple[Point, ...]]:
    for begin in range(0, len(points), size):
        yield tuple(points[begin : begin + size])
