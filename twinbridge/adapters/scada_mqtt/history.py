"""What happened while the broker was away, sent later from history."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from time import monotonic
from typing import NamedTuple

import structlog

from twinbridge.adapters.scada_mqtt import payload
from twinbridge.adapters.scada_mqtt.metrics import LATE
from twinbridge.adapters.scada_mqtt.outlet import Outlet
from twinbridge.adapters.scada_mqtt.topics import Place
from twinbridge.core.model import SECOND
from twinbridge.errors import StoreUnavailable
from twinbridge.ports import HistoryRow, Twins

log = structlog.get_logger()

MOST_OUTAGES = 16
WINDOW = 600 * SECOND
"""What is sent of all devices before later samples of any."""
PAGE = 1000
"""Samples that are read, and sent in a message, at once."""
SETTLE = 2.0
"""Seconds after a connection that are left to what is live."""
RETRY = 10.0
"""Seconds between tries while history cannot be read."""
PER_SECOND = 5000
"""Samples, at most."""
QUIET = 65_536
"""Bytes that may wait for the broker: above it what is live has its way alone."""


class Outage(NamedTuple):
    """UTC ns, from the one until before the other."""

    start: int
    end: int


class Outages:
    """Those whose samples are still to be sent; bounded, so that the oldest two become one."""

    def __init__(self) -> None:
        self._waiting: deque[Outage] = deque()

    def add(self, outage: Outage) -> None:
        if outage.end <= outage.start:
            return
        self._waiting.append(outage)
        if len(self._waiting) > MOST_OUTAGES:
            first, second = self._waiting.popleft(), self._waiting.popleft()
            self._waiting.appendleft(Outage(first.start, max(first.end, second.end)))

    def window(self) -> Outage | None:
        """The oldest part that is to be sent; `sent` takes it away."""
        if not self._waiting:
            return None
        start, end = self._waiting[0]
        return Outage(start, min(end, start + WINDOW))

    def sent(self, window: Outage) -> None:
        outage = self._waiting.popleft()
        if window.end < outage.end:
            self._waiting.appendleft(Outage(window.end, outage.end))


class Backfill:
    """Sends what history kept of outages; of the time and of the wire it takes at most half."""

    def __init__(
        self,
        twins: Twins,
        outages: Outages,
        outlet: Outlet,
        values: payload.Values,
        places: Callable[[], Mapping[str, Place]],
    ) -> None:
        self._twins = twins
        self._outages = outages
        self._outlet = outlet
        self._values = values
        self._places = places

    async def run(self) -> None:
        """Returns once all is sent. A window that a new outage interrupts is sent again."""
        await asyncio.sleep(SETTLE)
        while (window := self._outages.window()) is not None:
            try:
                for device in list(self._places()):
                    await self._send_device(device, window)
            except StoreUnavailable as error:
                log.warning("history of an outage cannot be read now", why=str(error))
                await asyncio.sleep(RETRY)
            else:
                self._outages.sent(window)

    async def _send_device(self, device: str, window: Outage) -> None:
        spec = self._twins.devices().get(device)
        names = [p.spec.name for p in spec.points if p.spec.access.readable] if spec else []
        gathered: dict[str, list[HistoryRow]] = {}
        size = 0
        for name in names:
            async for rows in self._recorded(device, name, window):
                gathered.setdefault(name, []).extend(rows)
                size += len(rows)
                if size >= PAGE:
                    await self._send(device, gathered)
                    gathered, size = {}, 0
        if gathered:
            await self._send(device, gathered)

    async def _recorded(
        self, device: str, name: str, window: Outage
    ) -> AsyncGenerator[Sequence[HistoryRow], None]:
        """The samples in pages; as much time as each took is left to others."""
        start: int | None = window.start
        while start is not None and start < window.end:
            began = monotonic()
            rows = await self._twins.recorded(device, name, start, window.end, PAGE)
            page, start = divided(rows, PAGE)
            if page:
                yield page
            await asyncio.sleep(max(monotonic() - began, len(page) / PER_SECOND))

    async def _send(self, device: str, rows: Mapping[str, Sequence[HistoryRow]]) -> None:
        await self._outlet.drained(QUIET)
        place = self._places().get(device)
        if place is not None:
            content = payload.history(self._twins.now(), rows, self._values)
            self._outlet.send("history", place.history, content)
            LATE.inc(sum(map(len, rows.values())))


def divided(rows: Sequence[HistoryRow], limit: int) -> tuple[Sequence[HistoryRow], int | None]:
    """What to send of the `limit` rows that were asked for, and from when to go on, if at all.

    Rows of one time are not parted, since what follows is asked for by time.
    """
    if len(rows) < limit:
        return rows, None
    last = rows[-1].timestamp
    whole = [row for row in rows if row.timestamp < last]
    return (whole, last) if whole else (rows, last + 1)
