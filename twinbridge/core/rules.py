"""How a rule is evaluated: a fold over samples, with `now` passed in.

evaluate(instance, state, inputs, now) -> (state, effects)

The shell calls it when an input's sample changes and at `state.wake_at`, with monotonic
nanoseconds that never run backwards. A good poll that changes nothing only moves
`Input.last_good`. The wall clock plays no part, but for the source times that a rate is taken over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from twinbridge.core.condition import (
    FRESH,
    NEVER_READ,
    Channel,
    Input,
    Inputs,
    Mark,
    Reckon,
    beyond,
    count,
    fitness,
    fresh_until,
    judge,
)
from twinbridge.core.model import Quality, finite, same_value
from twinbridge.core.rule import Compare, Mode, OnBad, Op, RuleInstance, comparisons
from twinbridge.errors import ResetRefused

__all__ = [
    "Effect",
    "Input",
    "Inputs",
    "RuleState",
    "evaluate",
    "initial",
    "needs_every_sample",
    "rearm",
    "reset",
    "restore",
]

_NONE = -1
"""No such moment yet."""
_EQUALITY = (Op.EQUALS, Op.NOT_EQUALS)


class Effect(StrEnum):
    """What the shell must do, in the order given."""

    RAISE = "raise"  # the alarm becomes active
    CLEAR = "clear"  # the alarm's condition has cleared
    TRIP = "trip"  # write the stop (Armed) ...
    WOULD_TRIP = "would_trip"  # ... or say so (DryRun)
    ACT = "act"  # write act.writes
    UNACT = "unact"  # write act.on_clear
    BAD = "bad"  # inputs became bad or stale and on_bad is Alarm
    BAD_CLEAR = "bad_clear"  # and they are good again


@dataclass(frozen=True, slots=True)
class RuleState:
    """What a rule remembers. Moments are monotonic ns, -1 = none; `wake_at` 0 = none.

    `latched`: a trip, or a latching alarm, that only `reset` releases.
    """

    active: bool = False
    latched: bool = False
    wake_at: int = 0
    """The next moment at which the outcome may change without a new sample; early is harmless."""
    turning_since: int = _NONE
    """Since when the condition has been the opposite of `active`: on- or off-delay runs."""
    started: int = _NONE
    enabled_since: int = _NONE
    bad: bool = False
    told_would_trip: bool = False
    acted: bool = False
    settled: bool = False
    """Nothing runs and nothing is bad: a good sample on the same side changes nothing."""
    channels: tuple[Channel, ...] = ()
    enable_channels: tuple[Channel, ...] = ()


def initial(instance: RuleInstance) -> RuleState:
    return restore(instance, latched=False)


def restore(instance: RuleInstance, *, latched: bool) -> RuleState:
    """The state at a start; a latch that stood before stands, and trips no second time."""
    enable = comparisons(instance.enable.condition) if instance.enable else ()
    return RuleState(
        latched=latched,
        channels=(FRESH,) * len(comparisons(instance.condition)),
        enable_channels=(FRESH,) * len(enable),
    )


def rearm(instance: RuleInstance, state: RuleState) -> RuleState:
    """The state under another mode of the same rule: the next evaluate looks at everything.

    A rule that is armed while its condition is active trips then. Disabled waits for nothing.
    """
    wake_at = 0 if instance.mode is Mode.DISABLED else state.wake_at
    return replace(state, settled=False, wake_at=wake_at, told_would_trip=False)


def needs_every_sample(instance: RuleInstance) -> bool:
    """Whether unchanged samples count as well: a rate needs to know that a value stood still."""
    found = comparisons(instance.condition)
    if instance.enable:
        found += comparisons(instance.enable.condition)
    return any(c.op is Op.RATE_ABOVE for c in found)


def evaluate(
    instance: RuleInstance, state: RuleState, inputs: Inputs, now: int
) -> tuple[RuleState, tuple[Effect, ...]]:
    """Fold the inputs as they stand into the state. The same state object means: no change."""
    if state.settled and _plainly_unchanged(instance, state, inputs, now):
        return state, ()
    if instance.mode is Mode.DISABLED:
        return _disable(instance, state)
    if state.started == _NONE:
        state = replace(state, started=now)
    turned = _turn_if_due(instance, state, now)
    looked = _look(instance, turned, inputs, now)
    told, effects = _tell(instance, state, looked)
    # What came due before this sample and was undone by it has still happened.
    if turned.active != state.active and looked.active == state.active:
        between, first = _tell(instance, state, turned)
        told, then = _tell(instance, between, _carry(looked, between))
        effects = first + then
    return (state if told == state else told), effects


def _plainly_unchanged(instance: RuleInstance, state: RuleState, inputs: Inputs, now: int) -> bool:
    """The common case, cheaply: one value on the same side as before, and not yet stale."""
    condition = instance.condition
    if type(condition) is not Compare or now >= state.wake_at > 0:
        return False
    seen = inputs.get(condition.input)
    if seen is None or seen.sample.quality is not Quality.GOOD:
        return False
    value = seen.sample.value
    if condition.op in _EQUALITY:
        if value is None or not finite(value):
            return False
        same = same_value(value, condition.value)
        return (same is (condition.op is Op.EQUALS)) is state.active
    if type(value) is not float and type(value) is not int:
        return False
    band = condition.deadband if state.active else 0.0
    # x - x is 0 for every number, and NaN for NaN and the infinities.
    return value - value == 0 and beyond(condition, value, band) is state.active


def _disable(instance: RuleInstance, state: RuleState) -> tuple[RuleState, tuple[Effect, ...]]:
    """Forget everything but the latch; what is told as active is told as cleared, once."""
    effects: tuple[Effect, ...] = (Effect.CLEAR,) if state.active else ()
    if state.bad and instance.on_bad is OnBad.ALARM:
        effects += (Effect.BAD_CLEAR,)
    fresh = restore(instance, latched=state.latched)
    return (state if fresh == state else fresh), effects


def _turn_if_due(instance: RuleInstance, state: RuleState, now: int) -> RuleState:
    """A delay that ran out before this evaluation has done its work, however late we come."""
    delay = instance.off_delay if state.active else instance.on_delay
    if state.turning_since == _NONE or now - state.turning_since < delay:
        return state
    return replace(state, active=not state.active, turning_since=_NONE)


def _look(instance: RuleInstance, state: RuleState, inputs: Inputs, now: int) -> RuleState:
    """Judge the inputs and let the delays run; says nothing about effects."""
    enabled, state = _enabled(instance, state, inputs, now)
    if enabled:
        marks, channels = _judge_all(instance, state, inputs, now)
        met = count(instance.condition, iter(marks), _reckoning(instance.on_bad))
        at_once = met is True and not state.active and _stale_decides(instance, marks)
        bad = Mark.BAD in marks or Mark.STALE in marks
    else:
        channels = (FRESH,) * len(state.channels)
        met, at_once, bad = False, False, False
    active, since = _delayed(instance, state, met, now, at_once=at_once)
    looked = replace(state, active=active, turning_since=since, channels=channels, bad=bad)
    wake_at = _next_wake(instance, looked, inputs, now)
    settled = not bad and since == _NONE and met is active and _simple(instance)
    return replace(looked, wake_at=wake_at, settled=settled)


def _simple(instance: RuleInstance) -> bool:
    """Whether the cheap look of `_plainly_unchanged` can judge it."""
    condition = instance.condition
    return (
        isinstance(condition, Compare)
        and condition.op not in (Op.RATE_ABOVE, Op.DEVIATION)
        and instance.enable is None
        and instance.mode is not Mode.DISABLED
    )


def _enabled(
    instance: RuleInstance, state: RuleState, inputs: Inputs, now: int
) -> tuple[bool, RuleState]:
    """A bad input counts as enabled; the inhibit time begins when the condition began to hold."""
    if instance.enable is None:
        return True, state
    parts = comparisons(instance.enable.condition)
    judged = [
        judge(part, channel, inputs, state.started, now)
        for part, channel in zip(parts, state.enable_channels, strict=True)
    ]
    marks = iter([mark for mark, _ in judged])
    met = count(instance.enable.condition, marks, _reckoning(OnBad.TRIP))
    since = state.enabled_since
    if met is True and since == _NONE:
        since = now
    elif met is False:
        since = _NONE
    state = replace(
        state, enabled_since=since, enable_channels=tuple(channel for _, channel in judged)
    )
    return since != _NONE and now - since >= instance.enable.inhibit, state


def _judge_all(
    instance: RuleInstance, state: RuleState, inputs: Inputs, now: int
) -> tuple[list[Mark], tuple[Channel, ...]]:
    if isinstance(instance.condition, Compare):
        # Alone, its deadband counts from when the rule is active, not while the delay runs, so
        # the rule's state is its own; in a vote each channel has one.
        held = replace(state.channels[0], met=state.active)
        mark, channel = judge(instance.condition, held, inputs, state.started, now)
        return [mark], (replace(channel, met=False),)
    judged = [
        judge(part, channel, inputs, state.started, now)
        for part, channel in zip(comparisons(instance.condition), state.channels, strict=True)
    ]
    return [mark for mark, _ in judged], tuple(channel for _, channel in judged)


def _reckoning(on_bad: OnBad) -> Reckon:
    """Trip counts bad and stale as met; else they leave the outcome open where it hangs on them."""
    doubt = True if on_bad is OnBad.TRIP else None
    table = {
        Mark.MET: True,
        Mark.NOT_MET: False,
        Mark.WAITING: None,
        Mark.BAD: doubt,
        Mark.STALE: doubt,
    }
    return table.__getitem__


def _stale_decides(instance: RuleInstance, marks: list[Mark]) -> bool:
    """Whether it is met by staleness, which waited long enough: no on-delay comes on top."""
    if Mark.STALE not in marks:
        return False
    without = [Mark.NOT_MET if mark is Mark.STALE else mark for mark in marks]
    alone = [Mark.STALE if mark is Mark.STALE else Mark.NOT_MET for mark in marks]
    reckon = _reckoning(instance.on_bad)
    needed = count(instance.condition, iter(without), reckon) is not True
    return needed or count(instance.condition, iter(alone), reckon) is True


def _delayed(
    instance: RuleInstance,
    state: RuleState,
    met: bool | None,  # noqa: FBT001 - the condition's outcome
    now: int,
    *,
    at_once: bool,
) -> tuple[bool, int]:
    """(active, since when it turns). What is not known neither raises nor clears."""
    if met is None or met is state.active:
        return state.active, _NONE
    since = now if state.turning_since == _NONE else state.turning_since
    delay = instance.off_delay if state.active else instance.on_delay
    if at_once or now - since >= delay:
        return met, _NONE
    return state.active, since


def _next_wake(instance: RuleInstance, state: RuleState, inputs: Inputs, now: int) -> int:
    moments = [at for at in _moments(instance, state, inputs) if at > now]
    if not moments:
        return 0
    soonest = min(moments)
    # A wake that is already set and comes early is kept: it costs less than a changed state.
    return state.wake_at if now < state.wake_at <= soonest else soonest


def _moments(instance: RuleInstance, state: RuleState, inputs: Inputs) -> Iterator[int]:
    if state.turning_since != _NONE:
        delay = instance.off_delay if state.active else instance.on_delay
        yield state.turning_since + delay
    watched = comparisons(instance.condition)
    if instance.enable:
        watched += comparisons(instance.enable.condition)
        if state.enabled_since != _NONE:
            yield state.enabled_since + instance.enable.inhibit
    for part in watched:
        for ref in (part.input, part.reference):
            if ref is not None and part.stale_after:
                yield fresh_until(part, inputs.get(ref, NEVER_READ), state.started)


def _carry(looked: RuleState, told: RuleState) -> RuleState:
    return replace(
        looked, latched=told.latched, told_would_trip=told.told_would_trip, acted=told.acted
    )


def _tell(
    instance: RuleInstance, before: RuleState, after: RuleState
) -> tuple[RuleState, tuple[Effect, ...]]:
    """The effects that lead from one state to the next; trips come first."""
    effects: list[Effect] = []
    changes: dict[str, bool] = {}
    armed = instance.mode is Mode.ARMED
    if after.active:
        if instance.trip and armed and not after.latched:
            effects.append(Effect.TRIP)
            changes["latched"] = True
        if not before.active:
            effects.append(Effect.RAISE)
            if instance.latch and instance.trip is None:
                changes["latched"] = True
        if instance.trip and not armed and not after.told_would_trip:
            effects.append(Effect.WOULD_TRIP)
            changes["told_would_trip"] = True
        if instance.act and armed and not after.acted:
            effects.append(Effect.ACT)
            changes["acted"] = True
    else:
        if after.acted:
            effects += [Effect.UNACT] if armed and instance.act else []
            changes["acted"] = False
        if before.active:
            effects.append(Effect.CLEAR)
            changes["told_would_trip"] = False
    if instance.on_bad is OnBad.ALARM and after.bad is not before.bad:
        effects.append(Effect.BAD if after.bad else Effect.BAD_CLEAR)
    return (replace(after, **changes) if changes else after), tuple(effects)  # type: ignore[arg-type]  # only bool fields are named above


def reset(instance: RuleInstance, state: RuleState, inputs: Inputs, now: int) -> RuleState:
    """Release the latch. It starts nothing; the next activation trips again.

    Raises ResetRefused, naming input and value, unless every input is good and the condition is
    clear. A rule that its enable condition does not enable is clear.
    """
    started = now if state.started == _NONE else state.started
    looked = replace(state, started=started)
    enabled, _ = _enabled(instance, looked, inputs, now)
    if enabled:
        _refuse_unfit(instance, inputs, started, now)
        marks, _ = _judge_all(instance, replace(looked, active=True), inputs, now)
        if count(instance.condition, iter(marks), _reckoning(OnBad.TRIP)) is not False:
            raise ResetRefused(
                f"{instance.id}: its condition is not clear: {_seen(instance, inputs)}"
            )
    if state.active:
        raise ResetRefused(
            f"{instance.id}: its condition has not been clear for its off-delay yet: "
            f"{_seen(instance, inputs)}"
        )
    return replace(state, latched=False)


def _refuse_unfit(instance: RuleInstance, inputs: Inputs, started: int, now: int) -> None:
    for part in comparisons(instance.condition):
        for ref in (part.input, part.reference):
            if ref is None:
                continue
            seen = inputs.get(ref, NEVER_READ)
            unfit = fitness(part, seen, started, now)
            if unfit is not None:
                sample = seen.sample
                why = sample.reason.value or unfit.name.lower()
                raise ResetRefused(
                    f"{instance.id}: {ref} cannot be judged: it is {unfit.name.lower()} ({why}), "
                    f"last value {sample.value!r}; a reset needs every input good"
                )


def _seen(instance: RuleInstance, inputs: Inputs) -> str:
    refs = {r: None for c in comparisons(instance.condition) for r in (c.input, c.reference) if r}
    return ", ".join(f"{ref} is {inputs.get(ref, NEVER_READ).sample.value!r}" for ref in refs)
