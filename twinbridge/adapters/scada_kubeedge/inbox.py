"""What the broker brings, until it is answered."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from twinbridge.adapters.scada_kubeedge.allowance import Allowance
from twinbridge.adapters.scada_kubeedge.journal import Journal
from twinbridge.adapters.scada_kubeedge.metrics import DROPPED
from twinbridge.adapters.scada_kubeedge.requests import LARGEST
from twinbridge.adapters.scada_kubeedge.topics import Asked, Topics
from twinbridge.mqtt.connection import Message

RATE = 100
BURST = 200
WAITING = 256
"""Requests that wait, at most; one that comes then is dropped."""


class Request(NamedTuple):
    asked: Asked
    payload: bytes
    topic: str


class Inbox:
    """Bounded in number, in size and in rate; what is dropped is counted and noted."""

    def __init__(self, topics: Topics, journal: Journal) -> None:
        self.allowance = Allowance(RATE, BURST)
        self._topics = topics
        self._journal = journal
        self._requests: deque[Request] = deque()
        self._bell = asyncio.Event()

    def take(self, message: Message) -> None:
        asked = self._topics.asked(message.topic)
        if asked is None:
            return
        if message.retained:
            self._drop("retained", message.topic, "a retained request is as old as nobody knows")
        elif len(message.payload) > LARGEST:
            said = f"{len(message.payload)} bytes; allowed: {LARGEST}"
            self._drop("oversized", message.topic, said)
        elif not self.allowance.take():
            self._drop("rate", message.topic, f"more than {RATE} requests a second")
        elif len(self._requests) >= WAITING:
            self._drop("queue", message.topic, f"{WAITING} requests wait already")
        else:
            self._requests.append(Request(asked, message.payload, message.topic))
            self._bell.set()

    async def next(self) -> Request:
        while not self._requests:
            self._bell.clear()
            await self._bell.wait()
        return self._requests.popleft()

    def _drop(self, reason: str, topic: str, why: str) -> None:
        DROPPED.labels(reason).inc()
        self._journal.note(reason, topic, why)
