"""From the outbox to a sink: what is of now first, what waits since an outage beside it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from time import monotonic
from typing import Final, Protocol, TypeAlias

import structlog
from prometheus_client import Counter

from twinbridge.app.lanes import Lanes
from twinbridge.errors import HubRefused, HubUnavailable, StoreUnavailable
from twinbridge.ports import OutboxBatch, OutboxRecord, Sink

LINGER_SECONDS: Final = 0.1
"""What comes within it goes along."""
LOOK_SECONDS: Final = 1.0
FIRST_BACKOFF_SECONDS: Final = 0.5
LONGEST_BACKOFF_SECONDS: Final = 30.0
TRIES: Final = 5
"""So often is a single record refused before it is set aside."""
SUSPICIOUS: Final = 20
"""So many refused in a row are no matter of a record."""
FEW: Final = 50
"""Then so many neighbours are set aside together where the sink says for good: an outage may be of
millions that are all too old.
"""

REFUSED: Final = Counter(
    "twinbridge_forward_refused",
    "Samples and records set aside since the sink refused them, by sink.",
    ["sink"],
)

_Part: TypeAlias = Sequence[OutboxRecord]

_log = structlog.get_logger(__name__)


class Source(Protocol):
    """The outbox as it is read; each raises StoreUnavailable."""

    async def read(self, sink: str, limit: int, after: int = 0) -> OutboxBatch | None:
        """What the sink has yet to get beyond `after`, the lowest numbers first."""

    async def newest(self) -> int:
        """The last number that was given."""

    async def ack(self, sink: str, first: int, last: int) -> None: ...

    async def set_aside(self, sink: str, records: Sequence[OutboxRecord], why: str) -> None:
        """Keep what the sink refuses, for an expert."""

    async def rewind(self, sink: str) -> None:
        """The sink gets again what it acknowledged last."""

    async def changed(self) -> None: ...


class Forwarder:
    """Of one sink. `first_backoff` in seconds doubles with each failure in a row.

    `backfill`: as of Lanes. `trouble` says why it takes nothing now, or ''.
    """

    def __init__(
        self,
        outbox: Source,
        sink: Sink,
        *,
        backfill: bool = True,
        first_backoff: float = FIRST_BACKOFF_SECONDS,
    ) -> None:
        self.trouble = ""
        self._outbox = outbox
        self._sink = sink
        self._first_backoff = first_backoff
        self._lanes = Lanes(outbox, sink, backfill=backfill)
        self._connection = sink.connection
        self._refused_in_a_row = 0
        self._released = asyncio.Event()
        self._released.set()

    def hold(self) -> None:
        """Send nothing more until released; what is under way ends."""
        self._released.clear()

    def release(self) -> None:
        self._released.set()

    async def run(self) -> None:
        """Never ends by itself."""
        failures = 0
        while True:
            await self._released.wait()
            try:
                await self._step()
                failures = 0
            except StoreUnavailable as error:
                failures += 1
                _log.warning("outbox cannot be read", sink=self._sink.name, why=str(error))
                await self._back_off(failures, None)
            except HubUnavailable as error:
                failures += 1
                self._say(str(error))
                await self._back_off(failures, error.retry_after)

    async def _step(self) -> None:
        await self._send_again_after_a_break()
        fresh = await self._lanes.live()
        if fresh is not None:
            await self._deliver(fresh)
        oldest = await self._lanes.waiting()
        if oldest is not None:
            began = monotonic()
            await self._deliver(oldest)
            await asyncio.sleep(self._lanes.pause_after(monotonic() - began))
        elif fresh is None:
            await self._linger()

    async def _send_again_after_a_break(self) -> None:
        connection = self._sink.connection
        if connection != self._connection:
            if self._connection:
                await self._outbox.rewind(self._sink.name)
            self._connection = connection

    async def _linger(self) -> None:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._outbox.changed()
        except TimeoutError:
            return
        await asyncio.sleep(LINGER_SECONDS)

    async def _deliver(self, batch: OutboxBatch) -> None:
        """All of it, in ever smaller parts where it is refused."""
        wanted = [record for record in batch.records if record.kind in self._sink.kinds]
        parts: list[_Part] = [wanted] if wanted else []
        while parts:
            part = parts.pop()
            smaller = await self._sent(batch, part)
            if not smaller:
                await self._outbox.ack(self._sink.name, part[0].seq, _last_seq(part))
            parts += smaller
        await self._outbox.ack(self._sink.name, batch.records[0].seq, _last_seq(batch.records))

    async def _sent(self, batch: OutboxBatch, part: _Part) -> list[_Part]:
        """Empty once the sink has it or it is set aside; else its halves, the later one first."""
        failures = refusals = 0
        while True:
            await self._released.wait()
            try:
                await self._sink.send(batch._replace(records=part))
            except HubUnavailable as error:
                self._say(str(error))
                failures += 1
                await self._back_off(failures, error.retry_after)
            except HubRefused as error:
                refusals += 1
                if _length(part) > (FEW if error.for_good and self._many else 1):
                    return _halves(part)
                if self._is_set_aside(part, error, refusals):
                    await self._outbox.set_aside(self._sink.name, part, str(error))
                    return []
                failures += 1
                await self._back_off(failures, None)
            else:
                self._refused_in_a_row = 0
                self._say("")
                return []

    @property
    def _many(self) -> bool:
        return self._refused_in_a_row >= SUSPICIOUS

    def _is_set_aside(self, part: _Part, error: HubRefused, refusals: int) -> bool:
        """False: it is to be tried again."""
        if not error.for_good:
            if self._many:  # it is not the record: once that is mended it may be taken
                self._say(f"it refuses everything: {error}")
                return False
            if refusals < TRIES:
                return False
        self._refused_in_a_row += 1
        REFUSED.labels(self._sink.name).inc(_length(part))
        tell = _log.error if self._refused_in_a_row <= SUSPICIOUS else _log.debug
        tell("refused for good", sink=self._sink.name, seq=part[0].seq, records=_length(part),
             kind=part[0].kind, device=part[0].device, why=str(error))  # fmt: skip
        return True

    def _say(self, trouble: str) -> None:
        """Once, when it begins and when it is over."""
        if trouble and not self.trouble:
            _log.warning("sink takes nothing now", sink=self._sink.name, why=trouble)
        elif self.trouble and not trouble:
            _log.info("sink takes records again", sink=self._sink.name)
        self.trouble = trouble

    async def _back_off(self, failures: int, retry_after: float | None) -> None:
        """With jitter, so that a fleet does not come back all at once."""
        longest = min(LONGEST_BACKOFF_SECONDS, self._first_backoff * 2.0 ** min(failures - 1, 16))
        own = random.uniform(longest / 2, longest)  # noqa: S311 - no secret
        await asyncio.sleep(max(own, retry_after or 0.0))


def _length(records: Sequence[OutboxRecord]) -> int:
    return sum(max(1, len(record.samples)) for record in records)


def _last_seq(records: Sequence[OutboxRecord]) -> int:
    return records[-1].seq + max(1, len(records[-1].samples)) - 1


def _halves(part: _Part) -> list[_Part]:
    """Of two or more samples and records; a record of samples is parted too if it is alone."""
    if len(part) > 1:
        middle = len(part) // 2
        return [part[middle:], part[:middle]]
    record = part[0]
    middle = len(record.samples) // 2
    first = record._replace(samples=record.samples[:middle])
    second = record._replace(seq=record.seq + middle, samples=record.samples[middle:])
    return [[second], [first]]
