"""A gap filled later has every sample, in the engines that others wrote."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING

import httpx
import pytest

from twinbridge.adapters.outbox_sqlite import open_outbox
from twinbridge.adapters.sink_remote_write import open_remote_write
from twinbridge.app.forwarding import FEW, Forwarder
from twinbridge.core.model import MILLISECOND, SECOND, Quality, Reason, Sample
from twinbridge.errors import HubUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from twinbridge.adapters.outbox_sqlite import SqliteOutbox
    from twinbridge.ports import Sink

SAMPLES = 3_000
SELECTOR = 'twinbridge_reported{device="press",property="p",edge_id="e1"}[2h]'


@contextmanager
def engine(name: str, folder: Path, port: int, config: str = "") -> Iterator[None]:
    address = f"127.0.0.1:{port}"
    (folder / "config.yaml").write_text(config)
    command = {
        "victoria-metrics": [
            f"-httpListenAddr={address}",
            f"-storageDataPath={folder}/data",
            "-search.latencyOffset=0s",
        ],
        "prometheus": [
            f"--config.file={folder}/config.yaml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={address}",
            "--web.enable-remote-write-receiver",
        ],
    }[name]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([name, *command], stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def stored(client: httpx.AsyncClient, count: int = SAMPLES) -> list[list[object]]:
    """Poll the engine until it shows so many samples, or has had its time."""
    deadline = time.monotonic() + 15
    values: list[list[object]] = []
    while len(values) < count and time.monotonic() < deadline:
        answer = await client.get("/api/v1/query", params={"query": SELECTOR})
        result = answer.json()["data"]["result"]
        values = result[0]["values"] if result else []
        await asyncio.sleep(0.1)
    return values


@pytest.mark.parametrize("name", ["victoria-metrics", "prometheus"])
def test_every_sample_of_an_outage_is_there_after_it(name: str, tmp_path: Path) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    start = time.time_ns() - 3_100 * SECOND
    samples = [
        ("p", Sample(n, Quality.GOOD, Reason.NONE, start + n * SECOND, n)) for n in range(SAMPLES)
    ]

    async def scenario() -> None:
        async with (
            open_outbox(tmp_path / "outbox", sinks={"prometheus": 0}) as outbox,
            open_remote_write(f"{base}/api/v1/write", {"edge_id": "e1"}) as sink,
            httpx.AsyncClient(base_url=base, trust_env=False) as client,
            forwarding(outbox, sink),
        ):
            for first in range(0, SAMPLES, 1_000):
                outbox.put_samples("press", samples[first : first + 1_000])
                await outbox.settle()
            with engine(name, tmp_path, port):
                await emptied(outbox)
                values = await stored(client)
            told = [(round(float(str(at)) * 1000), float(str(v))) for at, v in values]
            assert told == [
                (s.source_time // MILLISECOND, float(n)) for n, (_, s) in enumerate(samples)
            ]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("name", "config", "late"),
    [
        ("victoria-metrics", "", True),
        ("prometheus", "storage: {tsdb: {out_of_order_time_window: 1d}}", True),
        ("prometheus", "", False),
    ],
)
def test_whether_an_engine_takes_late_samples_is_found_out(
    name: str, config: str, tmp_path: Path, *, late: bool
) -> None:
    port = free_port()

    async def scenario() -> None:
        with engine(name, tmp_path, port, config):
            url = f"http://127.0.0.1:{port}/api/v1/write"
            async with open_remote_write(url, {"edge_id": "e1"}) as sink:
                since = time.time_ns() - 6 * 3600 * SECOND
                assert await asking(lambda: sink.takes_late(since)) is late

    asyncio.run(scenario())


def test_what_prometheus_will_never_take_does_not_hold_up_the_rest(tmp_path: Path) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    now = time.time_ns()
    ancient = [
        ("old", Sample(n, Quality.GOOD, Reason.NONE, now - 9 * 3600 * SECOND + n * MILLISECOND, n))
        for n in range(400)
    ]
    young = [
        ("p", Sample(n, Quality.GOOD, Reason.NONE, now - (SAMPLES - n) * MILLISECOND, n))
        for n in range(SAMPLES)
    ]

    async def scenario() -> None:
        async with (
            open_outbox(tmp_path / "outbox", sinks={"prometheus": 0}) as outbox,
            open_remote_write(f"{base}/api/v1/write", {"edge_id": "e1"}) as sink,
            httpx.AsyncClient(base_url=base, trust_env=False) as client,
        ):
            with engine("prometheus", tmp_path, port):
                await asking(lambda: sink.takes_late(now))
                outbox.put_samples("press", ancient)
                outbox.put_samples("press", young)
                await outbox.settle()
                async with forwarding(outbox, sink):
                    await emptied(outbox)
                    values = await stored(client, SAMPLES - FEW)
                    assert SAMPLES - FEW < len(values) <= SAMPLES
                    assert values[-1][1] == str(SAMPLES - 1)

    asyncio.run(scenario())


def test_a_lost_device_ends_its_series_and_keeps_its_last_value(tmp_path: Path) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    start = time.time_ns() - 10 * SECOND
    good = ("p", Sample(7, Quality.GOOD, Reason.NONE, start, 1))
    lost = ("p", Sample(7, Quality.BAD, Reason.COMM_LOST, start + 2 * SECOND, 1))

    async def scenario() -> None:
        async with (
            open_outbox(tmp_path / "outbox", sinks={"prometheus": 0}) as outbox,
            open_remote_write(f"{base}/api/v1/write", {"edge_id": "e1"}) as sink,
            httpx.AsyncClient(base_url=base, trust_env=False) as client,
            forwarding(outbox, sink),
        ):
            with engine("prometheus", tmp_path, port):
                outbox.put_samples("press", [good])
                await outbox.settle()
                outbox.put_samples("press", [lost])
                await outbox.settle()
                await emptied(outbox)
                assert [await at(client, start + n * SECOND) for n in (1, 3)] == ["7", None]

    asyncio.run(scenario())


async def at(client: httpx.AsyncClient, when: int) -> str | None:
    """The value that the engine shows at that time, UTC ns."""
    query = {"query": 'twinbridge_reported{device="press"}', "time": str(when / SECOND)}
    answer = await client.get("/api/v1/query", params=query)
    result = answer.json()["data"]["result"]
    return str(result[0]["value"][1]) if result else None


@asynccontextmanager
async def forwarding(outbox: SqliteOutbox, sink: Sink) -> AsyncIterator[None]:
    task = asyncio.create_task(Forwarder(outbox, sink, first_backoff=0.1).run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def emptied(outbox: SqliteOutbox) -> None:
    async with asyncio.timeout(40):
        while outbox.depth:  # noqa: ASYNC110 - the outbox has no event for being empty
            await asyncio.sleep(0.05)


async def asking(ask: Callable[[], Awaitable[bool]]) -> bool:
    """Until the engine answers."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await ask()
            except HubUnavailable:
                await asyncio.sleep(0.05)
