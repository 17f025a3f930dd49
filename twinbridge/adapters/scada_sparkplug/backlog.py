"""What could not be sent when it came: kept within a bound, the oldest go first."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, TypeAlias

from twinbridge.adapters.scada_sparkplug.metrics import LOST
from twinbridge.core.model import Sample

Kept: TypeAlias = tuple[str, Sequence[tuple[str, Sample]]]
"""A device, and samples of it in their order."""


DOUBT: Final = 10.0
"""Seconds: what was said so shortly before a session ended may have come to nobody. Two
keep-alives, since a broker that falls silent is given up after one and a half."""


class Backlog:
    """At most `most` samples. Those of a device that is away are set aside until its birth."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[Kept] = deque()
        self._aside: dict[str, deque[Kept]] = {}
        self._size = 0
        self._sent: deque[tuple[float, Kept]] = deque()
        """What was said in the last seconds, with its monotonic time."""
        self._sent_size = 0
        self.lost = 0
        """Samples let go since the start."""

    def __len__(self) -> int:
        """Samples."""
        return self._size

    @property
    def waits(self) -> bool:
        """Whether there is something that is not set aside."""
        return bool(self._waiting)

    def put(self, device: str, samples: Sequence[tuple[str, Sample]]) -> None:
        self._waiting.append((device, samples))
        self._size += len(samples)
        while self._size > self._most:
            self._drop_oldest()

    def take(self) -> Kept:
        """The oldest that is not set aside. Raises IndexError when there is none."""
        kept = self._waiting.popleft()
        self._size -= len(kept[1])
        return kept

    def set_aside(self, kept: Kept) -> None:
        """Until `back`."""
        self._aside.setdefault(kept[0], deque()).append(kept)
        self._size += len(kept[1])

    def back(self, device: str) -> None:
        """The device is born: what was set aside of it is older than all that waits."""
        self._waiting.extendleft(reversed(self._aside.pop(device, ())))

    def forget(self, device: str) -> None:
        """The device is gone."""
        for kept in self._aside.pop(device, ()):
            self._size -= len(kept[1])
            self.lose(len(kept[1]))

    def lose(self, samples: int) -> None:
        """Count samples that are not sent."""
        self.lost += samples
        LOST.inc(samples)

    def sent(self, said: Kept, now: float) -> None:
        """Samples were said. `now`: monotonic, s."""
        self._sent.append((now, said))
        self._sent_size += len(said[1])
        self._forget_sent(now)

    def doubt(self, now: float) -> None:
        """The session ended: what was said last is to be said again."""
        self._forget_sent(now)
        for _, said in self._sent:
            self.put(*said)
        self._sent.clear()
        self._sent_size = 0

    def _forget_sent(self, now: float) -> None:
        while self._sent and (self._sent[0][0] < now - DOUBT or self._sent_size > self._most):
            _, (_, samples) = self._sent.popleft()
            self._sent_size -= len(samples)

    def _drop_oldest(self) -> None:
        if self._aside:
            device, queue = next(iter(self._aside.items()))
            dropped = queue.popleft()
            if not queue:
                del self._aside[device]
        else:
            dropped = self._waiting.popleft()
        self._size -= len(dropped[1])
        self.lose(len(dropped[1]))
