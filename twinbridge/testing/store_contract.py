"""What every TwinStore must do: subclass `StoreContract` in a test module, say how to open one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import TypeAlias, TypeVar

from twinbridge.core.alarm import Alarm, TripState
from twinbridge.core.messages import Audit
from twinbridge.core.model import Quality, Reason, Sample
from twinbridge.core.rule import Severity
from twinbridge.ports import HistoryRow, StoredDesired, TwinStore

T = TypeVar("T")
Opener: TypeAlias = Callable[[], AbstractAsyncContextManager[TwinStore]]

WAIT_SECONDS = 30.0

DESIRED = StoredDesired("pump-1", "run", True, 3, "rest", "pending", "", 11, 12, 13)
LATCH = Alarm(
    id="a-1",
    rule="overheat",
    device="pump-1",
    severity=Severity.CRITICAL,
    message="temperature above 85",
    since=5,
    latched=True,
    trip=TripState.VERIFIED,
    inputs=(("pump-1/temperature", 91.5, "good"), ("pump-1/mode", None, "bad")),
    holds=(("pump-1", "run", False), ("pump-1", "speed", 0.0)),
)


def audit(subject: str, **detail: object) -> Audit:
    return Audit("desired", subject, "rest:anna", detail, 1_700_000_000_000_000_000, 42)


def good(value: bool | float | str, at: int) -> Sample:  # noqa: FBT001 - a value, not a switch
    return Sample(value, Quality.GOOD, Reason.NONE, at, at)


def bad(value: float | None, at: int) -> Sample:
    return Sample(value, Quality.BAD, Reason.COMM_LOST, at, at)


class StoreContract:
    """`opener()` gives a function that opens the same store each time it is called."""

    def opener(self) -> Opener:
        raise NotImplementedError

    def once(self, use: Callable[[TwinStore], Awaitable[T]]) -> T:
        """Open a store, use it, close it."""
        return self.runs(use)[0]

    def runs(self, *uses: Callable[[TwinStore], Awaitable[T]]) -> list[T]:
        """Several runs of the process, one after another, over the same store."""
        opened = self.opener()

        async def each() -> list[T]:
            results = []
            for use in uses:
                async with opened() as store:
                    results.append(await use(store))
            return results

        return asyncio.run(asyncio.wait_for(each(), WAIT_SECONDS))

    def test_a_new_store_is_empty_and_readable(self) -> None:
        state = self.once(lambda store: store.load())
        assert (list(state.desired), list(state.alarms)) == ([], [])
        assert (dict(state.modes), dict(state.reported)) == ({}, {})
        assert state.readable

    def test_desired_values_survive_a_restart(self) -> None:
        other = replace(DESIRED, property="speed", value=12.0, valid_until=None)
        _, state = self.runs(
            lambda store: store.save_desired(DESIRED, other), lambda store: store.load()
        )
        assert state is not None
        assert sorted(state.desired, key=lambda d: d.property) == [DESIRED, other]
        assert [type(d.value) for d in state.desired] == [bool, float]

    def test_the_last_desired_value_of_a_property_counts(self) -> None:
        newer = replace(DESIRED, value=False, version=4, state="applied")

        async def use(store: TwinStore) -> None:
            await store.save_desired(DESIRED)
            await store.save_desired(newer)

        _, state = self.runs(use, lambda store: store.load())
        assert state is not None
        assert list(state.desired) == [newer]

    def test_desired_values_of_one_device_are_forgotten_alone(self) -> None:
        other = replace(DESIRED, device="pump-2")

        async def use(store: TwinStore) -> None:
            await store.save_desired(DESIRED, other)
            await store.forget_desired("pump-1")

        _, state = self.runs(use, lambda store: store.load())
        assert state is not None
        assert list(state.desired) == [other]

    def test_a_latch_survives_with_what_it_saw_and_holds(self) -> None:
        _, state = self.runs(lambda store: store.save_alarm(LATCH), lambda store: store.load())
        assert state is not None
        assert list(state.alarms) == [LATCH]
        assert state.alarms[0].tripped

    def test_an_alarm_that_is_over_is_dropped_and_its_audit_stays(self) -> None:
        over = replace(LATCH, active=False, acked=True, latched=False)

        async def use(store: TwinStore) -> None:
            await store.save_alarm(LATCH)
            await store.save_alarm(over, audit("overheat/pump-1", reset=True))

        async def look(store: TwinStore) -> None:
            assert not (await store.load()).alarms
            assert list(await store.audit()) == [audit("overheat/pump-1", reset=True)]

        self.runs(use, look)

    def test_rule_modes_survive_a_restart(self) -> None:
        async def use(store: TwinStore) -> None:
            await store.save_mode("overheat", "Armed")
            await store.save_mode("overheat", "DryRun", audit("overheat", mode="DryRun"))

        _, state = self.runs(use, lambda store: store.load())
        assert state is not None
        assert dict(state.modes) == {"overheat": "DryRun"}

    def test_audit_gives_the_newest_first_and_by_subject(self) -> None:
        records = [audit(f"pump-{n % 2}", n=n, note="ä") for n in range(6)]

        async def use(store: TwinStore) -> None:
            await store.append_audit(*records[:4])
            await store.append_audit(*records[4:])
            assert list(await store.audit(limit=3)) == records[:2:-1]
            assert list(await store.audit(subject="pump-1")) == records[5::-2]

        self.once(use)

    def test_reported_values_survive_a_restart_property_by_property(self) -> None:
        async def first(store: TwinStore) -> None:
            await store.load()
            store.record_reported(
                "pump-1", [("run", good(True, 1)), ("temperature", good(20.0, 1))]
            )

        async def second(store: TwinStore) -> None:
            await store.load()
            store.record_reported("pump-1", [("temperature", bad(20.0, 2))])

        async def third(store: TwinStore) -> None:
            reported = (await store.load()).reported
            assert reported == {"pump-1": {"run": good(True, 1), "temperature": bad(20.0, 2)}}
            assert isinstance(reported["pump-1"]["temperature"], Sample)

        self.runs(first, second, third)

    def test_history_gives_what_was_recorded_between_start_and_end_in_order(self) -> None:
        async def use(store: TwinStore) -> None:
            for at in (3, 1, 2, 4):
                store.record_history("pump-1", [("t", good(at * 10, at)), ("other", good(0, at))])
            store.record_history("pump-2", [("t", good(99, 2))])
            rows = await store.history("pump-1", "t", 1, 4)
            assert [(row.timestamp, row.value) for row in rows] == [(1, 10), (2, 20), (3, 30)]
            assert len(await store.history("pump-1", "t", 0, 9, limit=2)) == 2
            assert not await store.history("pump-3", "t", 0, 9)

        self.once(use)

    def test_history_steps_have_minimum_average_maximum_of_what_is_not_bad(self) -> None:
        async def use(store: TwinStore) -> None:
            samples = [good(4.0, 100), good(2.0, 101), bad(1000.0, 109), good(7.0, 125)]
            store.record_history("pump-1", [("t", sample) for sample in samples])
            assert list(await store.history("pump-1", "t", 100, 200, step=10)) == [
                HistoryRow(100, 1000.0, "bad", 2.0, 3.0, 4.0, 3),
                HistoryRow(120, 7.0, "good", 7.0, 7.0, 7.0, 1),
            ]

        self.once(use)

    def test_history_of_strings_and_bools_keeps_the_last_value_of_a_step(self) -> None:
        async def use(store: TwinStore) -> None:
            store.record_history("pump-1", [("mode", good("auto", 1)), ("mode", good("hand", 2))])
            store.record_history("pump-1", [("run", good(False, 1)), ("run", good(True, 2))])
            mode = await store.history("pump-1", "mode", 0, 10, step=10)
            run = await store.history("pump-1", "run", 0, 10, step=10)
            assert list(mode) == [HistoryRow(0, "hand", "good", None, None, None, 2)]
            assert list(run) == [HistoryRow(0, True, "good", None, None, None, 2)]

        self.once(use)

    def test_history_survives_a_restart(self) -> None:
        async def use(store: TwinStore) -> None:
            store.record_history("pump-1", [("t", good(1.5, 7))])

        async def look(store: TwinStore) -> None:
            rows = await store.history("pump-1", "t", 0, 10)
            assert list(rows) == [HistoryRow(7, 1.5, "good", 1.5, 1.5, 1.5)]

        self.runs(use, look)

    def test_a_sound_store_has_no_trouble(self) -> None:
        async def use(store: TwinStore) -> str:
            await store.save_desired(DESIRED)
            return store.trouble

        assert not self.once(use)
