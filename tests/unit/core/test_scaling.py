"""What is written is what is read back, and arithmetic on paper is arithmetic here."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinbridge.core.scaling import exact, nearest, scaled, unscaled

SCALES = st.sampled_from([0.001, 0.01, 0.1, 0.25, 1.0, 10.0, -0.1, 3.0, 0.0254])
OFFSETS = st.sampled_from([0.0, -40.0, 273.15, -273.15, 0.5])


@pytest.mark.parametrize(
    ("raw", "scale", "offset", "value"),
    [
        (32767, 0.1, 0.0, 3276.7),
        (2765, 0.1, -273.15, 3.35),
        (3, 0.1, 0.0, 0.3),
        (7, None, 0.5, 7.5),
        (2**63, 0.001, 0.0, 9223372036854775.808),
    ],
)
def test_a_raw_number_becomes_what_paper_says(
    raw: float, scale: float | None, offset: float, value: float
) -> None:
    assert scaled(scale, offset)(raw) == value


@given(st.integers(-(2**63), 2**64), SCALES, OFFSETS)
def test_a_whole_number_is_found_again(raw: int, scale: float, offset: float) -> None:
    value = scaled(scale, offset)(raw)
    on_paper = Decimal(raw) * Decimal(repr(scale)) + Decimal(repr(offset))
    assert value == pytest.approx(float(on_paper), rel=1e-15, abs=0)
    if abs(raw) < 2**40:
        assert nearest(unscaled(value, scale, offset)) == raw


@given(st.floats(allow_nan=False, allow_infinity=False), SCALES, OFFSETS)
def test_a_double_is_scaled_with_one_rounding(raw: float, scale: float, offset: float) -> None:
    found = scaled(scale, offset)(raw)
    right = Fraction(raw) * exact(scale) + exact(offset)
    assert math.isinf(found) or abs(Fraction(found) - right) <= Fraction(math.ulp(found))


def test_what_is_no_number_stays_none() -> None:
    assert math.isnan(scaled(0.1, 0.0)(math.nan))
    assert not math.isfinite(scaled(0.1, 0.0)(math.inf))
    assert math.isinf(scaled(10.0, 0.0)(10**400))


@pytest.mark.parametrize(("number", "whole"), [("1.5", 2), ("-1.5", -2), ("1.49", 1), ("0", 0)])
def test_a_half_goes_away_from_zero(number: str, whole: int) -> None:
    assert nearest(Fraction(number)) == whole
