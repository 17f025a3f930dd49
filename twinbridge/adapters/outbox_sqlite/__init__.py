"""The durable queue of what the hub side has yet to get, in one SQLite file."""

from __future__ import annotations

from twinbridge.adapters.outbox_sqlite.outbox import Loss, SqliteOutbox, open_outbox

__all__ = ["Loss", "SqliteOutbox", "open_outbox"]
