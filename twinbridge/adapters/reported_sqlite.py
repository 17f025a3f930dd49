"""The last reported sample of each property, on disk within a second."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence

import structlog

from twinbridge.adapters.sqlite_thread import SqliteThread
from twinbridge.adapters.state_rows import reported_body
from twinbridge.core.model import Sample
from twinbridge.errors import StoreUnavailable

_log = structlog.get_logger(__name__)


class Reported:
    """Bounded by the plant itself: the newest sample per property, however slow the disk."""

    def __init__(self, thread: SqliteThread) -> None:
        self._thread = thread
        self._devices: dict[str, dict[str, Sample]] = {}
        self._changed: set[str] = set()
        self._flushing = False

    def start_from(self, stored: Mapping[str, Mapping[str, Sample]]) -> None:
        """A device's row holds all its properties, so those not read yet must be known."""
        for device, samples in stored.items():
            self._devices[device] = {**samples, **self._devices.get(device, {})}

    def record(self, device: str, samples: Sequence[tuple[str, Sample]]) -> None:
        self._devices.setdefault(device, {}).update(samples)
        self._changed.add(device)

    def flush(self, *, last: bool = False) -> None:
        """Hand what changed to the disk; one flush at a time, but for the `last`."""
        if not self._changed or (self._flushing and not last):
            return
        changed, self._changed = self._changed, set()
        snapshot = {device: dict(self._devices[device]) for device in changed}
        self._flushing = True
        done = self._thread.submit(lambda db: _write(db, snapshot))
        done.add_done_callback(lambda done: self._flushed(done, changed))

    def _flushed(self, done: asyncio.Future[None], changed: set[str]) -> None:
        self._flushing = False
        error = None if done.cancelled() else done.exception()
        if isinstance(error, StoreUnavailable):
            self._changed |= changed
        elif error is not None:
            _log.error("reported values not stored", devices=sorted(changed), exc_info=error)


def _write(db: sqlite3.Connection, devices: Mapping[str, Mapping[str, Sample]]) -> None:
    db.executemany(
        "INSERT OR REPLACE INTO reported VALUES (?, ?)",
        [(device, reported_body(samples)) for device, samples in devices.items()],
    )
