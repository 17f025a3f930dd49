"""What a writer gives back, and what is an error of its own."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from twinbridge.adapters.sqlite_file import SqliteFile
from twinbridge.adapters.sqlite_thread import SqliteThread

SCHEMA = ("CREATE TABLE one (n INTEGER NOT NULL)",)


def insert(value: int | None) -> Callable[[sqlite3.Connection], object]:
    def work(db: sqlite3.Connection) -> object:
        db.execute("INSERT INTO one VALUES (?)", (value,))
        return value

    return work


def test_an_exception_that_is_given_back_is_a_result(tmp_path: Path) -> None:
    refusal = ValueError("not this one")

    async def scenario() -> None:
        thread = SqliteThread(SqliteFile(tmp_path / "one.db", SCHEMA))
        assert await thread.write(lambda _: refusal) is refusal
        await thread.close()

    asyncio.run(scenario())


def test_one_writers_mistake_does_not_fail_those_who_share_its_commit(tmp_path: Path) -> None:
    async def scenario() -> None:
        thread = SqliteThread(SqliteFile(tmp_path / "one.db", SCHEMA))
        writes = [thread.submit(insert(value)) for value in (1, None, 3)]
        await asyncio.wait(writes)
        assert [write.exception() is None for write in writes] == [True, False, True]
        with pytest.raises(sqlite3.IntegrityError):
            writes[1].result()
        found = await thread.read(lambda db: db.execute("SELECT n FROM one").fetchall())
        assert found == [(1,), (3,)]
        await thread.close()

    asyncio.run(scenario())


def test_what_is_written_in_the_midst_of_a_read_is_not_half_of_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        thread = SqliteThread(SqliteFile(tmp_path / "one.db", SCHEMA))
        await thread.write(insert(1))
        looked, written = threading.Event(), threading.Event()

        def count(db: sqlite3.Connection) -> int:
            return int(db.execute("SELECT count(*) FROM one").fetchone()[0])

        def twice(db: sqlite3.Connection) -> tuple[int, int]:
            before = count(db)
            looked.set()
            assert written.wait(10)
            return before, count(db)

        reading = asyncio.create_task(thread.read(twice))
        assert await asyncio.to_thread(looked.wait, 10)
        await thread.write(insert(2))
        written.set()
        assert await reading == (1, 1)
        assert await thread.read(count) == 2
        await thread.close()

    asyncio.run(scenario())
