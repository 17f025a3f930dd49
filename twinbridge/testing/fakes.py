"""Ports filled in memory, held to the same contract suites as the real ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from typing_extensions import override

from twinbridge.core.alarm import Alarm
from twinbridge.core.messages import Audit
from twinbridge.core.model import Quality, Sample
from twinbridge.errors import StoreUnavailable
from twinbridge.ports import HistoryRow, StoredDesired, StoredState, TwinStore

_BADNESS = tuple(Quality)


@dataclass
class FakeDisk:
    """What a FakeStore leaves behind. A `fault` ('disk full') makes every writer fail."""

    desired: dict[tuple[str, str], StoredDesired] = field(default_factory=dict)
    alarms: dict[str, Alarm] = field(default_factory=dict)
    modes: dict[str, str] = field(default_factory=dict)
    reported: dict[str, dict[str, Sample]] = field(default_factory=dict)
    audit: list[Audit] = field(default_factory=list)
    history: list[tuple[str, str, Sample]] = field(default_factory=list)
    readable: bool = True
    fault: str = ""


class FakeStore(TwinStore):
    """A TwinStore whose restarts share a FakeDisk."""

    def __init__(self, disk: FakeDisk | None = None) -> None:
        self.disk = disk or FakeDisk()

    @property
    @override
    def trouble(self) -> str:
        return self.disk.fault

    @override
    async def load(self) -> StoredState:
        return StoredState(
            desired=list(self.disk.desired.values()),
            alarms=list(self.disk.alarms.values()),
            modes=dict(self.disk.modes),
            reported={device: dict(samples) for device, samples in self.disk.reported.items()},
            readable=self.disk.readable,
        )

    @override
    async def save_desired(self, *entries: StoredDesired, audit: Iterable[Audit] = ()) -> None:
        await self.append_audit(*audit)
        self.disk.desired.update({(entry.device, entry.property): entry for entry in entries})

    @override
    async def forget_desired(self, device: str) -> None:
        self._check()
        for key in [key for key in self.disk.desired if key[0] == device]:
            del self.disk.desired[key]

    @override
    async def save_alarm(self, alarm: Alarm, *audit: Audit) -> None:
        await self.append_audit(*audit)
        if alarm.over:
            self.disk.alarms.pop(alarm.id, None)
        else:
            self.disk.alarms[alarm.id] = alarm

    @override
    async def save_mode(self, rule: str, mode: str, *audit: Audit) -> None:
        await self.append_audit(*audit)
        self.disk.modes[rule] = mode

    @override
    async def append_audit(self, *audit: Audit) -> None:
        self._check()
        self.disk.audit.extend(audit)

    @override
    async def audit(self, *, limit: int = 100, subject: str = "") -> Sequence[Audit]:
        found = [one for one in reversed(self.disk.audit) if subject in ("", one.subject)]
        return found[:limit]

    @override
    def record_reported(self, device: str, samples: Sequence[tuple[str, Sample]]) -> None:
        self.disk.reported.setdefault(device, {}).update(samples)

    @override
    def record_history(self, device: str, samples: Sequence[tuple[str, Sample]]) -> None:
        self.disk.history.extend((device, name, sample) for name, sample in samples)

    @override
    async def history(
        self, device: str, name: str, start: int, end: int, step: int = 0, limit: int = 10_000
    ) -> Sequence[HistoryRow]:
        found = sorted(
            (s for d, n, s in self.disk.history if (d, n) == (device, name)
             and start <= s.source_time < end),
            key=lambda sample: sample.source_time,
        )  # fmt: skip
        if step <= 0:
            return [_row(sample.source_time, [sample], bad_too=True) for sample in found[:limit]]
        begins = dict.fromkeys(start + (s.source_time - start) // step * step for s in found)
        return [
            _row(begin, [s for s in found if begin <= s.source_time < begin + step])
            for begin in begins
        ][:limit]

    def _check(self) -> None:
        if self.disk.fault:
            raise StoreUnavailable(self.disk.fault)


def _row(timestamp: int, samples: Sequence[Sample], *, bad_too: bool = False) -> HistoryRow:
    numbers = [
        float(sample.value)
        for sample in samples
        if isinstance(sample.value, int | float)
        and not isinstance(sample.value, bool)
        and (bad_too or sample.quality is not Quality.BAD)
    ]
    return HistoryRow(
        timestamp,
        samples[-1].value,
        max((sample.quality for sample in samples), key=_BADNESS.index),
        min(numbers, default=None),
        sum(numbers) / len(numbers) if numbers else None,
        max(numbers, default=None),
        len(samples),
    )
