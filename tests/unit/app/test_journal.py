"""The journal's order: what is on disk is the newest state, whoever wrote it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from bus_rig import running

from twinbridge.adapters.bus_memory import MemoryBus
from twinbridge.adapters.store_sqlite import SqliteStore, open_store
from twinbridge.app.clock import SystemClock
from twinbridge.app.journal import Journal
from twinbridge.core.alarm import Alarm, TripState
from twinbridge.core.rule import Severity
from twinbridge.errors import StoreUnavailable

STANDING = Alarm(
    "a-1", "hot", "pump-1", Severity.CRITICAL, "hot", 1, latched=True, trip=TripState.VERIFIED
)
RESET = replace(STANDING, active=False, acked=True, latched=False)


def journal_of(store: SqliteStore) -> Journal:
    return Journal(store, MemoryBus(), SystemClock())


def test_a_state_that_waits_for_the_disk_does_not_come_after_the_reset(tmp_path: Path) -> None:
    async def body() -> None:
        async with open_store(tmp_path) as store:
            journal = journal_of(store)
            async with running(journal.run()):
                await asyncio.sleep(0)  # the journal waits for its bell
                journal.save(replace(STANDING, active=False))
                await journal.save_now(RESET)
                await journal.drain()
            assert not (await store.load()).alarms

    asyncio.run(body())


def test_a_state_that_comes_while_the_reset_is_written_is_kept(tmp_path: Path) -> None:
    async def body() -> None:
        async with open_store(tmp_path) as store:
            journal = journal_of(store)
            resetting = asyncio.ensure_future(journal.save_now(RESET))
            await asyncio.sleep(0)
            journal.save(STANDING)  # the condition came back: the trip stands
            await resetting
            await journal.drain()
            assert list((await store.load()).alarms) == [STANDING]

    asyncio.run(body())


def test_what_waited_still_waits_when_the_disk_refuses_the_reset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with open_store(tmp_path) as store:
            journal = journal_of(store)

            async def full(*_: object) -> None:
                raise StoreUnavailable("disk full")

            journal.save(STANDING)
            with monkeypatch.context() as patched:
                patched.setattr(store, "save_alarm", full)
                with pytest.raises(StoreUnavailable):
                    await journal.save_now(RESET)
            await journal.drain()
            assert list((await store.load()).alarms) == [STANDING]

    asyncio.run(body())
