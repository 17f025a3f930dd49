"""What a twin may become: reported by reading only, desired along its life cycle."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinbridge.core.model import (
    NOT_READ,
    Access,
    PropertySpec,
    Quality,
    Reason,
    Sample,
    Value,
    ValueType,
)
from twinbridge.core.twin import check_desired, expired, late, lose, report, satisfied
from twinbridge.errors import InvalidDesired

SPEED = PropertySpec(
    "speed", ValueType.FLOAT, Access.READ_WRITE, unit="Hz", minimum=0, maximum=50, tolerance=0.1
)
GOOD = Quality.GOOD, Reason.NONE


def test_a_reading_becomes_a_sample_and_an_equal_one_changes_nothing() -> None:
    first = report(NOT_READ, SPEED, 20, *GOOD, 100, 1)
    assert first == Sample(20.0, *GOOD, 100, 1)
    assert first is not None
    assert report(first, SPEED, 20.0, *GOOD, 200, 2) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_bad_and_keeps_the_last_good_value_and_time(value: float) -> None:
    before = Sample(20.0, *GOOD, 100, 1)
    assert report(before, SPEED, value, *GOOD, 200, 2) == Sample(
        20.0, Quality.BAD, Reason.OUT_OF_RANGE, 100, 2, f"the device gives {value}"
    )


def test_a_lost_property_keeps_value_and_time_and_recovers_with_the_same_value() -> None:
    lost = lose(Sample(20.0, *GOOD, 100, 1), Reason.COMM_LOST, 2)
    assert lost == Sample(20.0, Quality.BAD, Reason.COMM_LOST, 100, 2)
    assert report(lost, SPEED, 20.0, *GOOD, 300, 3) == Sample(20.0, *GOOD, 300, 3)
    assert report(lost, SPEED, None, Quality.BAD, Reason.COMM_LOST, 300, 3) is None


def test_a_reading_beyond_the_range_for_writes_stands_as_read() -> None:
    sample = report(NOT_READ, SPEED, 70.0, *GOOD, 100, 1)
    assert sample is not None
    assert sample.good


def test_a_clock_set_back_does_not_hide_newer_readings() -> None:
    before = Sample(20.0, *GOOD, 10**18, 1)
    assert report(before, SPEED, 30.0, *GOOD, 5, 2) == Sample(30.0, *GOOD, 5, 2)


@given(st.permutations(range(1, 9)))
def test_late_arrivals_never_overwrite_newer_samples(order: list[int]) -> None:
    sample = NOT_READ
    for seq, at in enumerate(order):
        if not late(sample, at, None):
            sample = report(sample, SPEED, at * 1.5, *GOOD, at, seq) or sample
    assert sample.value == 12.0
    assert sample.source_time == 8


@pytest.mark.parametrize(
    ("behind", "horizon", "quality", "expected"),
    [
        (1, None, Quality.GOOD, True),
        (1, None, Quality.BAD, True),
        (0, None, Quality.GOOD, False),
        (-1, None, Quality.GOOD, False),
        (10, 10, Quality.GOOD, True),
        (11, 10, Quality.GOOD, False),
        (1, 10, Quality.BAD, False),
        (0, 10, Quality.GOOD, False),
    ],
)
def test_an_older_reading_is_late_unless_the_devices_clock_was_set_back(
    behind: int, horizon: int | None, quality: Quality, *, expected: bool
) -> None:
    last = Sample(20.0, quality, Reason.NONE, 1000, 1)
    assert late(last, 1000 - behind, horizon) is expected


def test_nothing_is_late_before_the_first_value() -> None:
    assert not late(NOT_READ, -5, None)


def test_another_explanation_of_a_bad_value_is_news() -> None:
    fault = (None, Quality.BAD, Reason.DEVICE_FAULT)
    first = report(NOT_READ, SPEED, *fault, 1, 1, "no such node")
    assert first is not None
    assert report(first, SPEED, *fault, 2, 2, "no such node") is None
    assert report(first, SPEED, *fault, 2, 2, "access denied") == first._replace(
        seq=2, detail="access denied"
    )


@pytest.mark.parametrize(
    ("kind", "given_value", "kept"),
    [
        (ValueType.FLOAT, 20, 20.0),
        (ValueType.FLOAT, 50.0, 50.0),
        (ValueType.INT, 0, 0),
        (ValueType.BOOL, True, True),
        (ValueType.STRING, "auto", "auto"),
    ],
)
def test_a_fitting_value_is_taken_as_its_own_type(
    kind: ValueType, given_value: Value, kept: Value
) -> None:
    spec = PropertySpec("p", kind, Access.READ_WRITE, minimum=0, maximum=50)
    taken = check_desired(spec, given_value)
    assert (taken, type(taken)) == (kept, type(kept))


@pytest.mark.parametrize(
    ("kind", "value", "allowed"),
    [
        (ValueType.FLOAT, 50.1, "0 to 50 Hz"),
        (ValueType.INT, -1, "0 to 50 Hz"),
        (ValueType.FLOAT, math.nan, "a number"),
        (ValueType.FLOAT, 10**400, "a number that fits a float64"),
        (ValueType.FLOAT, True, "a number"),
        (ValueType.INT, 1.0, "a whole number"),
        (ValueType.INT, True, "a whole number"),
        (ValueType.BOOL, 1, "true or false"),
        (ValueType.STRING, 1, "a text"),
    ],
)
def test_an_unfit_value_is_refused_and_the_error_says_what_fits(
    kind: ValueType, value: Value, allowed: str
) -> None:
    spec = PropertySpec("speed", kind, Access.READ_WRITE, unit="Hz", minimum=0, maximum=50)
    with pytest.raises(InvalidDesired) as refused:
        check_desired(spec, value)
    assert (refused.value.field, refused.value.allowed) == ("speed", allowed)


def test_a_read_only_property_takes_no_desired_value() -> None:
    with pytest.raises(InvalidDesired, match="read-only"):
        check_desired(PropertySpec("t", ValueType.FLOAT), 1.0)


@given(
    st.integers(0, 10**18),
    st.integers(1, 10**12),
    st.integers(1, 10**15),
    st.integers(0, 2 * 10**12),
)
def test_within_one_boot_only_the_monotonic_age_counts(
    accepted: int, valid_for: int, mono: int, age: int
) -> None:
    for wall in (0, accepted, accepted + 10**15):
        late = expired(accepted, accepted + valid_for, mono, wall, mono + age)
        assert late is (age >= valid_for)


@pytest.mark.parametrize(
    ("wall", "late"), [(999, True), (1000, False), (1099, False), (1100, True)]
)
def test_across_a_restart_doubt_counts_against_the_value(wall: int, late: bool) -> None:  # noqa: FBT001 - the test's case
    assert expired(1000, 1100, 0, wall, 5) is late
    assert not expired(1000, None, 0, wall, 5)


def test_only_a_good_reading_within_tolerance_satisfies() -> None:
    assert satisfied(SPEED, 20.0, Sample(20.1 - 1e-9, *GOOD, 0, 1))
    assert not satisfied(SPEED, 20.0, Sample(20.2, *GOOD, 0, 1))
    assert not satisfied(SPEED, 20.0, Sample(20.0, Quality.BAD, Reason.COMM_LOST, 0, 1))
