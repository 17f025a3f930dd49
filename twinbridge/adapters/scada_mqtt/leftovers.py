"""What a former run of the face left on the broker, and nothing shows any more."""

from __future__ import annotations

import asyncio
import uuid

import structlog

from twinbridge.adapters.scada_mqtt.payload import node_of
from twinbridge.adapters.scada_mqtt.topics import TWIN
from twinbridge.errors import Unreachable
from twinbridge.mqtt.connection import Connection, Message

log = structlog.get_logger()

SECONDS = 5.0
MOST = 500_000
"""Topics that are looked at."""


class Retained:
    """Asks the broker for all it keeps under a prefix, before anything is published.

    A message of our own marks the end: the broker sends what it keeps before what comes later.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._marker = f"{prefix}/here"
        self._nonce = uuid.uuid4().hex.encode()
        self._complete = asyncio.Event()
        self.listening = True
        self.found: dict[str, str] = {}
        """Topic → the node that a twin or an alarm names; '' for others."""

    def hear(self, message: Message) -> None:
        topic, payload = message.topic, message.payload
        if topic == self._marker and payload == self._nonce:
            self._complete.set()
        elif message.retained and payload and len(self.found) < MOST:
            told = topic.endswith(f"/{TWIN}") or topic.startswith(f"{self._prefix}/alarms/")
            self.found[topic] = node_of(payload) if told else ""

    async def collect(self, connection: Connection) -> None:
        """Raises Unreachable when the broker is lost; one that does not let us look is left."""
        everything = f"{self._prefix}/#"
        try:
            await connection.subscribe((everything, 0))
            connection.send(self._marker, self._nonce)
            async with asyncio.timeout(SECONDS):
                await self._complete.wait()
        except (Unreachable, TimeoutError) as error:
            connection.check()
            log.warning(
                "what a former run left on the broker is not cleared: it may not be read",
                topics=everything,
                why=str(error) or f"nothing came in {SECONDS:g} s",
            )
        connection.unsubscribe(everything)
        self.listening = False
