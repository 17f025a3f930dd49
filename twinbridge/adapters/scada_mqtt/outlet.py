"""What goes out to the broker: counted, and never more than the broker takes."""

from __future__ import annotations

import asyncio
from collections import Counter

from twinbridge.adapters.scada_mqtt.metrics import ANSWERS_LOST, MESSAGES
from twinbridge.mqtt.connection import Connection
from twinbridge.mqtt.session import NOTHING_MORE, Told

FULL = 1024 * 1024
"""Bytes that wait for a slow broker before nothing more is sent that a newer one replaces."""
ROOM = 256 * 1024
"""Bytes that may wait when it is sent again."""
MOST_UNACKNOWLEDGED = 500


class Outlet:
    """One connection, as those who send see it. Raises Unreachable when the broker is lost."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sent: Counter[str] = Counter()
        self._unacknowledged = 0
        self.full = False
        """Whether the broker is behind. Turned by `look`, so that it holds for a whole step."""

    def look(self) -> None:
        """Look how far the broker is behind, and count what was sent."""
        self.full = self._connection.backlog > (ROOM if self.full else FULL)
        for kind, count in self._sent.items():
            MESSAGES.labels(kind).inc(count)
        self._sent.clear()

    @property
    def backlog(self) -> int:
        """Bytes."""
        return self._connection.backlog

    async def drained(self, limit: int) -> None:
        """Wait until at most `limit` bytes wait."""
        await self._connection.drained(limit)

    def send(self, kind: str, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """With QoS 0."""
        self._connection.send(topic, payload, retain=retain)
        self._sent[kind] += 1

    @property
    def takes_acknowledged(self) -> bool:
        return not self.full and self._unacknowledged < MOST_UNACKNOWLEDGED

    def send_acknowledged(
        self, kind: str, topic: str, payload: bytes, told: Told = NOTHING_MORE, *, retain: bool
    ) -> None:
        """With QoS 1, while it `takes_acknowledged`."""
        future = self._connection.publish_soon(topic, payload, told, retain=retain)
        self._unacknowledged += 1
        future.add_done_callback(self._acknowledged)
        self._sent[kind] += 1

    def _acknowledged(self, _: asyncio.Future[int]) -> None:
        self._unacknowledged -= 1

    def answer(self, topic: str, payload: bytes, told: Told | None) -> None:
        """Of a command; `told` if MQTT 5 asked for it on a topic of its own.

        Answers do not wait for a broker that is behind: who asks knows that none came.
        """
        if told is None and not self.full:
            self.send("answer", topic, payload)
        elif told is not None and self.takes_acknowledged:
            self.send_acknowledged("answer", topic, payload, told, retain=False)
        else:
            ANSWERS_LOST.inc()
