"""Which numbers a sink has: ranges, so that live records may go before what waits since an outage.

Pure. A range is (first, last), both of it; ranges are sorted and apart, touching ones are one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

Range: TypeAlias = tuple[int, int]


def joined(ranges: Iterable[Range]) -> list[Range]:
    """As few ranges as say the same."""
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


def common(one: Sequence[Range], other: Sequence[Range]) -> list[Range]:
    """What is in both."""
    found: list[Range] = []
    left, right = iter(one), iter(other)
    a, b = next(left, None), next(right, None)
    while a is not None and b is not None:
        first, last = max(a[0], b[0]), min(a[1], b[1])
        if first <= last:
            found.append((first, last))
        if a[1] < b[1]:
            a = next(left, None)
        else:
            b = next(right, None)
    return found


def holes(ranges: Iterable[Range], after: int, end: int) -> Iterator[Range]:
    """What of `after` + 1 to `end` is in none of them."""
    start = after + 1
    for first, last in ranges:
        if start > end:
            return
        if first > start:
            yield start, min(first - 1, end)
        start = max(start, last + 1)
    if start <= end:
        yield start, end


def length(ranges: Iterable[Range]) -> int:
    return sum(last - first + 1 for first, last in ranges)
