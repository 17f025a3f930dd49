"""How the outbox of a directory is opened; a damaged one is set aside."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from twinbridge.adapters.outbox_sqlite import tables
from twinbridge.adapters.outbox_sqlite.outbox import SqliteOutbox
from twinbridge.adapters.outbox_sqlite.tables import Bounds
from twinbridge.adapters.sqlite_file import SqliteFile
from twinbridge.adapters.sqlite_thread import SqliteThread
from twinbridge.core.model import SECOND

LIMIT_BYTES: Final = 1_000_000_000
MAX_AGE: Final = 7 * 24 * 3600 * SECOND

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_outbox(
    directory: Path,
    *,
    limit_bytes: int = LIMIT_BYTES,
    max_age: int = MAX_AGE,
    sinks: Mapping[str, float],
    clock_synced: Callable[[], bool] = lambda: True,
) -> AsyncIterator[SqliteOutbox]:
    """Open, or begin, the outbox in `directory`, which one process has at a time.

    `max_age` in ns. `sinks`: at least one, each with the seconds of `rewind`; what was kept for
    others is not kept any longer. A new one gets all that is there. A damaged file is set aside.
    A disk that takes no writes is no reason to fail: `trouble` says why. Raises StoreUnavailable
    if a newer TwinBridge made it.
    """
    if not sinks:
        raise ValueError("an outbox without a sink would keep nothing; give at least one")
    file = SqliteFile(directory / "outbox.db", tables.MIGRATIONS)
    damage = await asyncio.to_thread(_set_aside_if_damaged, file)
    thread = SqliteThread(file, heal=True)
    bounds = Bounds(directory, limit_bytes, max_age, tuple(sinks))
    outbox = SqliteOutbox(thread, bounds, sinks, clock_synced)
    try:
        await outbox.begin(damage)
        yield outbox
    finally:
        await outbox.finish()
        await thread.close()


def _set_aside_if_damaged(file: SqliteFile) -> str:
    """What was wrong, or ''. A file that cannot be had now may be sound: it stays."""
    file.path.parent.mkdir(parents=True, exist_ok=True)
    try:
        damage = file.damage(thorough=False)
    except sqlite3.Error as error:
        _log.error("outbox cannot be checked", file=str(file.path), why=str(error))
        return ""
    if damage:
        file.set_aside(damage)
    return damage
