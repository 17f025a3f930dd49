"""Runs a rule test in virtual time, as the machines' process would call the rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from twinbridge.api.durations import format_duration
from twinbridge.api.rule_tests import Condition, Expectation, ExpectedState, Moment, RuleTest
from twinbridge.core import rules
from twinbridge.core.model import (
    NOT_READ,
    SECOND,
    PropertyRef,
    Quality,
    Reason,
    Sample,
    Value,
    same_value,
    shown,
)
from twinbridge.core.rule import RuleInstance, inputs
from twinbridge.core.rules import Effect, Input, RuleState

_EPOCH = 1000 * SECOND
"""The clocks at the start of a test; zero would mean never."""

_QUALITY = {
    Condition.GOOD: (Quality.GOOD, Reason.NONE),
    Condition.UNCERTAIN: (Quality.UNCERTAIN, Reason.NONE),
    Condition.BAD: (Quality.BAD, Reason.DEVICE_FAULT),
}


@dataclass(slots=True)
class _Signal:
    """A property as the rules see it."""

    sample: Sample = NOT_READ
    silent_since: int | None = _EPOCH

    def take(self, moment: Moment, now: int) -> None:
        if moment.condition is Condition.SILENT:
            self.silent_since = now if self.silent_since is None else self.silent_since
            return
        self.silent_since = None
        quality, reason = _QUALITY[moment.condition]
        value = self.sample.value if moment.value is None else moment.value
        self.sample = Sample(value, quality, reason, now, self.sample.seq + 1)

    def seen(self, now: int) -> Input:
        return Input(self.sample, now if self.silent_since is None else self.silent_since)


@dataclass(slots=True)
class Course:
    """A test under way: `writes` is the last value written to each property."""

    test: RuleTest
    instances: dict[str, RuleInstance]
    states: dict[str, RuleState]
    signals: dict[PropertyRef, _Signal] = field(default_factory=dict)
    writes: dict[PropertyRef, Value] = field(default_factory=dict)
    trail: list[str] = field(default_factory=list)

    def evaluate(self, keys: Iterable[str], now: int) -> None:
        for key in keys:
            instance = self.instances[key]
            seen = {ref: self._signal(ref).seen(now) for ref in inputs(instance)}
            self.states[key], effects = rules.evaluate(instance, self.states[key], seen, now)
            for effect in effects:
                self.trail.append(f"{format_duration(now - _EPOCH)} {key} {effect.value}")
                self._write(instance, effect)

    def take(self, ref: PropertyRef, moment: Moment, now: int) -> None:
        self._signal(ref).take(moment, now)

    def repeat(self, now: int) -> None:
        """A poll that read what it read before."""
        for signal in self.signals.values():
            if signal.sample.good and signal.silent_since is None:
                signal.sample = signal.sample._replace(source_time=now)

    def _signal(self, ref: PropertyRef) -> _Signal:
        return self.signals.setdefault(ref, _Signal())

    def _write(self, instance: RuleInstance, effect: Effect) -> None:
        if effect is Effect.TRIP and instance.trip:
            written = instance.trip.writes
        elif effect is Effect.ACT and instance.act:
            written = instance.act.writes
        elif effect is Effect.UNACT and instance.act:
            written = instance.act.on_clear
        else:
            return
        self.writes.update({write.target: write.value for write in written})


def run(test: RuleTest, instances: Sequence[RuleInstance]) -> list[str]:
    """What was not as expected, a sentence each."""
    mode = test.mode
    chosen = [replace(i, mode=mode) if mode else i for i in instances]
    course = Course(
        test,
        {instance.id: instance for instance in chosen},
        {instance.id: rules.initial(instance) for instance in chosen},
    )
    course.evaluate(course.instances, _EPOCH)
    schedule = _schedule(test)
    polled = [i.id for i in chosen if rules.needs_every_sample(i)]
    end = max([*schedule, *(e.at for e in test.expect)])
    times = {*schedule, *(e.at for e in test.expect)}
    times.update(range(0, end + 1, test.interval) if polled else ())
    failures: list[str] = []
    for at in sorted(times):
        _pass_wakes(course, _EPOCH + at)
        _arrive(course, schedule.get(at, ()), _EPOCH + at, polled)
        failures += [f for e in test.expect if e.at == at for f in _unmet(course, e)]
    return failures


def _schedule(test: RuleTest) -> dict[int, list[tuple[PropertyRef, Moment]]]:
    found: dict[int, list[tuple[PropertyRef, Moment]]] = {}
    for series in test.series:
        ref = PropertyRef(series.device, series.property)
        for moment in series.moments(test.interval):
            found.setdefault(moment.at, []).append((ref, moment))
    return found


def _pass_wakes(course: Course, until: int) -> None:
    """Wake each rule when it asked for it, up to and including `until`, with what stood then."""
    while due := [s.wake_at for s in course.states.values() if 0 < s.wake_at <= until]:
        now = min(due)
        course.evaluate([k for k, s in course.states.items() if s.wake_at == now], now)


def _arrive(
    course: Course,
    arrivals: Iterable[tuple[PropertyRef, Moment]],
    now: int,
    polled: Sequence[str],
) -> None:
    if polled:
        course.repeat(now)
    touched = set()
    for ref, moment in arrivals:
        course.take(ref, moment, now)
        touched.add(ref)
    keys = [k for k, i in course.instances.items() if k in polled or touched & set(inputs(i))]
    course.evaluate(keys, now)


def _unmet(course: Course, expected: Expectation) -> Iterator[str]:
    at = f"at {format_duration(expected.at)}"
    if expected.state is not None:
        key = f"{expected.rule}:{expected.device}"
        state = course.states[key]
        if not _matches(expected.state, state):
            yield f"{at}: {key} is {_said(state)}, expected {expected.state}{_trail(course)}"
    elif expected.write is not None:
        ref = PropertyRef(expected.write.device, expected.write.property)
        if ref not in course.writes:
            wanted = expected.write.value
            yield f"{at}: nothing was written to {ref}, expected {shown(wanted)}{_trail(course)}"
        elif not same_value(course.writes[ref], expected.write.value):
            yield (
                f"{at}: {shown(course.writes[ref])} was written to {ref}, "
                f"expected {shown(expected.write.value)}{_trail(course)}"
            )
    elif course.writes:
        written = ", ".join(f"{ref} = {shown(value)}" for ref, value in course.writes.items())
        yield f"{at}: {written} was written, expected no writes{_trail(course)}"


def _trail(course: Course) -> str:
    return f" (so far: {'; '.join(course.trail[-5:])})" if course.trail else " (so far: nothing)"


def _matches(expected: ExpectedState, state: RuleState) -> bool:
    match expected:
        case ExpectedState.ACTIVE:
            return state.active
        case ExpectedState.LATCHED:
            return state.latched
        case ExpectedState.CLEAR:
            return not state.active and not state.latched


def _said(state: RuleState) -> str:
    bits = [name for name, bit in (("active", state.active), ("latched", state.latched)) if bit]
    return " and ".join(bits) or "clear"
