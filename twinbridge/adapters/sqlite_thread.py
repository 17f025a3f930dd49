"""One SQLite file: a thread that writes, with group commit, and a thread that reads.

Whoever writes at the same time shares one commit, hence one fsync; each is told after it. The
event loop never touches the disk.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar, cast

import structlog

from twinbridge.adapters.sqlite_file import SqliteFile, damaged
from twinbridge.errors import StoreUnavailable

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

STOP_SECONDS = 10.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Job(Generic[T]):
    work: Work[T]
    future: asyncio.Future[T]

    def tell(self, result: object) -> None:
        """Runs on the loop that waits; whoever no longer waits is not told."""
        if self.future.done():
            return
        if isinstance(result, _Failed):
            self.future.set_exception(result.error)
        else:
            self.future.set_result(cast("T", result))


class _Failed(NamedTuple):
    """In the place of a result."""

    error: Exception


class SqliteThread:
    """`submit`, `write` and `read` run a function with a connection, or fail
    with StoreUnavailable.

    Counters: `commits`, `last_commit_seconds`; `trouble` says why the last write failed, or ''.
    """

    def __init__(self, file: SqliteFile, *, heal: bool = False) -> None:
        """`heal`: a file found damaged while in use is set aside too, not only at the start."""
        self.commits = 0
        self.last_commit_seconds = 0.0
        self.trouble = ""
        self._closed = False
        self._file = file
        self._heal = heal
        self._jobs: queue.SimpleQueue[_Job[object] | None] = queue.SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self._reader = ThreadPoolExecutor(1, thread_name_prefix=f"read-{file.path.name}")
        self._thread = threading.Thread(
            target=self._run, name=f"write-{file.path.name}", daemon=True
        )
        self._thread.start()

    @property
    def queue_depth(self) -> int:
        return self._jobs.qsize()

    def submit(self, work: Work[T]) -> asyncio.Future[T]:
        """Run `work` in a transaction; the future has its result once that is on disk.

        Writers are served in the order of their calls. A cancelled future's write may yet happen.
        """
        if self._closed:
            raise StoreUnavailable(f"{self._file.path}: the store is closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put(cast("_Job[object]", _Job(work, future)))
        return future

    async def write(self, work: Work[T]) -> T:
        """`submit`, and wait for it."""
        return await self.submit(work)

    async def read(self, work: Work[T]) -> T:
        """Run `work` on a read-only connection of its own; all it reads is of one moment."""
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._reader, self._read, work)
        except sqlite3.Error as error:
            raise StoreUnavailable(_explain(self._file, error)) from error

    async def close(self) -> None:
        """Finish what was asked for, then close the file."""
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join, STOP_SECONDS)
        self._reader.shutdown(wait=False)

    def _read(self, work: Work[T]) -> T:
        with closing(self._file.open_to_read()) as connection:
            connection.execute("BEGIN")
            return work(connection)

    def _run(self) -> None:
        while True:
            jobs, last = self._take()
            if jobs:
                self._serve(jobs)
            if last:
                break
        self._forget_connection()

    def _take(self) -> tuple[list[_Job[object]], bool]:
        """Everything that waits, at least one; and whether it is the last."""
        jobs: list[_Job[object]] = []
        job = self._jobs.get()
        while job is not None:
            jobs.append(job)
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return jobs, False
        return jobs, True

    def _serve(self, jobs: Sequence[_Job[object]]) -> None:
        results = self._attempt(jobs)
        if len(jobs) > 1 and any(isinstance(r, _Failed) and _own_fault(r.error) for r in results):
            # One writer's mistake must not fail those who share its commit.
            results = [result for job in jobs for result in self._attempt([job])]
        for job, result in zip(jobs, results, strict=True):
            with suppress(RuntimeError):  # the loop is gone, and with it who waited
                job.future.get_loop().call_soon_threadsafe(job.tell, result)

    def _attempt(self, jobs: Sequence[_Job[object]]) -> list[object]:
        started = time.perf_counter()
        try:
            results = self._commit([job.work for job in jobs])
        except sqlite3.Error as error:
            self._fail(error)
            unavailable = StoreUnavailable(_explain(self._file, error))
            unavailable.__cause__ = error
            return [_Failed(error if _own_fault(error) else unavailable)] * len(jobs)
        except Exception as error:  # noqa: BLE001 - handed on to whoever gave the work
            self._forget_connection()
            return [_Failed(error)] * len(jobs)
        self.last_commit_seconds = time.perf_counter() - started
        self.commits += 1
        self._succeed()
        return results

    def _commit(self, works: Sequence[Work[object]]) -> list[object]:
        if self._connection is None:
            self._connection = self._file.open()
        self._connection.execute("BEGIN IMMEDIATE")
        results = [work(self._connection) for work in works]
        self._connection.execute("COMMIT")
        return results

    def _succeed(self) -> None:
        if self.trouble:
            _log.warning("store takes writes again", file=str(self._file.path))
        self.trouble = ""

    def _fail(self, error: sqlite3.Error) -> None:
        self._forget_connection()
        if _own_fault(error):
            return
        trouble = _explain(self._file, error)
        if trouble != self.trouble:
            _log.error("store does not take writes", trouble=trouble)
        self.trouble = trouble
        if self._heal and damaged(error):
            with suppress(OSError):  # tried again at the next write
                self._file.set_aside(str(error))

    def _forget_connection(self) -> None:
        """After an error the next writer starts from a new connection; this rolls back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


def _own_fault(error: Exception) -> bool:
    """Whether the work itself is wrong, rather than the disk."""
    if isinstance(error, sqlite3.Error):
        return isinstance(
            error, sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.DataError
        )
    return not isinstance(error, StoreUnavailable)


_KINDS = {
    sqlite3.SQLITE_FULL: "disk full",
    sqlite3.SQLITE_READONLY: "read-only",
    sqlite3.SQLITE_IOERR: "I/O error",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_NOTADB: "damaged",
    sqlite3.SQLITE_BUSY: "in use by another program",
}


def _explain(file: SqliteFile, error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return f"{_KINDS.get(code, 'database error')}: {file.path}: {error}"
