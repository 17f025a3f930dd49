"""What a value without physics does over time."""

from __future__ import annotations

import math
from enum import StrEnum
from random import Random


class Waveform(StrEnum):
    SINE = "sine"
    RAMP = "ramp"
    SQUARE = "square"
    RANDOM_WALK = "random-walk"
    HOLD = "hold"


def phase_value(waveform: Waveform, phase: float) -> float:
    """Where the wave is, 0 to 1, at `phase` periods since the start; HOLD stays at the middle."""
    match waveform:
        case Waveform.SINE:
            return 0.5 + 0.5 * math.sin(2 * math.pi * phase)
        case Waveform.RAMP:
            return phase % 1.0
        case Waveform.SQUARE:
            return float(phase % 1.0 >= 0.5)  # noqa: PLR2004 - half a period
        case _:
            return 0.5


def walk(now: float, dt: float, period: float, random: Random) -> float:
    """A random walk within 0 to 1, which needs about `period` seconds to cross it."""
    step = random.gauss(0.0, math.sqrt(dt / period))
    return min(1.0, max(0.0, now + step))
