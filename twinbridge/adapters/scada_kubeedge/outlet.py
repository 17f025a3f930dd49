"""What goes out: QoS 1 and never retained, as EventBus does it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from twinbridge.adapters.scada_kubeedge.metrics import CONNECTED, MESSAGES, UNSENT
from twinbridge.errors import Unreachable
from twinbridge.mqtt import faults
from twinbridge.mqtt.connection import Connection

WAITING = 200
"""Messages that the broker has not acknowledged, at most."""


class Outlet:
    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._waiting = 0
        self._room = asyncio.Event()

    @property
    def open(self) -> bool:
        return self._connection is not None and self._connection.alive

    @contextmanager
    def through(self, connection: Connection) -> Iterator[None]:
        self._connection = connection
        CONNECTED.set(1)
        try:
            yield
        finally:
            self._connection = None
            CONNECTED.set(0)

    def send(self, topic: str, payload: bytes) -> None:
        """Dropped when the broker is not there, or does not keep up."""
        if self._connection is None or self._waiting >= WAITING:
            UNSENT.inc()
            return
        try:
            acknowledged = self._connection.publish_soon(topic, payload)
        except Unreachable:
            UNSENT.inc()
            return
        MESSAGES.inc()
        self._waiting += 1
        acknowledged.add_done_callback(self._acknowledged)

    async def room(self) -> None:
        """Wait until the broker has acknowledged most of what was sent."""
        while self._waiting >= WAITING // 2:
            self._room.clear()
            await self._room.wait()

    def _acknowledged(self, by: asyncio.Future[int]) -> None:
        self._waiting -= 1
        self._room.set()
        if by.cancelled() or by.exception() is not None or faults.refused(by.result()):
            UNSENT.inc()
