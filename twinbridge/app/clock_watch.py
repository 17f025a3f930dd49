"""Steps of the wall clock, and whether it is kept right, for the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from twinbridge.app.clock import Clock, clock_synced
from twinbridge.core.messages import Audit
from twinbridge.core.model import SECOND
from twinbridge.errors import StoreUnavailable
from twinbridge.ports import TwinStore

LOOK_SECONDS: Final = 1.0
STEP: Final = 1 * SECOND
"""What is less is drift, or a look that came late."""

log = structlog.get_logger()


class ClockWatch:
    """`subject` names whose clock it is."""

    def __init__(
        self,
        clock: Clock,
        store: TwinStore,
        subject: str,
        synced: Callable[[], bool] = clock_synced,
    ) -> None:
        self._clock = clock
        self._store = store
        self._subject = subject
        self._is_synced = synced
        self._synced = synced()
        self._offset = clock.wall() - clock.mono()

    async def run(self) -> None:
        """Never ends by itself."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Note a step of more than 1 s since the last look, and a change of `synced`."""
        wall, mono = self._clock.wall(), self._clock.mono()
        step, self._offset = wall - mono - self._offset, wall - mono
        synced = self._is_synced()
        changed, self._synced = synced is not self._synced, synced
        if abs(step) > STEP:
            await self._note("clock.step", f"set by {step / SECOND:+.1f} s", wall, mono)
        elif changed:
            said = "is kept right" if synced else "is no longer kept right"
            await self._note("clock.synced", said, wall, mono)

    async def _note(self, kind: str, message: str, wall: int, mono: int) -> None:
        log.warning("wall clock", message=message, synced=self._synced)
        detail: dict[str, object] = {"message": f"wall clock {message}", "synced": self._synced}
        try:
            await self._store.append_audit(Audit(kind, self._subject, "agent", detail, wall, mono))
        except StoreUnavailable as error:
            log.error("the step is not in the journal", why=str(error))  # noqa: TRY400 - its words say all
