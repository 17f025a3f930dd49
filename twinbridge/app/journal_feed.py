"""Alarms and audit on their way to the sinks: from the journal to the outbox, each once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog

from twinbridge.app.supervise import Backoff
from twinbridge.core.messages import Audit
from twinbridge.errors import StoreUnavailable
from twinbridge.ports import SyncStore

PAGE = 500
LOOK_EVERY = 0.5
"""Seconds between looks whether there is something new."""

log = structlog.get_logger()


class Taker(Protocol):
    """As `ports.Outbox`."""

    async def journaled(self) -> int: ...

    async def put_journal(self, records: Sequence[tuple[int, Audit]]) -> None: ...


class JournalFeed:
    """The journal keeps what the outbox cannot take now."""

    def __init__(self, store: SyncStore, outbox: Taker) -> None:
        self._store = store
        self._outbox = outbox

    async def run(self) -> None:
        """Never returns."""
        backoff = Backoff(LOOK_EVERY, 15.0)
        while True:
            wait = LOOK_EVERY
            try:
                while await self.step():
                    pass
                backoff.reset()
            except StoreUnavailable as error:
                log.warning("the journal does not reach the outbox", why=str(error))
                wait = backoff.next()
            await asyncio.sleep(wait)

    async def step(self) -> bool:
        """Take a page over; whether there was one. Raises StoreUnavailable."""
        records = await self._store.journal(await self._outbox.journaled(), PAGE)
        await self._outbox.put_journal(records)
        return bool(records)
