"""Hands a driver's records to the agent: in order, and again until the agent has them on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import structlog

from twinbridge.adapters.bus_mqtt.encoding import LARGEST, encode_handover
from twinbridge.adapters.bus_mqtt.metrics import RECORDS, REPEATED, WAITING
from twinbridge.adapters.bus_mqtt.topics import Topics
from twinbridge.adapters.driver_store import DriverStore, KeptRecord
from twinbridge.errors import StoreUnavailable
from twinbridge.mqtt.connection import Connection

log = structlog.get_logger()

AT_ONCE = 200
_HEAD = 32
PATIENCE = 2.0
"""Seconds without a word of the agent after which records are sent again."""
TRY_EVERY = 10.0
"""The same while it does not say that it is there."""


class Handover:
    """One message is on its way at a time."""

    def __init__(self, topics: Topics, owner: str, store: DriverStore) -> None:
        self._topic = topics.records(owner)
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._taken = 0
        self._forgotten = 0
        self._sent = 0
        self._agent_there = False
        self._try_at = 0.0
        self._bell = asyncio.Event()
        store.on_record = self._ring_from_anywhere

    def agent_is(self, *, there: bool) -> None:
        self._agent_there = there
        self._bell.set()

    def taken(self, payload: bytes) -> None:
        """The agent's word that it has all up to this number."""
        if payload.isdigit() and len(payload) < 19:  # noqa: PLR2004 - 64 bit
            # More than was ever sent is not the agent's word.
            self._taken = max(self._taken, min(int(payload), self._sent))
            self._bell.set()

    async def serve(self, connection: Connection) -> NoReturn:
        """Until the connection is lost (Unreachable) or this is cancelled."""
        while True:
            self._bell.clear()
            try:
                await self._forget()
                batch = await self._store.records(self._taken, AT_ONCE)
            except StoreUnavailable as error:
                log.debug("records cannot be read", why=str(error))
                batch = ()
            WAITING.set(len(batch))
            # The agent's word that it is there may be lost: now and then it is tried all the same.
            now = self._loop.time()
            if batch and (self._agent_there or now >= self._try_at):
                self._try_at = now + TRY_EVERY
                await self._send(connection, _fitting(batch))
            await self._ring(PATIENCE if batch else None)

    async def _send(self, connection: Connection, batch: Sequence[KeptRecord]) -> None:
        """Send them, and wait until the agent has them or patience ends."""
        last = batch[-1].id
        if last <= self._sent:
            REPEATED.labels("record").inc(len(batch))
        self._sent = max(self._sent, last)
        await connection.publish(self._topic, encode_handover(batch))
        RECORDS.labels("out").inc(len(batch))
        loop = asyncio.get_running_loop()
        until = loop.time() + PATIENCE
        while self._taken < last and loop.time() < until:
            self._bell.clear()
            await self._ring(until - loop.time())
        self._bell.set()

    async def _forget(self) -> None:
        if self._forgotten < self._taken:
            await self._store.forget_records(self._taken)
            self._forgotten = self._taken

    async def _ring(self, seconds: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._bell.wait()

    def _ring_from_anywhere(self) -> None:
        """The journal works on the machines' loop."""
        with suppress(RuntimeError):  # the loop is closed: the next start hands over
            self._loop.call_soon_threadsafe(self._bell.set)


def _fitting(batch: Sequence[KeptRecord]) -> Sequence[KeptRecord]:
    """As many from the first on as one message holds."""
    size = 0
    for number, record in enumerate(batch):
        size += len(record.body) + _HEAD
        if number and size > LARGEST // 2:
            return batch[:number]
    return batch
