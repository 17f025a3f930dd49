"""An outage of a million samples, told to a real VictoriaMetrics while live samples go up.

`--samples` of 1,000 devices wait in an outbox on disk until they are of an outage; then the engine
is there. Every second 100 live samples come: how long until the engine has acknowledged each,
before the backfill (the outbox empty) and during it. The floor posts the same batches, made ready
before, without an outbox and without the half of the time that is left to others. Ends with exit
code 1 when a sample is missing.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median, quantiles

import httpx
from rig import Broken, arguments, finish, free_port, process, show

from twinbridge.adapters.outbox_sqlite import SqliteOutbox, open_outbox
from twinbridge.adapters.sink_remote_write import RemoteWrite, open_remote_write
from twinbridge.adapters.sink_remote_write.sink import encoded
from twinbridge.app.forwarding import Forwarder
from twinbridge.app.lanes import BATCH
from twinbridge.core.model import SECOND, Quality, Reason, Sample
from twinbridge.ports import OutboxBatch, OutboxRecord

DEVICES = 1_000
EACH = 10
"""Samples of one device at once, as of ten seconds of one property a second."""
LIVE_SECONDS = 10.0
PATIENCE = 600.0


def reading(value: int, at: int) -> tuple[str, Sample]:
    return f"value-{value % 20}", Sample(value, Quality.GOOD, Reason.NONE, at, value)


class Watched:
    """A sink that notes when the engine had each sample of the device `live`, seconds monotonic."""

    name, connection = "prometheus", 0

    def __init__(self, sink: RemoteWrite) -> None:
        self._sink = sink
        self.kinds = sink.kinds
        self.takes_late = sink.takes_late
        self.had: dict[int, float] = {}

    async def send(self, batch: OutboxBatch) -> None:
        await self._sink.send(batch)
        now = time.monotonic()
        for record in batch.records:
            if record.device == "live":
                self.had.update((sample.seq, now) for _, sample in record.samples)


class Live:
    """100 samples a second, one by one; `delays` in ms until the engine had them."""

    def __init__(self, outbox: SqliteOutbox, sink: Watched) -> None:
        self._outbox = outbox
        self._sink = sink
        self._put: dict[int, float] = {}

    async def run(self) -> None:
        number = 0
        while True:
            number += 1
            self._put[number] = time.monotonic()
            self._outbox.put_samples("live", [reading(number, time.time_ns())])
            await asyncio.sleep(0.01)

    @property
    def count(self) -> int:
        return len(self._put)

    def delays(self, begin: float, end: float) -> list[float]:
        """Of what was put within these seconds; what the engine never had is an error."""
        asked = [number for number, at in self._put.items() if begin <= at < end]
        if missing := [number for number in asked if number not in self._sink.had]:
            raise Broken(f"{len(missing)} live samples never came to the engine")
        return [1000 * (self._sink.had[number] - self._put[number]) for number in asked]


async def fill(outbox: SqliteOutbox, samples: int) -> None:
    """As an outage leaves it: some samples of each device in each flush."""
    start = time.time_ns() - 3600 * SECOND
    for first in range(0, samples, DEVICES * EACH):
        for device in range(min(DEVICES, (samples - first) // EACH)):
            place = first // DEVICES
            batch = [reading(place + n, start + (place + n) * SECOND // 10) for n in range(EACH)]
            outbox.put_samples(f"box-{device}", batch)
        await outbox.settle()


async def floor(url: str, samples: int) -> float:
    """Samples a second of bare requests that were made ready before."""
    start = time.time_ns() - 7200 * SECOND
    records = [
        OutboxRecord(
            1,
            "samples",
            f"floor-{device}",
            0,
            0,
            [reading(n, start + n * SECOND) for n in range(EACH)],
        )
        for device in range(BATCH // EACH)
    ]
    bodies = [encoded(records, {"edge_id": f"{n}"}) for n in range(samples // BATCH)]
    async with open_remote_write(url, {}) as sink:
        began = time.monotonic()
        for body in bodies:
            await sink.post(body)
        return samples / (time.monotonic() - began)


@asynccontextmanager
async def engine(folder: str, port: int) -> AsyncIterator[httpx.AsyncClient]:
    base = f"http://127.0.0.1:{port}"
    async with (
        process(
            "victoria-metrics",
            f"-httpListenAddr=127.0.0.1:{port}",
            f"-storageDataPath={folder}/engine",
            "-search.latencyOffset=0s",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        ),
        httpx.AsyncClient(base_url=base, trust_env=False, timeout=60) as client,
    ):
        await _until(lambda: _answers(client))
        yield client


async def _answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/health")).is_success
    except httpx.TransportError:
        return False


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Polls; raises Broken when it takes too long."""
    end = time.monotonic() + PATIENCE
    while not await holds():
        if time.monotonic() > end:
            raise Broken("the engine has not got everything in time")
        await asyncio.sleep(0.2)


