"""What a rule does, case by case (DOMAIN §2)."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from unit.core.rule_cases import HOT, RUN, STOP, Bench, T, U, W, bad, good, rule

from twinbridge.core import rules
from twinbridge.core.model import MILLISECOND, SECOND, Quality, Reason, Sample
from twinbridge.core.rule import Act, Compare, Enable, Mode, OnBad, Op, Vote, Write
from twinbridge.core.rules import Effect
from twinbridge.errors import ResetRefused

FAN = Write(RUN, True)


def test_a_value_at_the_limit_trips_once_and_raises_the_alarm() -> None:
    bench = Bench(rule())
    assert bench.see(84.9) == ()
    assert bench.see(85) == (Effect.TRIP, Effect.RAISE)
    assert bench.see(99) == ()
    assert bench.state.latched


def test_the_alarm_clears_only_below_the_deadband_and_the_latch_stays() -> None:
    bench = Bench(rule())
    bench.see(90)
    assert bench.see(80) == ()
    assert bench.see(79.9) == (Effect.CLEAR,)
    assert bench.state.latched
    assert bench.see(90) == (Effect.RAISE,)


def test_below_is_active_at_the_limit_and_clears_above_the_deadband() -> None:
    bench = Bench(rule(Compare(T, Op.BELOW, limit=10, deadband=2), trip=None, latch=False))
    assert bench.see(10.1) == ()
    assert bench.see(10) == (Effect.RAISE,)
    assert bench.see(12) == ()
    assert bench.see(12.1) == (Effect.CLEAR,)


def test_on_delay_ends_without_a_new_sample() -> None:
    bench = Bench(rule(on_delay=200 * MILLISECOND))
    assert bench.see(90) == ()
    assert bench.state.wake_at == bench.now + 200 * MILLISECOND
    assert bench.wait(199) == []
    assert bench.wait(1) == [Effect.TRIP, Effect.RAISE]


def test_a_dip_below_the_limit_restarts_the_on_delay_even_within_the_deadband() -> None:
    bench = Bench(rule(on_delay=200 * MILLISECOND))
    bench.see(90)
    bench.wait(150)
    bench.see(84)
    bench.see(90)
    assert bench.wait(199) == []
    assert bench.wait(1) == [Effect.TRIP, Effect.RAISE]


def test_a_delay_that_ran_out_before_a_late_wake_up_still_trips() -> None:
    bench = Bench(rule(on_delay=200 * MILLISECOND))
    bench.see(90)
    bench.now += 300 * MILLISECOND
    assert bench.see(70) == (Effect.TRIP, Effect.RAISE, Effect.CLEAR)
    assert bench.state.latched


def test_off_delay_holds_the_alarm() -> None:
    bench = Bench(rule(off_delay=SECOND))
    bench.see(90)
    assert bench.see(70) == ()
    assert bench.wait(999) == []
    assert bench.wait(1) == [Effect.CLEAR]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "hot", True])
def test_what_is_no_number_is_bad_not_normal(value: float) -> None:
    bench = Bench(rule())
    bench.see(70)
    assert bench.see(value) == (Effect.TRIP, Effect.RAISE)


def test_bad_quality_waits_for_the_on_delay_but_staleness_does_not() -> None:
    delayed = rule(on_delay=SECOND)
    bench = Bench(delayed)
    bench.see(70)
    assert bench.see(bad()) == ()
    assert bench.wait(1000) == [Effect.TRIP, Effect.RAISE]
    bench = Bench(delayed, polled=False)
    bench.see(70)
    assert bench.wait(2999) == []
    assert bench.wait(1) == [Effect.TRIP, Effect.RAISE]


def test_an_unchanged_value_that_is_still_polled_is_not_stale() -> None:
    bench = Bench(rule())
    bench.see(70)
    assert bench.wait(60_000) == []


def test_what_was_never_read_is_stale_only_after_its_time_since_the_start() -> None:
    bench = Bench(rule())
    assert bench.evaluate() == ()
    assert bench.wait(2999) == []
    assert bench.wait(1) == [Effect.TRIP, Effect.RAISE]


def test_a_lost_link_is_bad_at_once_also_before_the_first_reading() -> None:
    bench = Bench(rule())
    assert bench.see(bad(None, Reason.COMM_LOST)) == (Effect.TRIP, Effect.RAISE)


def test_uncertain_is_usable_but_a_last_usable_value_is_stale() -> None:
    bench = Bench(rule())
    assert bench.see(Sample(70, Quality.UNCERTAIN, Reason.NONE, 0, 1)) == ()
    assert Effect.TRIP in bench.see(Sample(70, Quality.UNCERTAIN, Reason.STALE, 0, 1))


def test_on_bad_alarm_says_so_once_and_freezes_the_condition() -> None:
    bench = Bench(rule(on_bad=OnBad.ALARM))
    bench.see(90)
    assert bench.see(bad(20)) == (Effect.BAD,)
    assert bench.see(bad(20, Reason.COMM_LOST)) == ()
    assert bench.state.active
    assert bench.see(90) == (Effect.BAD_CLEAR,)
    assert bench.see(20) == (Effect.CLEAR,)


def test_on_bad_ignore_neither_raises_nor_clears_nor_tells() -> None:
    bench = Bench(rule(on_bad=OnBad.IGNORE))
    assert bench.see(bad(99)) == ()
    bench.see(90)
    assert bench.see(bad(20)) == ()
    assert bench.state.active


def test_a_vote_counts_the_channels_own_states() -> None:
    parts = tuple(replace(HOT, input=ref) for ref in (T, U, W))
    bench = Bench(rule(Vote(2, parts)))
    for ref in (T, U, W):
        assert bench.see(70, ref) == ()
    assert bench.see(90, T) == ()
    # Within its deadband the first channel still holds its vote.
    assert bench.see(82, T) == ()
    assert bench.see(90, W) == (Effect.TRIP, Effect.RAISE)


def test_a_bad_channel_votes_to_trip_or_is_left_open() -> None:
    parts = tuple(replace(HOT, input=ref) for ref in (T, U, W))
    for on_bad, trips in ((OnBad.TRIP, True), (OnBad.IGNORE, False)):
        bench = Bench(rule(Vote(2, parts), on_bad=on_bad))
        for ref in (T, U, W):
            bench.see(70, ref)
        bench.see(90, T)
        assert (Effect.TRIP in bench.see(bad(), U)) is trips


def test_equals_never_takes_a_number_for_a_bool() -> None:
    bench = Bench(rule(Compare(RUN, Op.EQUALS, value=True)))
    assert bench.see(1, RUN) == ()
    assert bench.see(True, RUN) == (Effect.TRIP, Effect.RAISE)
    bench = Bench(rule(Compare(RUN, Op.NOT_EQUALS, value="auto")))
    assert bench.see("auto", RUN) == ()
    assert bench.see("manual", RUN) == (Effect.TRIP, Effect.RAISE)


def test_equality_clears_with_the_value_and_a_nan_never_clears_it() -> None:
    bench = Bench(rule(Compare(T, Op.EQUALS, value=5.0), trip=None, latch=False))
    assert bench.see(4.0) == ()
    assert bench.see(5) == (Effect.RAISE,)
    assert bench.see(5.0) == ()
    assert bench.see(math.nan) == ()
    assert bench.see(6.0) == (Effect.CLEAR,)


def test_inside_and_outside_know_their_edges_and_their_deadband() -> None:
    inside = Bench(rule(Compare(T, Op.INSIDE, low=10, high=20, deadband=1), latch=False, trip=None))
    outside = Bench(
        rule(Compare(T, Op.OUTSIDE, low=10, high=20, deadband=1), latch=False, trip=None)
    )
    assert inside.see(9.9) == ()
    assert inside.see(10) == (Effect.RAISE,)
    assert inside.see(21) == ()
    assert inside.see(21.1) == (Effect.CLEAR,)
    assert outside.see(20) == ()
    assert outside.see(20.1) == (Effect.RAISE,)
    assert outside.see(19.5) == ()
    assert outside.see(19) == (Effect.CLEAR,)


def test_deviation_is_absolute_and_bad_with_either_input() -> None:
    bench = Bench(rule(Compare(T, Op.DEVIATION, limit=5, reference=U)))
    bench.see(50, U)
    assert bench.see(54, T) == ()
    assert bench.see(45, T) == (Effect.TRIP, Effect.RAISE)
    bench = Bench(rule(Compare(T, Op.DEVIATION, limit=5, reference=U)))
    bench.see(50, U)
    bench.see(50, T)
    assert Effect.TRIP in bench.see(bad(), U)


RISING = Compare(T, Op.RATE_ABOVE, limit=10, window=5 * SECOND, stale_after=3 * SECOND)


def test_a_rate_needs_three_good_samples() -> None:
    bench = Bench(rule(RISING))
    assert bench.see(0) == ()
    bench.wait(1000)
    assert bench.see(20) == ()
    bench.wait(1000)
    assert bench.see(40) == (Effect.TRIP, Effect.RAISE)


def test_a_rate_starts_anew_after_a_gap_or_bad_quality() -> None:
    for breaks in (bad(), None):
        bench = Bench(rule(RISING, on_bad=OnBad.IGNORE))
        for value in (0, 20):
            bench.see(value)
            bench.wait(1000)
        if breaks:
            bench.see(breaks)
        else:
            bench.wait(3000)
        for value in (40, 60):
            assert bench.see(value) == ()
            bench.wait(1000)
        assert bench.see(80) == (Effect.TRIP, Effect.RAISE)


def test_a_wake_up_without_a_new_sample_adds_nothing_to_a_rate() -> None:
    bench = Bench(rule(RISING))
    bench.see(0)
    bench.wait(100)
    bench.see(50)
    for _ in range(5):
        assert bench.evaluate() == ()


def test_only_rates_ask_for_every_sample() -> None:
    assert rules.needs_every_sample(rule(RISING))
    assert rules.needs_every_sample(rule(enable=Enable(RISING)))
    assert not rules.needs_every_sample(rule())


def test_a_rule_that_is_not_enabled_waits_and_then_for_its_inhibit_time() -> None:
    running = Enable(Compare(RUN, Op.EQUALS, value=True), inhibit=2 * SECOND)
    bench = Bench(rule(enable=running))
    bench.see(False, RUN)
    assert bench.see(90) == ()
    bench.see(True, RUN)
    assert bench.wait(1999) == []
    assert bench.wait(1) == [Effect.TRIP, Effect.RAISE]
    assert bench.see(False, RUN) == (Effect.CLEAR,)


def test_a_bad_enable_input_counts_as_enabled() -> None:
    bench = Bench(rule(enable=Enable(Compare(RUN, Op.EQUALS, value=True))))
    bench.see(90)
    assert bench.see(bad(False), RUN) == (Effect.TRIP, Effect.RAISE)


def test_dry_run_says_what_it_would_do_and_arming_then_does_it_at_once() -> None:
    bench = Bench(rule(mode=Mode.DRY_RUN))
    assert bench.see(90) == (Effect.RAISE, Effect.WOULD_TRIP)
    assert not bench.state.latched
    bench.instance = replace(bench.instance, mode=Mode.ARMED)
    bench.state = rules.rearm(bench.instance, bench.state)
    assert bench.evaluate() == (Effect.TRIP,)


def test_disabled_clears_what_it_told_writes_nothing_and_keeps_the_latch() -> None:
    bench = Bench(rule(act=Act((FAN,), (FAN,))))
    assert bench.see(90) == (Effect.TRIP, Effect.RAISE, Effect.ACT)
    bench.instance = replace(bench.instance, mode=Mode.DISABLED)
    bench.state = rules.rearm(bench.instance, bench.state)
    assert bench.evaluate() == (Effect.CLEAR,)
    assert bench.see(95) == ()
    assert bench.state.latched
    assert bench.state.wake_at == 0


def test_automation_acts_and_undoes_without_a_latch() -> None:
    bench = Bench(rule(trip=None, latch=False, act=Act((FAN,), (FAN,))))
    assert bench.see(90) == (Effect.RAISE, Effect.ACT)
    assert bench.see(70) == (Effect.UNACT, Effect.CLEAR)
    bench.instance = replace(bench.instance, mode=Mode.DRY_RUN)
    bench.state = rules.rearm(bench.instance, bench.state)
    assert bench.see(90) == (Effect.RAISE,)


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        (good(90.0), "pump-1/temperature is 90.0"),
        (good(81.0), "pump-1/temperature is 81.0"),
        (bad(20.0), "pump-1/temperature cannot be judged: it is bad (device_fault)"),
        (good(math.nan), "pump-1/temperature cannot be judged"),
    ],
)
def test_a_reset_is_refused_while_the_condition_is_not_clear(sample: Sample, said: str) -> None:
    bench = Bench(rule())
    bench.see(90)
    bench.see(70)
    bench.samples[T] = sample
    with pytest.raises(ResetRefused) as refused:
        bench.reset()
    assert said in str(refused.value)


def test_a_stale_input_refuses_the_reset() -> None:
    bench = Bench(rule(on_bad=OnBad.IGNORE), polled=False)
    bench.see(90)
    bench.see(70)
    bench.now += 3 * SECOND
    with pytest.raises(ResetRefused, match="stale"):
        bench.reset()


def test_after_a_reset_the_next_activation_trips_again() -> None:
    bench = Bench(rule())
    bench.see(90)
    bench.see(70)
    bench.reset()
    assert not bench.state.latched
    assert bench.see(90) == (Effect.TRIP, Effect.RAISE)


def test_a_machine_that_stands_can_be_reset_though_its_speed_is_below_the_limit() -> None:
    slow = Compare(T, Op.BELOW, limit=100)
    bench = Bench(rule(slow, enable=Enable(Compare(RUN, Op.EQUALS, value=True))))
    bench.see(True, RUN)
    bench.see(50)
    bench.see(False, RUN)
    bench.reset()
    assert not bench.state.latched


def test_a_restored_latch_trips_no_second_time() -> None:
    bench = Bench(rule())
    bench.state = rules.restore(bench.instance, latched=True)
    assert bench.see(90) == (Effect.RAISE,)


def test_nothing_new_is_the_same_object_and_no_effects() -> None:
    for condition in (HOT, Vote(1, (HOT,)), Compare(T, Op.DEVIATION, limit=50, reference=U)):
        bench = Bench(rule(condition, trip=STOP))
        bench.see(50, U)
        bench.see(70)
        before = bench.state
        assert bench.see(71) == ()
        assert bench.state is before
