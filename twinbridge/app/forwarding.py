"""From the outbox to the sinks: each at its own pace, in order, until it has everything."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Final, Protocol

import structlog
from prometheus_client import Counter

from twinbridge.errors import HubRefused, HubUnavailable, StoreUnavailable
from twinbridge.ports import OutboxBatch, OutboxRecord, Sink

BATCH: Final = 5_000
"""Samples and records at once."""
LINGER_SECONDS: Final = 0.1
"""What comes within it goes along."""
LOOK_SECONDS: Final = 1.0
FIRST_BACKOFF_SECONDS: Final = 0.5
LONGEST_BACKOFF_SECONDS: Final = 30.0
TRIES: Final = 5
"""So often is a single record refused before it is set aside."""

REFUSED: Final = Counter(
    "twinbridge_forward_refused",
    "Samples and records set aside since the sink refused each of them, by sink.",
    ["sink"],
)

_log = structlog.get_logger(__name__)


class Source(Protocol):
    """The outbox as it is read: `read` and `ack` raise StoreUnavailable."""

    async def read(self, sink: str, limit: int) -> OutboxBatch | None: ...

    async def ack(self, sink: str, seq: int) -> None: ...

    async def changed(self) -> None: ...


class Forwarder:
    """`first_backoff` in seconds doubles with each failure in a row."""

    def __init__(
        self,
        outbox: Source,
        sinks: Sequence[Sink],
        *,
        first_backoff: float = FIRST_BACKOFF_SECONDS,
    ) -> None:
        self._outbox = outbox
        self._sinks = sinks
        self._first_backoff = first_backoff
        self._released = asyncio.Event()
        self._released.set()

    def hold(self) -> None:
        """Send nothing more until released; what is under way ends."""
        self._released.clear()

    def release(self) -> None:
        self._released.set()

    async def run(self) -> None:
        """Never ends by itself."""
        async with asyncio.TaskGroup() as tasks:
            for sink in self._sinks:
                tasks.create_task(self._serve(sink), name=f"forward to {sink.name}")

    async def _serve(self, sink: Sink) -> None:
        failures = 0
        while True:
            await self._released.wait()
            try:
                batch = await self._outbox.read(sink.name, BATCH)
                if batch is None:
                    await self._linger()
                else:
                    await self._deliver(sink, batch)
                failures = 0
            except StoreUnavailable as error:
                failures += 1
                _log.warning("outbox cannot be read", sink=sink.name, why=str(error))
                await self._back_off(failures, None)

    async def _linger(self) -> None:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._outbox.changed()
        except TimeoutError:
            return
        await asyncio.sleep(LINGER_SECONDS)

    async def _deliver(self, sink: Sink, batch: OutboxBatch) -> None:
        """All of it, in ever smaller parts where it is refused."""
        wanted = [record for record in batch.records if record.kind in sink.kinds]
        parts = [wanted] if wanted else []
        while parts:
            part = parts.pop()
            if await self._taken(sink, batch, part):
                await self._outbox.ack(sink.name, _last_seq(part))
            else:
                parts += reversed(_halves(part))
        await self._outbox.ack(sink.name, _last_seq(batch.records))

    async def _taken(self, sink: Sink, batch: OutboxBatch, part: Sequence[OutboxRecord]) -> bool:
        """False: it is refused, and more than one. One is tried again, then set aside."""
        failures = refusals = 0
        while True:
            await self._released.wait()
            try:
                await sink.send(batch._replace(records=part))
            except HubUnavailable as error:
                failures += 1
                if failures == 1:
                    _log.warning("sink takes nothing now", sink=sink.name, why=str(error))
                await self._back_off(failures, error.retry_after)
            except HubRefused as error:
                if _length(part) > 1:
                    return False
                refusals += 1
                if refusals == TRIES:
                    self._set_aside(sink, part[0], error)
                    return True
                await self._back_off(refusals, None)
            else:
                if failures:
                    _log.info("sink takes records again", sink=sink.name)
                return True

    def _set_aside(self, sink: Sink, record: OutboxRecord, error: HubRefused) -> None:
        REFUSED.labels(sink.name).inc()
        _log.error("record refused for good", sink=sink.name, seq=record.seq, kind=record.kind,
                   device=record.device, why=str(error))  # fmt: skip

    async def _back_off(self, failures: int, retry_after: float | None) -> None:
        """With jitter, so that a fleet does not come back all at once."""
        longest = min(LONGEST_BACKOFF_SECONDS, self._first_backoff * 2.0 ** min(failures - 1, 16))
        own = random.uniform(longest / 2, longest)  # noqa: S311 - no secret
        await asyncio.sleep(max(own, retry_after or 0.0))


def _length(records: Sequence[OutboxRecord]) -> int:
    return sum(max(1, len(record.samples)) for record in records)


def _last_seq(records: Sequence[OutboxRecord]) -> int:
    return records[-1].seq + max(1, len(records[-1].samples)) - 1


def _halves(records: Sequence[OutboxRecord]) -> list[list[OutboxRecord]]:
    """Of two or more samples and records; a record of samples is parted too if it is alone."""
    if len(records) > 1:
        middle = len(records) // 2
        return [list(records[:middle]), list(records[middle:])]
    record = records[0]
    middle = len(record.samples) // 2
    first = record._replace(samples=record.samples[:middle])
    second = record._replace(seq=record.seq + middle, samples=record.samples[middle:])
    return [[first], [second]]
