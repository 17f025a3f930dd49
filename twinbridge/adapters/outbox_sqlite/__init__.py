"""The durable queue of what the hub side has yet to get, in one SQLite file."""

from __future__ import annotations

from twinbridge.adapters.outbox_sqlite.lately import Loss
from twinbridge.adapters.outbox_sqlite.opening import open_outbox
from twinbridge.adapters.outbox_sqlite.outbox import SqliteOutbox

__all__ = ["Loss", "SqliteOutbox", "open_outbox"]
