"""What a rule says. How it is evaluated is in `rules.py`. Times in nanoseconds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from twinbridge.core.model import MILLISECOND, PropertyRef, Value


class Op(StrEnum):
    ABOVE = "above"
    BELOW = "below"
    EQUALS = "equals"
    NOT_EQUALS = "notEquals"
    INSIDE = "inside"
    OUTSIDE = "outside"
    RATE_ABOVE = "rateAbove"
    DEVIATION = "deviation"


class OnBad(StrEnum):
    TRIP = "Trip"
    ALARM = "Alarm"
    IGNORE = "Ignore"


class Mode(StrEnum):
    ARMED = "Armed"
    DRY_RUN = "DryRun"
    DISABLED = "Disabled"


class Severity(StrEnum):
    INFO = "info"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Compare:
    """One comparison.

    above/below/rateAbove/deviation use `limit`; equals/notEquals `value`; inside/outside
    `low` ≤ x ≤ `high`; deviation is |input − reference|; rateAbove is units/s over `window`.
    `stale_after` 0 means that the input's age is not watched.
    """

    input: PropertyRef
    op: Op
    limit: float = 0.0
    value: Value = 0
    low: float = 0.0
    high: float = 0.0
    deadband: float = 0.0
    window: int = 0
    reference: PropertyRef | None = None
    stale_after: int = 0


@dataclass(frozen=True, slots=True)
class Vote:
    """Active when at least `need` of `of` are; `all` is n of n, `any` 1 of n."""

    need: int
    of: tuple[Condition, ...]


Condition: TypeAlias = Compare | Vote


@dataclass(frozen=True, slots=True)
class Enable:
    """The rule is evaluated only while `condition` holds, `inhibit` after it began to hold.

    A bad input of an enable condition counts as enabled: on doubt the trip path acts.
    """

    condition: Condition
    inhibit: int = 0


@dataclass(frozen=True, slots=True)
class Write:
    target: PropertyRef
    value: Value


@dataclass(frozen=True, slots=True)
class Trip:
    writes: tuple[Write, ...]
    verify_within: int = 500 * MILLISECOND
    retries: int = 3


@dataclass(frozen=True, slots=True)
class Act:
    writes: tuple[Write, ...]
    on_clear: tuple[Write, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleInstance:
    """One rule applied to one device; `id` is `rule:device`.

    `on_bad` tells what bad or stale inputs of an active rule mean.
    """

    rule: str
    device: str
    condition: Condition
    on_bad: OnBad
    severity: Severity
    mode: Mode
    on_delay: int = 0
    off_delay: int = 0
    enable: Enable | None = None
    trip: Trip | None = None
    act: Act | None = None
    latch: bool = False
    """The alarm stays until reset even when its condition clears; always true with a trip."""
    max_latency: int = 0
    message: str = ""
    revision: str = ""
    namespace: str = "default"

    @property
    def id(self) -> str:
        return f"{self.rule}:{self.device}"


def comparisons(condition: Condition) -> tuple[Compare, ...]:
    """Every comparison under a condition, depth first."""
    if isinstance(condition, Compare):
        return (condition,)
    return tuple(c for part in condition.of for c in comparisons(part))


def inputs(instance: RuleInstance) -> tuple[PropertyRef, ...]:
    """Every property that the instance reads, each once, in order of appearance."""
    found = list(comparisons(instance.condition))
    if instance.enable:
        found += comparisons(instance.enable.condition)
    refs = [r for c in found for r in (c.input, c.reference) if r is not None]
    return tuple(dict.fromkeys(refs))
