"""Steps of the wall clock are noted; drift and slow looks are not."""

from __future__ import annotations

import asyncio

from twinbridge.app.clock_watch import ClockWatch
from twinbridge.core.model import SECOND
from twinbridge.testing.fakes import FakeStore


class Clock:
    def __init__(self) -> None:
        self.offset = 1_700_000_000 * SECOND
        self.now = 5 * SECOND

    def wall(self) -> int:
        return self.offset + self.now

    def mono(self) -> int:
        return self.now


def noted(*steps: tuple[float, float, bool]) -> list[tuple[str, object]]:
    """Of looks, each after so many seconds and a step of so many, with `synced` as given."""
    store, clock, synced = FakeStore(), Clock(), [True]

    async def scenario() -> None:
        watch = ClockWatch(clock, store, "edge-1", lambda: synced[0])
        for passed, step, state in steps:
            clock.now += int(passed * SECOND)
            clock.offset += int(step * SECOND)
            synced[0] = state
            await watch.look()

    asyncio.run(scenario())
    return [(one.kind, one.detail["message"]) for one in store.disk.audit]


def test_a_step_either_way_is_noted_once() -> None:
    assert noted((1, 86_400, True), (1, 0, True), (1, -3600.5, True)) == [
        ("clock.step", "wall clock set by +86400.0 s"),
        ("clock.step", "wall clock set by -3600.5 s"),
    ]


def test_drift_and_a_look_that_comes_late_are_no_step() -> None:
    assert noted((1, 0.02, True), (900, 0.3, True), (1, -0.9, True)) == []


def test_a_clock_that_is_no_longer_kept_right_is_noted() -> None:
    assert noted((1, 0, False), (1, 0, False), (1, 0, True)) == [
        ("clock.synced", "wall clock is no longer kept right"),
        ("clock.synced", "wall clock is kept right"),
    ]
