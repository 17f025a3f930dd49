"""Recorded samples on disk, bounded in bytes and age; the oldest go first.

Recording is an append to a list; a flush a second hands the list to the writer's thread.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from pathlib import Path

import structlog

from twinbridge.adapters.history_rows import Batch, chunks, rows, steps
from twinbridge.adapters.sqlite_thread import SqliteThread
from twinbridge.core.model import Sample
from twinbridge.errors import StoreUnavailable
from twinbridge.ports import HistoryRow

MIGRATIONS = (
    """
    CREATE TABLE chunk (
        id INTEGER PRIMARY KEY,
        device TEXT NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        recorded INTEGER NOT NULL,
        body BLOB NOT NULL
    );
    CREATE INDEX chunk_of_device ON chunk (device, last)
    """,
)

WAITING_LIMIT = 200_000
"""Samples kept in memory while the disk does not take them; about 30 MB."""
FREE_DISK_FLOOR = 0.1
"""Below this share of free disk the history stops growing: the rest is for what must be kept."""
TRIM_SHARE = 16
_BEYOND_ALL = 2**63 - 1

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """`size` in bytes, `age` in nanoseconds by our own clock, whatever the samples say."""

    size: int
    age: int


class History:
    """`dropped` counts samples that never reached the disk."""

    def __init__(self, thread: SqliteThread, folder: Path, limits: Limits) -> None:
        self.dropped = 0
        self._thread = thread
        self._folder = folder
        self._limits = limits
        self._waiting: list[Batch] = []
        self._count = 0
        self._flushing: asyncio.Future[None] | None = None

    @property
    def waiting(self) -> int:
        """Samples in memory, not on disk yet."""
        return self._count

    @property
    def commits(self) -> int:
        return self._thread.commits

    @property
    def trouble(self) -> str:
        return self._thread.trouble

    def record(self, device: str, samples: Sequence[tuple[str, Sample]]) -> None:
        """Keeps the sequence as it is: the caller must not change it afterwards."""
        if not samples:
            return
        self._waiting.append((device, samples))
        self._count += len(samples)
        if self._count > WAITING_LIMIT:
            self._drop_oldest()

    def flush(self) -> asyncio.Future[None] | None:
        """Hand what waits to the disk; one flush at a time."""
        if self._flushing is not None or not self._waiting:
            return self._flushing
        batches, self._waiting = self._waiting, []
        self._flushing = self._thread.submit(lambda db: self._write(db, batches))
        self._flushing.add_done_callback(lambda done: self._flushed(done, batches))
        return self._flushing

    async def query(
        self, device: str, name: str, *, start: int, end: int, step: int, limit: int
    ) -> Sequence[HistoryRow]:
        """The first `limit` rows of start ≤ t < end, raw or per step; flushes what waits first."""
        await self.settle()

        def read(db: sqlite3.Connection) -> Sequence[HistoryRow]:
            found = _select(db, device, name, start, end)
            if step > 0:
                return steps(sorted(found, key=attrgetter("timestamp")), start, step)[:limit]
            return sorted(islice(found, limit), key=attrgetter("timestamp"))

        return await self._thread.read(read)

    async def settle(self) -> None:
        """Wait for two flushes: the one under way, and the one for what came since."""
        for _ in range(2):
            flushing = self.flush()
            if flushing is not None:
                await asyncio.wait([flushing])

    def _flushed(self, done: asyncio.Future[None], batches: list[Batch]) -> None:
        self._flushing = None
        error = None if done.cancelled() else done.exception()
        if isinstance(error, StoreUnavailable):
            self._waiting = batches + self._waiting
            return
        lost = sum(len(samples) for _, samples in batches)
        self._count -= lost
        if error is not None:
            self.dropped += lost
            _log.error("history not recorded", samples=lost, exc_info=error)

    def _drop_oldest(self) -> None:
        """Make room for a while, so that this is rare; a flush under way is left alone."""
        drop = dropped = 0
        while drop < len(self._waiting) - 1 and dropped < WAITING_LIMIT // TRIM_SHARE:
            dropped += len(self._waiting[drop][1])
            drop += 1
        del self._waiting[:drop]
        self._count -= dropped
        self.dropped += dropped

    def _write(self, db: sqlite3.Connection, batches: list[Batch]) -> None:
        now = time.time_ns()
        db.execute(
            "DELETE FROM chunk WHERE id <"
            " coalesce((SELECT id FROM chunk WHERE recorded >= ? ORDER BY id LIMIT 1), ?)",
            (now - self._limits.age, _BEYOND_ALL),
        )
        self._keep_to_size(db)
        db.executemany(
            "INSERT INTO chunk (device, first, last, recorded, body) VALUES (?, ?, ?, ?, ?)",
            [(c.device, c.first, c.last, now, c.body) for c in chunks(batches)],
        )

    def _keep_to_size(self, db: sqlite3.Connection) -> None:
        """Delete the oldest rows while the file is too large; SQLite uses their pages again."""
        page, total, free = (
            db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_size", "page_count", "freelist_count")
        )
        disk = shutil.disk_usage(self._folder)
        tight = disk.free < disk.total * FREE_DISK_FLOOR and free * TRIM_SHARE < total
        if not tight and (total - free) * page <= self._limits.size:
            return
        oldest, newest = db.execute("SELECT min(id), max(id) FROM chunk").fetchone()
        if oldest is not None and newest > oldest:
            db.execute(
                "DELETE FROM chunk WHERE id <= ?", (oldest + (newest - oldest) // TRIM_SHARE,)
            )


def _select(
    db: sqlite3.Connection, device: str, name: str, start: int, end: int
) -> Iterator[HistoryRow]:
    found = db.execute(
        "SELECT first, body FROM chunk WHERE device = ? AND last >= ? AND first < ? ORDER BY first",
        (device, start, end),
    )
    for first, body in found:
        yield from (row for row in rows(first, body, name) if start <= row.timestamp < end)
