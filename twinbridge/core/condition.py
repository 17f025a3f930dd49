"""Whether a condition holds: each comparison gets a mark, and votes count the marks.

A mark is three-valued on purpose: what cannot be judged is neither met nor normal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple, TypeAlias

from twinbridge.core.model import (
    NOT_READ,
    SECOND,
    PropertyRef,
    Quality,
    Reason,
    Sample,
    Value,
    same_value,
)
from twinbridge.core.rule import Compare, Condition, Op


class Input(NamedTuple):
    """An input as it stands: its last sample and the monotonic time it was last seen good."""

    sample: Sample
    last_good: int


Inputs: TypeAlias = dict[PropertyRef, Input]

NEVER_READ = Input(NOT_READ, 0)
RATE_SAMPLES = 3
"""Fewer good samples give no rate."""


class Mark(Enum):
    """What one comparison says."""

    MET = auto()
    NOT_MET = auto()
    WAITING = auto()  # nothing to judge yet: not read since the start, or too few for a rate
    BAD = auto()
    STALE = auto()


Window: TypeAlias = tuple[tuple[int, float], ...]
"""Source time and value of the good samples that a rate is taken over, oldest first."""


@dataclass(frozen=True, slots=True)
class Channel:
    """What is remembered of one comparison: its own state, for the deadband, and its window."""

    met: bool = False
    window: Window = ()


FRESH = Channel()


def judge(
    compare: Compare, channel: Channel, seen: Mapping[PropertyRef, Input], started: int, now: int
) -> tuple[Mark, Channel]:
    """Judge one comparison; the channel returned is the same object when nothing changed.

    `channel.met` tells which side of the deadband counts. Monotonic ns.
    """
    for ref in (compare.input, compare.reference):
        if ref is None:
            continue
        fit = fitness(compare, seen.get(ref, NEVER_READ), started, now)
        if fit is not None:
            kept = Channel(channel.met) if channel.window and fit is not Mark.WAITING else channel
            return fit, kept
    window = channel.window
    if compare.op is Op.RATE_ABOVE:
        window = _extended(window, seen[compare.input].sample, compare)
        met = _rate_met(compare, window, held=channel.met)
        if met is None:
            return Mark.WAITING, _kept(channel, channel.met, window)
    else:
        other = seen[compare.reference].sample.value if compare.reference else None
        met = _met(compare, seen[compare.input].sample.value, other, channel.met)
    return (Mark.MET if met else Mark.NOT_MET), _kept(channel, met, window)


def _kept(channel: Channel, met: bool, window: Window) -> Channel:  # noqa: FBT001 - the two parts of a channel
    if channel.met is met and channel.window == window:
        return channel
    return Channel(met, window)


def fitness(compare: Compare, seen: Input, started: int, now: int) -> Mark | None:
    """Why an input cannot be judged now, or None when it can.

    Uncertain is usable, except where it is the last usable value of a source that went silent.
    """
    sample = seen.sample
    if compare.stale_after and now >= fresh_until(compare, seen, started):
        return Mark.STALE
    if sample.reason is Reason.NOT_READ:
        return Mark.WAITING
    if sample.quality is Quality.BAD or sample.value is None:
        return Mark.BAD
    if sample.reason is Reason.STALE:
        return Mark.STALE
    return None if judgeable(compare, sample.value) else Mark.BAD


def fresh_until(compare: Compare, seen: Input, started: int) -> int:
    """Monotonic ns from which on the input is stale, unless it is seen good again before.

    What was never seen counts from the start of the rule: the first scan is still to come.
    """
    return max(seen.last_good, started) + compare.stale_after


def judgeable(compare: Compare, value: Value) -> bool:
    """NaN and the infinities never are; numbers are asked for by all but (not) equals."""
    if isinstance(value, float):
        return math.isfinite(value)
    if compare.op is Op.EQUALS or compare.op is Op.NOT_EQUALS:
        return True
    return isinstance(value, int) and not isinstance(value, bool)


def _met(compare: Compare, value: Value | None, other: Value | None, held: bool) -> bool:  # noqa: FBT001 - which side of the deadband counts
    if compare.op is Op.EQUALS:
        return same_value(value, compare.value)
    if compare.op is Op.NOT_EQUALS:
        return not same_value(value, compare.value)
    x = _number(value)
    if compare.op is Op.DEVIATION:
        x = abs(x - _number(other))
    return beyond(compare, x, compare.deadband if held else 0.0)


def _number(value: Value | None) -> float:
    """The value of an input that `judgeable` let pass."""
    return value if isinstance(value, int | float) else math.nan


def beyond(compare: Compare, x: float, band: float) -> bool:
    """Whether x meets a comparison of numbers; `band` widens it, so that clearing takes more.

    Inside is `low` ≤ x ≤ `high`, and outside is everything else.
    """
    match compare.op:
        case Op.ABOVE | Op.DEVIATION | Op.RATE_ABOVE:
            # A condition that is met clears strictly below limit - deadband.
            return x >= compare.limit - band
        case Op.BELOW:
            return x <= compare.limit + band
        case Op.INSIDE:
            return compare.low - band <= x <= compare.high + band
        case _:
            return x < compare.low + band or x > compare.high - band


def _extended(window: Window, sample: Sample, compare: Compare) -> Window:
    """The window with one more sample; a gap, or time that runs backwards, begins a new one."""
    at, value = sample.source_time, _number(sample.value)
    if not window:
        return ((at, value),)
    newest = window[-1][0]
    if at == newest:
        return window
    gap = compare.stale_after or compare.window
    if at < newest or at - newest > gap:
        return ((at, value),)
    return (*(entry for entry in window if entry[0] >= at - compare.window), (at, value))


def _rate_met(compare: Compare, window: Window, *, held: bool) -> bool | None:
    rate = rate_of(window)
    return None if rate is None else beyond(compare, rate, compare.deadband if held else 0.0)


def rate_of(window: Window) -> float | None:
    """Units per second: the slope of the least-squares line; None below three samples."""
    if len(window) < RATE_SAMPLES:
        return None
    begin = window[0][0]
    times = [(at - begin) / SECOND for at, _ in window]
    mean_t = math.fsum(times) / len(times)
    mean_v = math.fsum(v for _, v in window) / len(window)
    spread = math.fsum((t - mean_t) ** 2 for t in times)
    together = math.fsum(
        (t - mean_t) * (v - mean_v) for t, (_, v) in zip(times, window, strict=True)
    )
    return together / spread


Reckon: TypeAlias = Callable[[Mark], bool | None]
"""How a mark counts: met, not met, or None: not known."""


def count(condition: Condition, marks: Iterator[Mark], reckon: Reckon) -> bool | None:
    """Whether the condition holds, or None when that hangs on marks that are not known.

    `marks` are those of `rule.comparisons(condition)`, in that order.
    """
    if isinstance(condition, Compare):
        return reckon(next(marks))
    parts = [count(part, marks, reckon) for part in condition.of]
    met = sum(part is True for part in parts)
    if met >= condition.need:
        return True
    return None if met + sum(part is None for part in parts) >= condition.need else False