async def stored(client: httpx.AsyncClient) -> int:
    query = 'sum(count_over_time(twinbridge_reported{edge_id="e1"}[1d]))'
    answer = await client.get("/api/v1/query", params={"query": query})
    result = answer.json()["data"]["result"]
    return int(result[0]["value"][1]) if result else 0


async def measured(samples: int) -> Mapping[str, float]:
    port = free_port()
    url = f"http://127.0.0.1:{port}/api/v1/write"
    with tempfile.TemporaryDirectory() as folder:
        async with (
            engine(folder, port) as client,
            open_remote_write(url, {"edge_id": "e1"}) as sink,
        ):
            bare = await floor(url, min(samples, 200_000))
            watched = Watched(sink)
            async with open_outbox(Path(folder, "outbox"), sinks={"prometheus": 0}) as outbox:
                return await _measured(samples, bare, outbox, watched, client)


async def _measured(
    samples: int, bare: float, outbox: SqliteOutbox, sink: Watched, client: httpx.AsyncClient
) -> Mapping[str, float]:
    live = Live(outbox, sink)
    forwarder = Forwarder(outbox, sink)
    tasks = [asyncio.create_task(live.run()), asyncio.create_task(forwarder.run())]
    idle = (time.monotonic(), time.monotonic() + LIVE_SECONDS)
    await asyncio.sleep(LIVE_SECONDS + 3)
    forwarder.hold()
    await fill(outbox, samples)
    size = outbox.size
    await asyncio.sleep(6)  # what waits for longer than 5 s is of an outage
    began = time.monotonic()
    forwarder.release()
    await _until(lambda: _gone(outbox))
    took = time.monotonic() - began
    await asyncio.sleep(3)
    tasks[0].cancel()
    await asyncio.sleep(3)
    tasks[1].cancel()
    await asyncio.wait(tasks)
    expected = samples + live.count

    async def complete() -> bool:
        return await stored(client) >= expected

    await _until(complete)
    if (found := await stored(client)) != expected:
        raise Broken(f"{found} samples at the engine in place of {expected}")
    before, during = live.delays(*idle), live.delays(began, began + took)
    return {
        "samples": samples,
        "outbox_mb": size / 1e6,
        "floor_per_s": bare,
        "per_s": samples / took,
        "ratio": samples / took / bare,
        "live_p50_ms": median(before),
        "live_p99_ms": quantiles(before, n=100)[98],
        "during_p50_ms": median(during),
        "during_p99_ms": quantiles(during, n=100)[98],
    }


async def _gone(outbox: SqliteOutbox) -> bool:
    return outbox.depth < BATCH


async def backfill(samples: int, *, as_json: bool) -> None:
    figures = await measured(samples)
    show("an outage told later", {"twinbridge": figures}, as_json=as_json)


if __name__ == "__main__":
    given = arguments(__doc__, samples=1_000_000).parse_args()
    finish(backfill(given.samples, as_json=given.json))
