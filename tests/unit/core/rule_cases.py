"""Rules and samples that the tests of the core share. Times in ns from 1 s on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from twinbridge.core import rules
from twinbridge.core.model import (
    MILLISECOND,
    NOT_READ,
    SECOND,
    PropertyRef,
    Quality,
    Reason,
    Sample,
    Value,
)
from twinbridge.core.rule import (
    Compare,
    Condition,
    Mode,
    OnBad,
    Op,
    RuleInstance,
    Severity,
    Trip,
    Write,
)
from twinbridge.core.rules import Effect, Input, RuleState

T = PropertyRef("pump-1", "temperature")
U = PropertyRef("pump-1", "bearing")
W = PropertyRef("pump-1", "casing")
RUN = PropertyRef("pump-1", "run")
STALE_AFTER = 3 * SECOND
HOT = Compare(T, Op.ABOVE, limit=85, deadband=5, stale_after=STALE_AFTER)
STOP = Trip((Write(RUN, False),))


def rule(condition: Condition = HOT, **changes: Any) -> RuleInstance:
    settings: dict[str, Any] = {
        "on_bad": OnBad.TRIP,
        "severity": Severity.CRITICAL,
        "mode": Mode.ARMED,
        "trip": STOP,
        "latch": True,
    }
    return RuleInstance("overheat", "pump-1", condition, **(settings | changes))


def good(value: Value, at: int = 0) -> Sample:
    return Sample(value, Quality.GOOD, Reason.NONE, at, 1)


def bad(value: Value | None = 70.0, reason: Reason = Reason.DEVICE_FAULT) -> Sample:
    return Sample(value, Quality.BAD, reason, 0, 1)


@dataclass
class Bench:
    """A rule under test with its inputs; wakes it as a shell would, in virtual time."""

    instance: RuleInstance
    now: int = SECOND
    polled: bool = True
    state: RuleState = field(init=False)
    samples: dict[PropertyRef, Sample] = field(default_factory=dict)
    last_good: dict[PropertyRef, int] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = rules.initial(self.instance)

    def inputs(self) -> rules.Inputs:
        """Where polling goes on, what is there is as fresh as can be."""
        refs = {T, U, W, RUN, *self.samples}
        return {
            ref: Input(
                self.samples.get(ref, NOT_READ),
                self.now if self.polled and ref in self.samples else self.last_good.get(ref, 0),
            )
            for ref in refs
        }

    def evaluate(self) -> tuple[Effect, ...]:
        self.state, effects = rules.evaluate(self.instance, self.state, self.inputs(), self.now)
        self.effects += effects
        return effects

    def see(self, value: Value | Sample, ref: PropertyRef = T) -> tuple[Effect, ...]:
        sample = value if isinstance(value, Sample) else good(value, self.now)
        self.samples[ref] = sample
        self.last_good[ref] = self.now
        return self.evaluate()

    def wait(self, milliseconds: float, extra: Iterable[int] = ()) -> list[Effect]:
        """Let time pass; wake the rule when it asks for it, and at `extra` moments besides."""
        end = self.now + int(milliseconds * MILLISECOND)
        stops = sorted(at for at in extra if self.now < at < end)
        came: list[Effect] = []
        while True:
            wake = self.state.wake_at
            due = [at for at in (*stops, wake) if self.now < at <= end]
            if not due:
                break
            self.now = min(due)
            stops = [at for at in stops if at > self.now]
            came += self.evaluate()
        self.now = end
        return came

    def reset(self) -> None:
        self.state = rules.reset(self.instance, self.state, self.inputs(), self.now)
