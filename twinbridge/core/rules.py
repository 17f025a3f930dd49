"""How a rule is evaluated: a fold over samples, with `now` passed in.

evaluate(instance, state, inputs, now) -> (state, effects)
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from twinbridge.core.model import PropertyRef, Sample


class Input(NamedTuple):
    """An input as it stands: its last sample and the monotonic time it was last seen good."""

    sample: Sample
    last_good: int


class Effect(StrEnum):
    """What the shell must do, in the order given."""

    RAISE = "raise"            # the alarm becomes active
    CLEAR = "clear"            # the alarm's condition has cleared
    TRIP = "trip"              # write the stop (Armed) ...
    WOULD_TRIP = "would_trip"  # ... or say so (DryRun)
    ACT = "act"                # write act.writes
    UNACT = "unact"            # write act.on_clear
    BAD = "bad"                # inputs became bad or stale and on_bad is Alarm
    BAD_CLEAR = "bad_clear"    # and they are good again


Inputs = dict[PropertyRef, Input]
