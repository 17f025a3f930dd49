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
from twinbridge.ports import Twins

RATE, BURST = 200, 400
"""Requests a second, and at once, of all devices together."""
RATE_EACH, BURST_EACH = 20, 50
"""The same of one device, of the node, and of all devices that are not here."""
WAITING = 256
"""Requests that wait, at most; one that comes then is dropped."""
_MOST_ALLOWANCES = 10_000
_NODE, _NOBODY = "/node", "/nobody"  # no device has such an id


class Request(NamedTuple):
    asked: Asked
    payload: bytes
    topic: str


class Inbox:
    """Bounded in number, in size and in rate; what is dropped is counted and noted.

    Who floods one device's topics takes little from the others.
    """

    def __init__(self, twins: Twins, topics: Topics, journal: Journal) -> None:
        self._allowance = Allowance(RATE, BURST)
        self._each: dict[str, Allowance] = {}
        self._twins = twins
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
        elif not self._allowance_of(asked).take() or not self._allowance.take():
            said = f"more than {RATE_EACH} requests a second, or {RATE} in all"
            self._drop("rate", message.topic, said)
        elif len(self._requests) >= WAITING:
            self._drop("queue", message.topic, f"{WAITING} requests wait already")
        else:
            self._requests.append(Request(asked, message.payload, message.topic))
            self._bell.set()

    def charge_node(self, cost: float) -> None:
        """For a request of the node that has turned out to cost more."""
        self._of(_NODE).charge(cost)

    def _allowance_of(self, asked: Asked) -> Allowance:
        if not asked.id:
            return self._of(_NODE)
        known = self._topics.find(self._twins.devices(), asked.id) is not None
        return self._of(asked.id if known else _NOBODY)

    def _of(self, key: str) -> Allowance:
        if key not in self._each:
            if len(self._each) >= _MOST_ALLOWANCES:
                self._each.clear()  # of devices that have gone, nearly all
            self._each[key] = Allowance(RATE_EACH, BURST_EACH)
        return self._each[key]

    async def next(self) -> Request:
        while not self._requests:
            self._bell.clear()
            await self._bell.wait()
        return self._requests.popleft()

    def _drop(self, reason: str, topic: str, why: str) -> None:
        DROPPED.labels(reason).inc()
        self._journal.note(reason, topic, why)
