"""Scale and offset as a person wrote them: 0.1 is one tenth, not the double nearest to it.

Without this a value that was written would not be read back as it was: 32767 * 0.1 is not 3276.7.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction


def exact(number: float) -> Fraction:
    """The decimal number that this double is written as."""
    return Fraction(repr(number))


def scaled(scale: float | None, offset: float) -> Callable[[float], float]:
    """Raw → raw * scale + offset, rounded once; a number that no double holds is infinite."""
    ratio, shift = exact(1.0 if scale is None else scale), exact(offset)
    whole = math.lcm(ratio.denominator, shift.denominator)
    factor, addend = int(ratio * whole), int(shift * whole)

    def value(raw: float) -> float:
        try:
            if type(raw) is int:
                return (raw * factor + addend) / whole  # whole numbers are divided exactly
            return float(Fraction(raw) * ratio + shift)
        except OverflowError:
            return math.inf
        except ValueError:
            return math.nan

    return value


def unscaled(value: float, scale: float | None, offset: float) -> Fraction:
    """The raw number that a finite value is made of, exactly."""
    return (exact(value) - exact(offset)) / exact(1.0 if scale is None else scale)


def nearest(number: Fraction) -> int:
    """Rounded to the nearest whole number, a half away from zero."""
    whole = math.floor(abs(number) + Fraction(1, 2))
    return whole if number >= 0 else -whole
