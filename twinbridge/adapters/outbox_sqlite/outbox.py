"""The outbox: samples wait in memory for the next flush, records are written at once."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

import structlog
from typing_extensions import override

from twinbridge.adapters.outbox_sqlite import bounds, tables
from twinbridge.adapters.outbox_sqlite.blocks import (
    ALARM,
    AUDIT,
    Block,
    Waiting,
    record_block,
    sample_blocks,
)
from twinbridge.adapters.outbox_sqlite.lately import Lately, Loss
from twinbridge.adapters.outbox_sqlite.tables import Bounds, Level, Now
from twinbridge.adapters.outbox_sqlite.told import joined
from twinbridge.adapters.sqlite_thread import SqliteThread
from twinbridge.adapters.state_sqlite import boot_id
from twinbridge.api.wire import Json, timestamp
from twinbridge.core.messages import Audit
from twinbridge.core.model import SECOND, Sample
from twinbridge.errors import StoreUnavailable
from twinbridge.ports import Outbox, OutboxBatch, OutboxRecord

FLUSH_SECONDS: Final = 0.9
WAITING_LIMIT: Final = 200_000
"""Samples kept in memory while the disk does not take them; about 30 MB."""
DROP_SHARE: Final = 16
LIVE: Final = 5 * SECOND
"""What is older was kept for longer than flushing and sending take."""

_log = structlog.get_logger(__name__)


class SqliteOutbox(Outbox):
    """Made by `open_outbox`."""

    def __init__(
        self,
        thread: SqliteThread,
        within: Bounds,
        sinks: Mapping[str, float],
        clock_synced: Callable[[], bool],
    ) -> None:
        self._thread = thread
        self._bounds = within
        self._clock_synced = clock_synced
        self._boot = boot_id()
        self._waiting: list[Waiting] = []
        self._count = 0
        self._lost: tuple[int, int, int | None] | None = None
        self._flushing: asyncio.Future[Level] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._level = Level(0, 0, 0)
        self._dropped = Loss()
        self._trimmed = Loss()
        self._lives: dict[str, str] = {}
        self._lately = {name: Lately(seconds) for name, seconds in sinks.items()}
        self._news = asyncio.Event()

    @override
    def put_samples(self, device: str, samples: Sequence[tuple[str, Sample]]) -> None:
        """Keeps the sequence as it is: the caller must not change it afterwards."""
        if not samples:
            return
        self._waiting.append(Waiting(device, samples, time.time_ns(), time.monotonic_ns()))
        self._count += len(samples)
        if self._count > WAITING_LIMIT:
            self._drop_oldest()

    @override
    async def journaled(self) -> int:
        return await self._thread.read(tables.journaled)

    @override
    async def put_journal(self, records: Sequence[tuple[int, Audit]]) -> None:
        now = self._now()

        def work(db: sqlite3.Connection) -> Level:
            known = tables.journaled(db)
            new = [(number, record) for number, record in records if number > known]
            if new:
                tables.append(db, [_journal_block(*each, now) for each in new], now)
                tables.note_journaled(db, new[-1][0])
            return tables.level(db, self._bounds)

        self._changed(await self._thread.write(work))

    @property
    @override
    def depth(self) -> int:
        return self._level.depth + self._count

    @property
    @override
    def oldest(self) -> int:
        return self._level.oldest or (self._waiting[0].at if self._waiting else 0)

    @property
    @override
    def size(self) -> int:
        return self._level.size

    @property
    def trouble(self) -> str:
        """Why the disk does not take it, or ''."""
        return self._thread.trouble

    @property
    def loss(self) -> Loss:
        """What some sink will never get, of this life of the process."""
        samples = self._dropped.samples + self._trimmed.samples
        return Loss(samples, max(self._dropped.at, self._trimmed.at))

    async def read(self, sink: str, limit: int, after: int = 0) -> OutboxBatch | None:
        """What `sink` has yet to get beyond `after`, about `limit` samples and records, the lowest
        numbers first; None for nothing.

        A record of n samples has their numbers, from `seq` to `seq + n - 1`. Raises
        StoreUnavailable.
        """
        outbox, records = await self._thread.read(lambda db: tables.read(db, sink, limit, after))
        self._lives[sink] = outbox
        if not records:
            return None
        first = records[0]
        since = time.monotonic_ns() - first.monotonic
        return OutboxBatch(outbox, records, live=first.boot == self._boot and since < LIVE)

    async def newest(self) -> int:
        """The last number that was given. Raises StoreUnavailable."""
        return await self._thread.read(tables.newest)

    async def ack(self, sink: str, first: int, last: int) -> None:
        """`sink` has these of what it last read; this is on disk. Raises StoreUnavailable."""
        outbox = self._lives[sink]
        self._lately[sink].note((first, last), time.monotonic())
        wanted = joined(span for lately in self._lately.values() for span in lately.spans)

        def work(db: sqlite3.Connection) -> Level:
            tables.acknowledge(db, outbox, sink, (first, last))
            tables.forget(db, self._bounds, wanted)
            return tables.level(db, self._bounds)

        self._level = await self._thread.write(work)

    async def set_aside(self, sink: str, records: Sequence[OutboxRecord], why: str) -> None:
        """Keep what `sink` refuses, for an expert; raises StoreUnavailable."""
        await self._thread.write(lambda db: tables.keep_refused(db, sink, records, why))

    async def rewind(self, sink: str) -> None:
        """`sink` gets again what it acknowledged in the last seconds that it was there."""
        lately = self._lately[sink]
        spans = joined(lately.spans)
        if not spans:
            return
        outbox = self._lives[sink]

        def work(db: sqlite3.Connection) -> Level:
            tables.rewind(db, outbox, sink, spans)
            return tables.level(db, self._bounds)

        level = await self._thread.write(work)
        lately.clear()
        self._changed(level)

    async def changed(self) -> None:
        """Wait for the next record to be on disk."""
        await self._news.wait()

    async def begin(self, damage: str) -> None:
        """Start flushing; tell of what was lost with a damaged file."""
        if damage:
            self._lost = (0, time.time_ns(), None)
        with suppress(StoreUnavailable):  # `trouble` has it; each flush tries again
            self._level = await self._thread.write(self._begin)
        self._tick()

    def _begin(self, db: sqlite3.Connection) -> Level:
        tables.keep_sinks(db, self._bounds)
        return tables.level(db, self._bounds)

    async def settle(self) -> None:
        """Wait for two flushes: the one under way, and the one for what came since."""
        for _ in range(2):
            flushing = self._flush()
            await asyncio.wait([flushing])

    async def finish(self) -> None:
        """Put on disk what waits."""
        if self._timer is not None:
            self._timer.cancel()
        await self.settle()

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._tick)
        self._flush()

    def _flush(self) -> asyncio.Future[Level]:
        """Hand what waits to the disk; one flush at a time. The bounds are kept by it too."""
        if self._flushing is None:
            waiting, self._waiting = self._waiting, []
            lost, self._lost = self._lost, None
            self._flushing = self._thread.submit(lambda db: self._write(db, waiting, lost))
            self._flushing.add_done_callback(lambda done: self._flushed(done, waiting, lost))
        return self._flushing

    def _write(
        self,
        db: sqlite3.Connection,
        waiting: Sequence[Waiting],
        lost: tuple[int, int, int | None] | None,
    ) -> Level:
        """Runs in the writer's thread."""
        now = self._now()
        self._trimmed = self._trimmed.and_of(bounds.trim(db, self._bounds, now))
        blocks: list[Block] = [tables.gap(*lost, now)] if lost else []
        blocks += sample_blocks(waiting)
        if blocks:
            tables.append(db, blocks, now)
        return tables.level(db, self._bounds)

    def _now(self) -> Now:
        return Now(time.time_ns(), time.monotonic_ns(), self._boot, self._clock_synced())

    def _flushed(
        self,
        done: asyncio.Future[Level],
        waiting: list[Waiting],
        lost: tuple[int, int, int | None] | None,
    ) -> None:
        self._flushing = None
        error = None if done.cancelled() else done.exception()
        if isinstance(error, StoreUnavailable):
            self._waiting = waiting + self._waiting
            self._lost = _merged(lost, self._lost)
            return
        count = sum(len(each.samples) for each in waiting)
        self._count -= count
        if error is not None:
            self._dropped = self._dropped.and_of(count)
            _log.error("samples not kept for the hub", samples=count, exc_info=error)
        elif not done.cancelled():
            level, before = done.result(), self._level
            if waiting or lost or level != before:
                self._changed(level)

    def _changed(self, level: Level) -> None:
        self._level = level
        self._news.set()
        self._news = asyncio.Event()

    def _drop_oldest(self) -> None:
        """Make room for a while, so that this is rare; a flush under way is left alone."""
        drop = dropped = 0
        while drop < len(self._waiting) - 1 and dropped < WAITING_LIMIT // DROP_SHARE:
            dropped += len(self._waiting[drop].samples)
            drop += 1
        if not drop:
            return
        span = (self._waiting[0].at, self._waiting[drop - 1].at, dropped)
        self._lost = _merged(self._lost, span)
        del self._waiting[:drop]
        self._count -= dropped
        self._dropped = self._dropped.and_of(dropped)


_ALARMS = ("alarm", "trip", "reset", "ack", "shelve", "unshelve")


def _journal_block(number: int, record: Audit, now: Now) -> Block:
    body: Json = {
        "number": number,
        "kind": record.kind,
        "subject": record.subject,
        "origin": record.origin,
        "timestamp": timestamp(record.wall),
        "detail": record.detail,
    }
    kind = ALARM if record.kind.partition(".")[0] in _ALARMS else AUDIT
    return record_block(kind, _device(record.subject), body, now.wall, now.monotonic)


def _device(subject: str) -> str:
    """Of `rule:device:time`, an alarm; `rule:device`, an instance; or `device/property`."""
    parts = subject.split(":")
    return parts[1] if len(parts) > 1 else subject.partition("/")[0]


def _merged(
    one: tuple[int, int, int | None] | None, other: tuple[int, int, int | None] | None
) -> tuple[int, int, int | None] | None:
    if one is None or other is None:
        return one or other
    known = one[2] is not None and other[2] is not None
    return one[0], other[1], (one[2] or 0) + (other[2] or 0) if known else None
