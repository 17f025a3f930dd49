"""How much may be asked in a time."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic


class Allowance:
    """`rate` a second, and `burst` at once after a pause. `clock` gives s.

    What costs more than is left is done, and leaves a debt: nothing more until it is made good.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._left = burst
        self._at = clock()

    def take(self, cost: float = 1) -> bool:
        """Whether it may be done; then its cost is taken."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= cost
        return True

    def charge(self, cost: float) -> None:
        """For what turned out to cost more."""
        self._left -= cost
