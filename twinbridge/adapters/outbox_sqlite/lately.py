"""What a sink had last, and what went without its having it."""

from __future__ import annotations

import time
from collections import deque
from typing import NamedTuple

from twinbridge.adapters.outbox_sqlite.metrics import DROPPED
from twinbridge.adapters.outbox_sqlite.told import Range


class Loss(NamedTuple):
    """Samples that went, and when the last of them did, UTC ns; 0 for never."""

    samples: int = 0
    at: int = 0

    def and_of(self, samples: int) -> Loss:
        """These went now."""
        DROPPED.inc(samples)
        return Loss(self.samples + samples, time.time_ns()) if samples else self


class Lately:
    """What a sink acknowledged within the last `seconds` before its newest acknowledgement.

    Through a break nothing is acknowledged: what came right before it stays here.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._spans: deque[tuple[float, Range]] = deque()

    @property
    def spans(self) -> list[Range]:
        return [span for _, span in self._spans]

    def note(self, span: Range, at: float) -> None:
        """At `at` seconds, monotonic."""
        if not self._seconds:
            return
        self._spans.append((at, span))
        while self._spans[0][0] < at - self._seconds:
            self._spans.popleft()

    def clear(self) -> None:
        self._spans.clear()
