"""A message as it waits to be taken, and the bounded queue that it waits in."""

from __future__ import annotations

from collections import deque
from typing import Generic, NamedTuple, TypeVar

from twinbridge_mqtt.metrics import DROPPED

LARGEST = 256 * 1024
"""Bytes of a payload; what is larger is refused (DOMAIN §5)."""
MOST_BYTES = 64 * 1024 * 1024
"""Payload bytes that may wait, whatever their number."""

T = TypeVar("T")


class Message(NamedTuple):
    """`wall` is UTC ns and `mono` monotonic ns at its receipt; `expires` monotonic ns, 0: never.

    `refused` says why the payload is not looked at.
    """

    payload: bytes
    wall: int
    mono: int
    retained: bool = False
    expires: int = 0
    refused: str = ""


def message(
    payload: bytes, wall: int, mono: int, *, retained: bool = False, expiry: float | None = None
) -> Message:
    """`expiry` in seconds from now."""
    expires = mono + int(expiry * 1e9) if expiry is not None else 0
    if not payload:
        refused = "the payload is empty"
    elif len(payload) > LARGEST:
        refused = f"the payload has {len(payload)} bytes, more than {LARGEST}"
        payload = b""
    else:
        refused = ""
    return Message(payload, wall, mono, retained, expires, refused)


class Waiting(Generic[T]):
    """Messages in order; when there are too many, only the latest of each topic stays."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._messages: deque[tuple[T, Message]] = deque()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, route: T, message: Message) -> None:
        self._messages.append((route, message))
        self._bytes += len(message.payload)
        if len(self._messages) > self._limit or self._bytes > MOST_BYTES:
            self._thin_out()

    def take(self) -> tuple[T, Message]:
        route, message = self._messages.popleft()
        self._bytes -= len(message.payload)
        return route, message

    def _thin_out(self) -> None:
        """The latest of each topic, in the order in which they came.

        Where even these are too many, twice their number may wait, so that the next one does not
        cost another round.
        """
        latest: dict[T, Message] = {}
        for route, message in self._messages:
            latest.pop(route, None)
            latest[route] = message
        lost = len(self._messages) - len(latest)
        self.dropped += lost
        DROPPED.inc(lost)
        self._messages = deque(latest.items())
        self._bytes = sum(len(m.payload) for m in latest.values())
        self._limit = max(self._limit, 2 * len(latest))
