"""A device that tells far more than planned: rules see all of it, others the latest of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from twinbridge.app.metrics import SAMPLES_COALESCED
from twinbridge.core.model import MILLISECOND, Point, Sample

Named = tuple[str, Sample]

WINDOW = 250 * MILLISECOND
TOLERATED = 10
"""A device may tell so many times what its intervals make one expect."""


class StormGate:
    """Lets a device's samples through up to its budget per window of 250 ms.

    Beyond that the latest sample of each property waits for the end of the window; what it
    replaces is counted. Monotonic ns.
    """

    __slots__ = ("_budget", "_left", "_until", "held")

    def __init__(self, points: Iterable[Point]) -> None:
        """`points` are those that the device tells by itself."""
        planned = sum(max(1, WINDOW // max(1, p.interval)) for p in points)
        self._budget = TOLERATED * planned
        self._left = 0
        self._until = 0
        self.held: dict[str, Sample] = {}

    def admit(self, changed: Sequence[Named], now: int) -> Sequence[Named]:
        """What may be told now; the rest is held until `release`."""
        if now >= self._until:
            changed = [*self.release(), *changed] if self.held else changed
            self._until = now + WINDOW
            self._left = self._budget
        if not self.held and len(changed) <= self._left:
            self._left -= len(changed)
            return changed
        self._left = 0
        for name, sample in changed:
            if name in self.held:
                # Told in the order of their numbers: the newest goes to the end.
                del self.held[name]
                SAMPLES_COALESCED.inc()
            self.held[name] = sample
        return ()

    def release(self) -> list[Named]:
        """What was held, in order of its numbers."""
        held = list(self.held.items())
        self.held.clear()
        return held

    def release_in(self, now: int) -> int:
        """How long until the window ends, ns."""
        return max(0, self._until - now)
