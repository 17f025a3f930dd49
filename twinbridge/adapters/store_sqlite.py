"""What must outlive the process, in two SQLite files (docs/decisions/0002-two-sqlite-files.md)."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import structlog
from typing_extensions import override

from twinbridge.adapters import history_sqlite, state_sqlite
from twinbridge.adapters.history_sqlite import History, Limits
from twinbridge.adapters.reported_sqlite import Reported
from twinbridge.adapters.sqlite_file import SqliteFile
from twinbridge.adapters.sqlite_thread import SqliteThread
from twinbridge.adapters.state_rows import audit_row
from twinbridge.core.alarm import Alarm
from twinbridge.core.messages import Audit
from twinbridge.core.model import SECOND, Sample
from twinbridge.errors import StoreUnavailable
from twinbridge.ports import (
    HistoryRow,
    KnownDefinition,
    Ref,
    StoredDesired,
    StoredState,
    TwinStore,
)

HISTORY_LIMIT_BYTES = 256 * 1024 * 1024
HISTORY_MAX_AGE = 7 * 24 * 3600 * SECOND

DEFAULT_LIMITS = Limits(HISTORY_LIMIT_BYTES, HISTORY_MAX_AGE)

FLUSH_SECONDS = 0.9
"""Reported values may be up to 1 s behind (DESIGN §5)."""
SETTLE_FLUSHES = 60
"""How many flushes a start must live through before found damage is no longer reported."""

_log = structlog.get_logger(__name__)


class SqliteStore(TwinStore):
    """Made by `open_store`. Its counters are for the metrics."""

    def __init__(self, state: SqliteThread, history: History, file: SqliteFile) -> None:
        self.boot = state_sqlite.boot_id()
        self._state = state
        self._history = history
        self._file = file
        self._reported = Reported(state)
        self._timer: asyncio.TimerHandle | None = None
        self._flushes = 0
        self._damage = ""

    @property
    def commits(self) -> int:
        return self._state.commits + self._history.commits

    @property
    def last_commit_seconds(self) -> float:
        """How long the last commit of desired values, alarms or audit took."""
        return self._state.last_commit_seconds

    @property
    def queue_depth(self) -> int:
        """Writers that wait for the next commit."""
        return self._state.queue_depth

    @property
    def waiting_history(self) -> int:
        return self._history.waiting

    @property
    def dropped_history(self) -> int:
        """Samples that the disk did not take in time."""
        return self._history.dropped

    @property
    @override
    def trouble(self) -> str:
        return self._state.trouble or self._history.trouble

    async def begin(self, damage: str) -> None:
        """Note found damage, try the disk, and start flushing."""
        self._damage = damage
        change = state_sqlite.note_damage(damage) if damage else state_sqlite.probe
        with suppress(StoreUnavailable):  # `trouble` has it; each flush tries again
            await self._state.write(change)
        self._schedule()

    async def finish(self) -> None:
        """Put on disk what waits."""
        if self._timer is not None:
            self._timer.cancel()
        self._reported.flush(last=True)
        await self._history.settle()

    @override
    async def load(self) -> StoredState:
        try:
            state = await self._state.write(lambda db: state_sqlite.load(db, self.boot))
        except StoreUnavailable:
            state = await asyncio.to_thread(state_sqlite.load_without_writing, self._file)
        self._reported.start_from(state.reported)
        return replace(state, readable=state.readable and not self._damage)

    @override
    async def save_desired(self, *entries: StoredDesired, audit: Iterable[Audit] = ()) -> None:
        save, append = state_sqlite.save_desired(entries), self._append(audit)
        await self._state.write(state_sqlite.together(save, append))

    @override
    async def forget_desired(self, device: str) -> None:
        await self._state.write(state_sqlite.forget_desired(device))

    @override
    async def save_alarm(self, alarm: Alarm, *audit: Audit) -> None:
        save, append = state_sqlite.save_alarm(alarm), self._append(audit)
        await self._state.write(state_sqlite.together(save, append))

    @override
    async def save_mode(self, rule: str, mode: str, *audit: Audit) -> None:
        save, append = state_sqlite.save_mode(rule, mode), self._append(audit)
        await self._state.write(state_sqlite.together(save, append))

    @override
    async def append_audit(self, *audit: Audit) -> None:
        await self._state.write(self._append(audit))

    @override
    async def audit(self, *, limit: int = 100, subject: str = "") -> Sequence[Audit]:
        return await self._state.read(lambda db: state_sqlite.audit(db, limit, subject))

    @override
    def record_reported(self, device: str, samples: Sequence[tuple[str, Sample]]) -> None:
        self._reported.record(device, samples)

    @override
    def record_history(self, device: str, samples: Sequence[tuple[str, Sample]]) -> None:
        self._history.record(device, samples)

    @override
    async def history(
        self, device: str, name: str, start: int, end: int, step: int = 0, limit: int = 10_000
    ) -> Sequence[HistoryRow]:
        return await self._history.query(device, name, start=start, end=end, step=step, limit=limit)

    async def identity(self) -> str:
        """Names this state directory for ever; a new one where the old was lost."""
        try:
            return await self._state.write(state_sqlite.identity)
        except StoreUnavailable:
            return uuid.uuid4().hex

    async def note(self, name: str) -> str:
        """What `put_note` kept under that name, or ''. Raises StoreUnavailable."""
        return await self._state.write(lambda db: state_sqlite.note(db, name))

    async def put_note(self, name: str, content: str) -> None:
        """Raises StoreUnavailable."""
        await self._state.write(state_sqlite.put_note(name, content))

    async def load_definitions(self) -> Sequence[KnownDefinition]:
        return await self._state.read(state_sqlite.definitions)

    async def save_definitions(
        self, known: Iterable[KnownDefinition], gone: Iterable[Ref] = ()
    ) -> None:
        await self._state.write(state_sqlite.save_definitions(known, gone))

    async def journal(self, after: int, limit: int) -> Sequence[tuple[int, Audit]]:
        return await self._state.read(lambda db: state_sqlite.journal(db, after, limit))

    async def journal_end(self) -> int:
        return await self._state.read(state_sqlite.journal_end)

    def _append(self, audit: Iterable[Audit]) -> state_sqlite.Change:
        return state_sqlite.append_audit([audit_row(record, self.boot) for record in audit])

    def _schedule(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._tick)

    def _tick(self) -> None:
        self._schedule()
        self._flush()
        self._flushes += 1
        if self._flushes == SETTLE_FLUSHES:
            _ignore_failure(self._state.submit(state_sqlite.forget_damage))

    def _flush(self) -> None:
        self._reported.flush()
        self._history.flush()
        if self._state.trouble and not self._state.queue_depth:
            _ignore_failure(self._state.submit(state_sqlite.probe))


S = TypeVar("S", bound=SqliteStore)


@asynccontextmanager
async def open_store(
    state_dir: Path,
    *,
    history_limit_bytes: int = HISTORY_LIMIT_BYTES,
    history_max_age: int = HISTORY_MAX_AGE,
) -> AsyncIterator[SqliteStore]:
    """A store for one process that has it all, as `open_store_of` opens it."""
    limits = Limits(history_limit_bytes, history_max_age)
    async with open_store_of(SqliteStore, state_dir, limits) as store:
        yield store


@asynccontextmanager
async def open_store_of(
    kind: type[S], state_dir: Path, limits: Limits = DEFAULT_LIMITS
) -> AsyncIterator[S]:
    """Open, or begin, the store in `state_dir`.

    A disk that takes no writes is no reason to fail: the store opens, and `trouble` says why.
    Raises StoreUnavailable when another process has it, or a newer TwinBridge made it.
    """
    with _lock(state_dir):
        state_file = SqliteFile(state_dir / "state.db", state_sqlite.MIGRATIONS)
        history_file = SqliteFile(state_dir / "history.db", history_sqlite.MIGRATIONS, "NORMAL")
        damage = await asyncio.to_thread(_set_aside_if_damaged, state_file, thorough=True)
        await asyncio.to_thread(_set_aside_if_damaged, history_file)
        state, history = SqliteThread(state_file), SqliteThread(history_file, heal=True)
        store = kind(state, History(history, state_dir, limits), state_file)
        try:
            await store.begin(damage)
            yield store
        finally:
            await store.finish()
            await history.close()
            await state.close()


def _ignore_failure(future: asyncio.Future[None]) -> None:
    """`trouble` says what failed, and the next flush tries again."""
    future.add_done_callback(lambda done: done.cancelled() or done.exception())


def _set_aside_if_damaged(file: SqliteFile, *, thorough: bool = False) -> str:
    """What was wrong, or ''. A file that cannot be had now may be sound: it stays."""
    try:
        damage = file.damage(thorough=thorough)
    except sqlite3.Error as error:
        _log.error("store file cannot be checked", file=str(file.path), why=str(error))
        return ""
    if damage:
        file.set_aside(damage)
    return damage


@contextmanager
def _lock(state_dir: Path) -> Iterator[None]:
    """One process per state directory: two would write to the same machines."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        descriptor = _lock_file(state_dir / "lock")
    except OSError as error:
        raise StoreUnavailable(f"state directory {state_dir}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StoreUnavailable(
            f"state directory {state_dir} is in use by another TwinBridge;"
            " stop that one, or give another --state-dir"
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)


def _lock_file(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:  # a disk that has become read-only
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
