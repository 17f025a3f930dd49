"""Which status is written when, and in which order."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from twinbridge.app.clock import SystemClock
from twinbridge.app.sync import writer
from twinbridge.app.sync.writer import AT_ONCE, Status, StatusWriter
from twinbridge.errors import HubRefused, HubUnavailable
from twinbridge.ports import Ref


def pump(number: int) -> Ref:
    return Ref("Device", f"pump-{number}")


class Hub:
    """Notes what it is told; `answers` says what becomes of it."""

    def __init__(self) -> None:
        self.told: list[Ref] = []
        self.values: dict[Ref, object] = {}
        self.in_flight = self.most = 0
        self.traffic = 0
        self.each = 0
        """Bytes of a write and its echo."""
        self.answers = asyncio.Event()
        self.answers.set()
        self.failures: list[Exception] = []

    async def apply_status(self, ref: Ref, uid: str, status: Any) -> None:
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            await self.answers.wait()
        finally:
            self.in_flight -= 1
        self.told.append(ref)
        self.traffic += self.each
        self.values[ref] = status["value"]
        if self.failures:
            raise self.failures.pop()


class Stage:
    def __init__(self, interval: float, per_second: float) -> None:
        self.hub = Hub()
        self.now: dict[Ref, object] = {}
        gate = asyncio.Event()
        gate.set()
        self.writer = StatusWriter(
            self.status, SystemClock(), gate, interval=interval, per_second=per_second
        )

    def status(self, ref: Ref) -> Status:
        value = self.now.get(ref, 0)
        return Status("uid", {"value": value}, value)

    def change(self, ref: Ref, value: object, *, urgent: bool = False) -> None:
        self.now[ref] = value
        self.writer.touch([ref], urgent=urgent)


@asynccontextmanager
async def stage(interval: float = 0.05, per_second: float = 500.0) -> AsyncIterator[Stage]:
    made = Stage(interval, per_second)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(made.writer.run(made.hub))  # type: ignore[arg-type]  # all it asks
        try:
            yield made
        finally:
            running.cancel()


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - the writer changes it
            await asyncio.sleep(0.001)


def test_only_so_many_writes_are_in_flight_at_a_slow_hub() -> None:
    async def story() -> None:
        async with stage() as here:
            here.hub.answers.clear()
            here.writer.touch([pump(n) for n in range(50)], urgent=True)
            await until(lambda: here.hub.in_flight == AT_ONCE)
            here.hub.answers.set()
            await until(lambda: len(here.hub.told) == 50)
            assert here.hub.most == AT_ONCE

    asyncio.run(story())


def test_what_matters_goes_before_all_that_merely_moved() -> None:
    async def story() -> None:
        async with stage() as here:
            here.hub.answers.clear()
            here.writer.touch([pump(n) for n in range(50)])
            await until(lambda: here.hub.in_flight == AT_ONCE)
            here.writer.touch([pump(40)], urgent=True)
            here.hub.answers.set()
            await until(lambda: len(here.hub.told) == 50)
            assert here.hub.told.index(pump(40)) < 2 * AT_ONCE

    asyncio.run(story())


def test_what_is_urgent_finds_some_of_the_cap_left(monkeypatch: Any) -> None:
    """However much moves: a trip does not wait for its turn."""
    monkeypatch.setattr(writer, "SAVED", 2.0)

    async def story() -> None:
        async with stage(interval=0.0, per_second=5.0) as here:
            everybody = [pump(n) for n in range(50)]
            here.writer.touch(everybody)
            await until(lambda: len(here.hub.told) == 5)  # of the 10 that were saved
            here.writer.touch(reversed(everybody), urgent=True)
            await until(lambda: len(here.hub.told) >= 10)
            assert set(here.hub.told[5:10]) == {pump(n) for n in range(45, 50)}

    asyncio.run(story())


def test_under_the_cap_everybody_has_a_turn_and_the_cycle_says_how_long_it_takes(
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr(writer, "SAVED", 0.0)
    monkeypatch.setattr(writer, "RESERVE", 0.0)

    async def story() -> None:
        async with stage(interval=0.01, per_second=200.0) as here:
            assert here.writer.cycle == 0.01
            turns = Counter[Ref]()
            while sum(turns.values()) < 60:
                for number in range(20):
                    here.change(pump(number), object())
                await asyncio.sleep(0.002)
                turns = Counter(here.hub.told)
            assert len(turns) == 20
            assert max(turns.values()) - min(turns.values()) <= 1
            assert here.writer.cycle > 0.02

    asyncio.run(story())


def test_a_status_that_the_hub_has_is_not_written_and_costs_nothing_of_the_cap(
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr(writer, "SAVED", 0.0)

    async def story() -> None:
        async with stage(interval=0.0, per_second=20.0) as here:
            here.change(pump(1), 1, urgent=True)
            await until(lambda: here.hub.told)
            for _ in range(1000):
                here.writer.touch([pump(1)], urgent=True)
                await asyncio.sleep(0)
            here.change(pump(1), 2, urgent=True)
            await until(lambda: len(here.hub.told) == 2)
            assert here.hub.values[pump(1)] == 2

    asyncio.run(story())


def test_what_changes_while_it_is_written_is_written_again() -> None:
    async def story() -> None:
        async with stage() as here:
            here.hub.answers.clear()
            here.change(pump(1), 1)
            await until(lambda: here.hub.in_flight)
            here.change(pump(1), 2)
            here.hub.answers.set()
            await until(lambda: here.hub.values.get(pump(1)) == 2)
            assert len(here.hub.told) == 2

    asyncio.run(story())


def test_a_write_whose_answer_was_lost_counts_as_neither_there_nor_not(monkeypatch: Any) -> None:
    """The value is back where it was before: the hub may show the other one."""
    monkeypatch.setattr(writer, "Backoff", lambda *_: Backoff())

    async def story() -> None:
        async with stage() as here:
            here.change(pump(1), 1)
            await until(lambda: here.hub.values.get(pump(1)) == 1)
            here.hub.answers.clear()
            here.hub.failures.append(HubUnavailable("no answer"))
            here.change(pump(1), 2)
            await until(lambda: here.hub.in_flight)
            here.change(pump(1), 1)
            here.hub.answers.set()
            await until(lambda: here.hub.values[pump(1)] == 1 and len(here.hub.told) == 3)

    asyncio.run(story())


class Backoff:
    def reset(self) -> None: ...

    def next(self) -> float:
        return 0.01


def test_a_status_that_the_hub_refuses_is_not_sent_again_at_once() -> None:
    async def story() -> None:
        async with stage(interval=0.0) as here:
            here.hub.failures.append(HubRefused("no"))
            here.change(pump(1), 1)
            await until(lambda: here.hub.told)
            here.change(pump(1), 2)
            here.change(pump(2), 1)
            await until(lambda: len(here.hub.told) == 2)
            assert here.hub.told == [pump(1), pump(2)]

    asyncio.run(story())


def test_what_merely_moves_waits_for_its_bytes_and_what_matters_does_not() -> None:
    async def story() -> None:
        async with stage(interval=0.0) as here:
            here.writer.bytes_per_second = 10_000.0
            here.hub.each = 10**7
            here.writer.touch([pump(n) for n in range(50)])
            await until(lambda: here.hub.told)
            here.writer.touch([pump(n) for n in range(40, 50)], urgent=True)
            await until(lambda: set(here.hub.told) >= {pump(n) for n in range(40, 50)})
            assert len(here.hub.told) <= AT_ONCE + 10

    asyncio.run(story())


def test_a_debt_of_bytes_is_forgiven_in_time(monkeypatch: Any) -> None:
    monkeypatch.setattr(writer, "DEBT", 0.2)

    async def story() -> None:
        async with stage(interval=0.0) as here:
            here.hub.each = 10**9
            here.writer.touch([pump(n) for n in range(30)])
            await until(lambda: len(here.hub.told) == 30)

    asyncio.run(story())
