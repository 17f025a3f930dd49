"""What must hold of every rule and every course of samples (DOMAIN §2)."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from unit.core.rule_cases import HOT, Bench, T, U, W, bad, good, rule

from twinbridge.core.model import MILLISECOND, SECOND, Reason, Sample
from twinbridge.core.rule import OnBad, Vote
from twinbridge.core.rules import Effect

VALUES = st.floats(60, 110) | st.sampled_from([80.0, 85.0, 84.9, 79.9])
UNFIT = st.sampled_from([bad(20.0), bad(20.0, Reason.COMM_LOST), good(math.nan), good(math.inf)])
PAUSES = st.integers(0, 4000)
STEPS = st.lists(st.tuples(VALUES.map(good) | UNFIT, PAUSES), max_size=25)
DELAYS = st.sampled_from([0, 100 * MILLISECOND, SECOND])
ON_BAD = st.sampled_from(OnBad)


def play(bench: Bench, steps: list[tuple[Sample, int]]) -> None:
    for sample, pause in steps:
        bench.see(sample)
        bench.wait(pause)


@given(STEPS, DELAYS, DELAYS, ON_BAD, st.booleans())
def test_a_latch_clears_only_by_a_reset(
    steps: list[tuple[Sample, int]],
    on: int,
    off: int,
    on_bad: OnBad,
    polled: bool,  # noqa: FBT001 - the test's case
) -> None:
    bench = Bench(rule(on_delay=on, off_delay=off, on_bad=on_bad), polled=polled)
    bench.evaluate()
    for sample, pause in steps:
        latched = bench.state.latched
        bench.see(sample)
        bench.wait(pause)
        assert bench.state.latched or not latched
    assert bench.effects.count(Effect.TRIP) == bench.state.latched


@given(st.lists(st.tuples(UNFIT, PAUSES), min_size=1, max_size=10), DELAYS, ON_BAD)
def test_bad_and_not_a_number_never_clear_an_active_rule(
    steps: list[tuple[Sample, int]], off: int, on_bad: OnBad
) -> None:
    bench = Bench(rule(off_delay=off, on_bad=on_bad))
    bench.see(90)
    play(bench, steps)
    assert bench.state.active
    assert Effect.CLEAR not in bench.effects


@given(STEPS, st.integers(1, 2000))
def test_never_active_before_the_condition_held_for_the_on_delay(
    steps: list[tuple[Sample, int]], milliseconds: int
) -> None:
    bench = Bench(rule(on_delay=milliseconds * MILLISECOND, on_bad=OnBad.IGNORE))
    held_since = None
    for sample, pause in steps:
        at = bench.now
        raised = Effect.RAISE in bench.see(sample)
        met = sample.good and isinstance(sample.value, float) and 85 <= sample.value < math.inf
        if raised:
            assert held_since is not None
            assert at - held_since >= milliseconds * MILLISECOND
        held_since = (held_since if held_since is not None else at) if met else None
        before = bench.state.active
        bench.wait(pause)
        if bench.state.active and not before:
            assert held_since is not None
            assert bench.now - held_since >= milliseconds * MILLISECOND


@given(STEPS, st.lists(st.integers(-(10**18), 10**18), min_size=25, max_size=25), DELAYS, ON_BAD)
def test_jumps_of_the_wall_clock_change_nothing(
    steps: list[tuple[Sample, int]], jumps: list[int], on: int, on_bad: OnBad
) -> None:
    steady = Bench(rule(on_delay=on, on_bad=on_bad))
    jumping = Bench(rule(on_delay=on, on_bad=on_bad))
    play(steady, steps)
    play(
        jumping,
        [(s._replace(source_time=jump), p) for (s, p), jump in zip(steps, jumps, strict=False)],
    )
    assert jumping.state == steady.state
    assert jumping.effects == steady.effects


@given(st.lists(st.floats(80, 84.999), min_size=1, max_size=30), st.booleans())
def test_no_chatter_within_the_deadband(values: list[float], active: bool) -> None:  # noqa: FBT001 - the test's case
    bench = Bench(rule())
    bench.see(90 if active else 70)
    told = list(bench.effects)
    for value in values:
        bench.see(value)
    assert bench.effects == told
    assert bench.state.active is active


@given(STEPS, DELAYS, DELAYS, ON_BAD, st.booleans())
def test_the_same_course_gives_the_same_state_and_effects(
    steps: list[tuple[Sample, int]],
    on: int,
    off: int,
    on_bad: OnBad,
    polled: bool,  # noqa: FBT001 - the test's case
) -> None:
    benches = [Bench(rule(on_delay=on, off_delay=off, on_bad=on_bad), polled=polled) for _ in "ab"]
    for bench in benches:
        play(bench, steps)
    assert benches[0].state == benches[1].state
    assert benches[0].effects == benches[1].effects


@given(STEPS, DELAYS, DELAYS, ON_BAD, st.booleans(), st.lists(st.integers(1, 4000), max_size=5))
@settings(max_examples=200)
def test_looking_more_often_changes_nothing(
    steps: list[tuple[Sample, int]],
    on: int,
    off: int,
    on_bad: OnBad,
    polled: bool,  # noqa: FBT001 - the test's case
    extra: list[int],
) -> None:
    instance = rule(on_delay=on, off_delay=off, on_bad=on_bad)
    seldom, often = Bench(instance, polled=polled), Bench(instance, polled=polled)
    for sample, pause in steps:
        seldom.see(sample)
        seldom.wait(pause)
        often.see(sample)
        often.wait(pause, extra=[often.now + e * MILLISECOND for e in extra])
    told = replace(often.state, wake_at=0), often.effects
    assert told == (replace(seldom.state, wake_at=0), seldom.effects)


@given(st.lists(st.tuples(st.sampled_from([T, U, W]), VALUES), max_size=30), st.integers(1, 3))
def test_a_vote_is_the_count_of_its_channels(steps: list[tuple[object, float]], need: int) -> None:
    parts = tuple(replace(HOT, input=ref) for ref in (T, U, W))
    vote = Bench(rule(Vote(need, parts)))
    alone = {ref: Bench(rule(replace(HOT, input=ref))) for ref in (T, U, W)}
    for ref, bench in alone.items():
        vote.see(70, ref)
        bench.see(70, ref)
    for ref, value in steps:
        vote.see(value, ref)
        alone[ref].see(value, ref)
        active = sum(bench.state.active for bench in alone.values())
        assert vote.state.active is (active >= need)
