"""Commands that wait: in order for each device, and none at the cost of another's."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

PER_KEY = 64
IN_ALL = 1024

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Bounded queues by key, served in turn; of one key nothing is taken while one is at work."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Item]] = {}
        self._ready: deque[str] = deque()
        """Keys with something waiting and nothing at work."""
        self._size = 0
        self._bell = asyncio.Semaphore(0)
        """As many as there are ready keys."""

    def __len__(self) -> int:
        return self._size

    def put(self, key: str, item: Item) -> bool:
        """False when there is no room: it is not taken."""
        queue = self._waiting.get(key)
        if self._size >= IN_ALL or (queue is not None and len(queue) >= PER_KEY):
            return False
        self._size += 1
        if queue is None:
            self._waiting[key] = deque([item])
            self._offer(key)
        else:
            queue.append(item)
        return True

    async def take(self) -> tuple[str, Item]:
        """The next; `done` must follow."""
        await self._bell.acquire()
        key = self._ready.popleft()
        self._size -= 1
        return key, self._waiting[key].popleft()

    def done(self, key: str) -> None:
        """The one taken of that key is finished: the next of it may be taken."""
        if self._waiting[key]:
            self._offer(key)
        else:
            del self._waiting[key]

    def _offer(self, key: str) -> None:
        self._ready.append(key)
        self._bell.release()
