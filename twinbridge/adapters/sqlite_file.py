"""A SQLite file of ours: how it is opened, migrated, and set aside when it is damaged."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from twinbridge.errors import StoreUnavailable

BUSY_SECONDS = 2.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """`migrations` lead from each schema version (`PRAGMA user_version`) to the next.

    `synchronous` FULL: a commit is on the platter. NORMAL: a power cut may lose the last ones.
    """

    path: Path
    migrations: Sequence[str]
    synchronous: str = "FULL"

    def open(self) -> sqlite3.Connection:
        """Open for writing; a new file gets the newest schema.

        Raises StoreUnavailable if a newer TwinBridge made it, sqlite3.Error if it cannot be had.
        """
        connection = self._connect()
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {self.synchronous}")
            connection.execute("PRAGMA journal_size_limit = 8388608")
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def open_to_read(self) -> sqlite3.Connection:
        """A read-only connection beside the writer's."""
        return sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=ro",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
        )

    def open_without_writing(self) -> sqlite3.Connection:
        """Read, WAL included, on a disk that takes no byte more, while nobody else has it open.

        In exclusive mode SQLite keeps the WAL's index in memory (sqlite.org/wal.html, 8).
        """
        connection = self._connect()
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        return connection

    def damage(self, *, thorough: bool) -> str:
        """What is wrong inside an existing file, or ''; `thorough` reads all of it.

        Raises StoreUnavailable if a newer TwinBridge made it, sqlite3.Error if it cannot be had.
        """
        if not self.path.exists():
            return ""
        check = "PRAGMA quick_check(1)" if thorough else "SELECT 'ok' FROM sqlite_schema"
        with closing(self.open_without_writing()) as connection:
            try:
                self._version(connection)
                verdict = connection.execute(check).fetchone()
            except sqlite3.DatabaseError as error:
                if damaged(error):
                    return str(error)
                raise
        return "" if verdict in (None, ("ok",)) else str(verdict[0])

    def set_aside(self, why: str) -> Path:
        """Rename a damaged file, with its WAL, so that an expert can look at it later."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        aside = self.path.with_name(f"{self.path.name}.damaged-{stamp}")
        for suffix in ("-shm", "-wal", ""):
            part = self.path.with_name(self.path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        _log.error("store file is damaged and set aside", file=str(self.path), kept_as=str(aside),
                   why=why)  # fmt: skip
        return aside

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )

    def _migrate(self, connection: sqlite3.Connection) -> None:
        version = self._version(connection)
        for number, script in enumerate(self.migrations[version:], version + 1):
            connection.executescript(
                f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;"
            )

    def _version(self, connection: sqlite3.Connection) -> int:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        newest = len(self.migrations)
        if version > newest:
            raise StoreUnavailable(
                f"{self.path}: schema version {version} is of a newer TwinBridge; this one knows"
                f" versions up to {newest}: run the newer one, or give another state directory"
            )
        return version


def damaged(error: sqlite3.Error) -> bool:
    """Whether the file's content is wrong, as against the disk or the call."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
