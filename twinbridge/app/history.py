"""What of the samples goes to history: deadband, shortest and longest interval, per property."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from twinbridge.app.clock import Clock
from twinbridge.core.model import DeviceSpec, ReportPolicy, Sample, Value

TICK = 0.25
"""Seconds between looks for what has waited its shortest interval or is due its longest."""

_EVERY_CHANGE = ReportPolicy()

Record: TypeAlias = Callable[[str, Sequence[tuple[str, Sample]]], None]
"""Takes samples of a device; never blocks and never raises."""


@dataclass(slots=True, eq=False)
class Recorded:
    """Where a property with a policy stands. `at` is monotonic ns."""

    policy: ReportPolicy
    last: Sample | None = None
    at: int = 0
    waiting: Sample | None = None

    def take(self, sample: Sample, now: int) -> bool:
        """Whether to record the sample now. One that comes too soon waits, the newest wins."""
        if not self._tells(sample):
            self.waiting = None
            return False
        if (
            self.last is not None
            and sample.quality is self.last.quality
            and now - self.at < self.policy.min_interval
        ):
            self.waiting = sample
            return False
        self._note(sample, now)
        return True

    def due(self, now: int, wall: int) -> Sample | None:
        """What has waited long enough, or is repeated because its longest interval is over."""
        since = now - self.at
        sample = None
        if self.waiting is not None and since >= self.policy.min_interval:
            sample = self.waiting
        elif self.last is not None and 0 < self.policy.max_interval <= since:
            sample = self.last._replace(source_time=wall)
        if sample is not None:
            self._note(sample, now)
        return sample

    def _note(self, sample: Sample, now: int) -> None:
        self.last, self.at, self.waiting = sample, now, None

    def _tells(self, sample: Sample) -> bool:
        last = self.last
        if last is None or sample.quality is not last.quality or sample.reason != last.reason:
            return True
        return _apart(sample.value, last.value, self.policy.deadband)


def _apart(new: Value | None, old: Value | None, deadband: float) -> bool:
    if isinstance(new, int | float) and isinstance(old, int | float):
        return abs(new - old) >= deadband if deadband else new != old
    return new != old


class HistoryRecorder:
    def __init__(self, record: Record, clock: Clock) -> None:
        self._record = record
        self._clock = clock
        self._watched: dict[str, dict[str, Recorded]] = {}
        """Only properties that have a policy; the others record every change."""

    def set_devices(self, specs: Iterable[DeviceSpec]) -> None:
        old = self._watched
        self._watched = {
            spec.name: {
                p.spec.name: _kept(old.get(spec.name, {}).get(p.spec.name), p.spec.report)
                for p in spec.points
                if p.spec.report != _EVERY_CHANGE
            }
            for spec in specs
        }

    def take(self, device: str, samples: Sequence[tuple[str, Sample]]) -> None:
        watched = self._watched.get(device)
        if watched:
            now = self._clock.mono()
            samples = [
                (name, sample)
                for name, sample in samples
                if name not in watched or watched[name].take(sample, now)
            ]
        if samples:
            self._record(device, samples)

    async def run(self) -> None:
        """Record what has waited, and what is repeated."""
        while True:
            await asyncio.sleep(TICK)
            self.flush()

    def flush(self) -> None:
        now, wall = self._clock.mono(), self._clock.wall()
        for device, watched in self._watched.items():
            found = [(n, s) for n, r in watched.items() if (s := r.due(now, wall)) is not None]
            if found:
                self._record(device, found)


def _kept(old: Recorded | None, policy: ReportPolicy) -> Recorded:
    return old if old is not None and old.policy == policy else Recorded(policy)
