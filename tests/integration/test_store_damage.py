from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from twinbridge.adapters import history_sqlite
from twinbridge.adapters.store_sqlite import open_store
from twinbridge.core.messages import Audit
from twinbridge.errors import StoreUnavailable
from twinbridge.testing.store_contract import DESIRED, LATCH, audit, good

if TYPE_CHECKING:
    from pathlib import Path

    from twinbridge.ports import StoredState


async def fill(folder: Path) -> None:
    async with open_store(folder) as store:
        await store.load()
        await store.save_alarm(LATCH, audit("overheat/pump-1"))
        await store.save_desired(DESIRED)
        store.record_history("pump-1", [("t", good(1.0, 1))])


async def loaded(folder: Path) -> StoredState:
    async with open_store(folder) as store:
        return await store.load()


@pytest.mark.parametrize("damage", ["first page", "zeros", "middle", "text", "cut"])
def test_a_damaged_state_file_is_set_aside_and_a_new_one_begun(tmp_path: Path, damage: str) -> None:
    asyncio.run(fill(tmp_path))
    state_file = tmp_path / "state.db"
    content = state_file.read_bytes()
    state_file.write_bytes({
        "first page": b"\xff" * 4096 + content[4096:],
        "zeros": bytes(len(content)),
        "middle": content[:4096] + b"\xa5" * (len(content) - 4096),
        "text": b"not a database at all\n" * 300,
        "cut": content[: len(content) // 2 + 100],
    }[damage])  # fmt: skip
    broken = state_file.read_bytes()

    state = asyncio.run(loaded(tmp_path))

    assert not state.readable
    assert not state.alarms
    (aside,) = tmp_path.glob("state.db.damaged-*")
    assert aside.read_bytes() == broken


def test_found_damage_is_still_said_after_a_crash_of_the_start_that_found_it(
    tmp_path: Path,
) -> None:
    asyncio.run(fill(tmp_path))
    (tmp_path / "state.db").write_bytes(b"\xff" * 8192)
    assert not asyncio.run(loaded(tmp_path)).readable
    assert not asyncio.run(loaded(tmp_path)).readable


def test_a_record_that_cannot_be_read_makes_the_state_unreadable(tmp_path: Path) -> None:
    asyncio.run(fill(tmp_path))
    with closing(sqlite3.connect(tmp_path / "state.db")) as db, db:
        db.execute("UPDATE alarm SET body = '{'")
    state = asyncio.run(loaded(tmp_path))
    assert not state.readable
    assert list(state.desired) == [DESIRED]


def test_a_damaged_history_costs_only_the_history(tmp_path: Path) -> None:
    asyncio.run(fill(tmp_path))
    (tmp_path / "history.db").write_bytes(b"\xff" * 8192)

    async def look() -> None:
        async with open_store(tmp_path) as store:
            state = await store.load()
            assert state.readable
            assert list(state.alarms) == [LATCH]
            store.record_history("pump-1", [("t", good(2.0, 2))])
            assert [row.value for row in await store.history("pump-1", "t", 0, 9)] == [2.0]

    asyncio.run(look())
    assert len(list(tmp_path.glob("history.db.damaged-*"))) == 1


@pytest.mark.parametrize("name", ["state.db", "history.db"])
def test_a_file_of_a_newer_version_is_refused_untouched(tmp_path: Path, name: str) -> None:
    asyncio.run(fill(tmp_path))
    with closing(sqlite3.connect(tmp_path / name)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreUnavailable, match=rf"{name}: schema version 99 is of a newer"):
        asyncio.run(loaded(tmp_path))
    assert not list(tmp_path.glob("*.damaged-*"))


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match=r"state directory .*file/state"):
        asyncio.run(loaded(tmp_path / "file" / "state"))


@pytest.mark.parametrize("change", ["UPDATE audit SET origin = 'nobody'", "DELETE FROM audit"])
def test_the_audit_can_only_be_appended_to(tmp_path: Path, change: str) -> None:
    asyncio.run(fill(tmp_path))
    with (
        closing(sqlite3.connect(tmp_path / "state.db")) as db,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        db.execute(change)


def test_the_audit_keeps_the_boot_and_odd_details(tmp_path: Path) -> None:
    odd = Audit("odd", "x", "rest", {"big": 2**70, "path": tmp_path, "half": "\ud800"}, 1, 2)

    async def write() -> str:
        async with open_store(tmp_path) as store:
            await store.append_audit(odd)
            (kept,) = await store.audit()
            assert kept.detail == {"big": 2**70, "path": str(tmp_path), "half": "\ud800"}
            return store.boot

    boot = asyncio.run(write())
    with closing(sqlite3.connect(tmp_path / "state.db")) as db:
        assert db.execute("SELECT boot, wall, monotonic FROM audit").fetchall() == [(boot, 1, 2)]


def test_writers_at_the_same_time_share_commits(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_store(tmp_path) as store:
            before = store.commits
            async with asyncio.TaskGroup() as tasks:
                for n in range(500):
                    tasks.create_task(store.append_audit(audit(f"n{n}")), name=f"writer {n}")
            assert len(await store.audit(limit=1000)) == 500
            assert store.commits - before < 100

    asyncio.run(story())


def test_history_stays_below_its_size_and_the_oldest_goes_first(tmp_path: Path) -> None:
    limit = 400_000

    async def story() -> None:
        async with open_store(tmp_path, history_limit_bytes=limit) as store:
            for at in range(150):
                text = "".join(chr(33 + (at * 7919 + n * n * 31) % 9000) for n in range(4000))
                store.record_history("pump-1", [("text", good(text, at))])
                newest = await store.history("pump-1", "text", at, at + 1)
                assert len(newest) == 1
            kept = [row.timestamp for row in await store.history("pump-1", "text", 0, 200)]
            assert 0 not in kept
            assert kept == list(range(kept[0], 150))
            assert store.dropped_history == 0

    asyncio.run(story())
    assert (tmp_path / "history.db").stat().st_size < 1.5 * limit


def test_history_beyond_its_age_goes(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_store(tmp_path, history_max_age=0) as store:
            for at in range(3):
                store.record_history("pump-1", [("t", good(at, at))])
                rows = await store.history("pump-1", "t", 0, 9)
                assert [row.timestamp for row in rows] == [at]

    asyncio.run(story())


def test_history_that_the_disk_does_not_take_is_bounded_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_sqlite, "WAITING_LIMIT", 1000)

    async def story() -> None:
        async with open_store(tmp_path) as store:
            for at in range(5000):
                store.record_history("pump-1", [("t", good(at, at))])
            assert store.waiting_history <= 1000
            rows = await store.history("pump-1", "t", 0, 5000)
            assert len(rows) == 5000 - store.dropped_history
            assert rows[-1].timestamp == 4999
            assert store.waiting_history == 0

    asyncio.run(story())
