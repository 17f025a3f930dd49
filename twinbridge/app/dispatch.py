"""Hands desired values to the machines' side: in order per device, no device waits for another."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

from twinbridge.app.clock import Doorbell
from twinbridge.core.messages import Desire, DesiredState
from twinbridge.errors import Conflict, TwinBridgeError, UnknownName, Unreachable
from twinbridge.ports import AgentBus

RETRY = 0.5
"""Seconds until the next try while the machines' side is not there, or not yet ready."""


class Dispatch:
    """At most one value waits per property: a newer one replaces it.

    `refused` is told when the machines' side refuses a value at once.
    """

    def __init__(self, bus: AgentBus, refused: Callable[[Desire, DesiredState, str], None]) -> None:
        self._bus = bus
        self._refused = refused
        self._waiting: defaultdict[str, dict[str, Desire]] = defaultdict(dict)
        self._busy: set[str] = set()
        self._bell = Doorbell()

    def send(self, desire: Desire) -> None:
        queue = self._waiting[desire.device]
        queue.pop(desire.property, None)
        queue[desire.property] = desire
        self._bell.ring()

    def forget(self, device: str) -> None:
        self._waiting.pop(device, None)

    async def run(self) -> None:
        self._busy.clear()
        self._bell.ring()
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._bell.wait(None)
                for device in self._waiting.keys() - self._busy:
                    self._busy.add(device)
                    tasks.create_task(self._drain(device), name=f"desire {device}")

    async def _drain(self, device: str) -> None:
        try:
            while queue := self._waiting.get(device):
                desire = queue.pop(next(iter(queue)))
                if not await self._handed_over(desire):
                    queue.setdefault(desire.property, desire)
                    await asyncio.sleep(RETRY)
            self._waiting.pop(device, None)
        finally:
            self._busy.discard(device)

    async def _handed_over(self, desire: Desire) -> bool:
        """False: try again. UnknownName: the agent knows the device, the other side not yet."""
        try:
            await self._bus.request(desire)
        except (Unreachable, UnknownName):
            return False
        except Conflict as error:
            self._refused(desire, DesiredState.BLOCKED, str(error))
        except TwinBridgeError as error:
            self._refused(desire, DesiredState.REJECTED, str(error))
        return True
