"""Ranges say the same as the sets of their numbers."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from twinbridge.adapters.outbox_sqlite.told import Range, common, holes, joined, length

NUMBERS = st.integers(1, 40)
SPANS = st.lists(st.tuples(NUMBERS, NUMBERS).map(lambda pair: (min(pair), max(pair))), max_size=8)


def numbers(ranges: list[Range]) -> set[int]:
    return {number for first, last in ranges for number in range(first, last + 1)}


@given(SPANS)
def test_joined_ranges_are_the_same_numbers_sorted_and_apart(spans: list[Range]) -> None:
    found = joined(spans)
    assert numbers(found) == numbers(spans)
    assert length(found) == len(numbers(spans))
    assert all(one[1] + 1 < other[0] for one, other in pairwise(found))


@given(SPANS, SPANS)
def test_common_is_what_is_in_both(one: list[Range], other: list[Range]) -> None:
    assert numbers(common(joined(one), joined(other))) == numbers(one) & numbers(other)


@given(SPANS, st.integers(0, 40), st.integers(0, 45))
def test_holes_are_what_is_in_none(spans: list[Range], after: int, end: int) -> None:
    found = list(holes(joined(spans), after, end))
    assert numbers(found) == set(range(after + 1, end + 1)) - numbers(spans)
    assert found == joined(found)
