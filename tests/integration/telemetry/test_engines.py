"""A gap filled later has every sample, in the engines that others wrote."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from twinbridge.adapters.outbox_sqlite import open_outbox
from twinbridge.adapters.sink_remote_write import open_remote_write
from twinbridge.app.forwarding import Forwarder
from twinbridge.core.model import MILLISECOND, SECOND, Quality, Reason, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SAMPLES = 3_000
SELECTOR = 'twinbridge_reported{device="press",property="p",edge_id="e1"}[2h]'


@contextmanager
def engine(name: str, folder: Path, port: int) -> Iterator[None]:
    address = f"127.0.0.1:{port}"
    (folder / "config.yaml").write_text("")
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


async def stored(client: httpx.AsyncClient) -> list[list[object]]:
    """Poll the engine until it shows all samples, or has had its time."""
    deadline, values = time.monotonic() + 15, []
    while len(values) < SAMPLES and time.monotonic() < deadline:
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
            open_outbox(tmp_path / "outbox", sinks=["prometheus"]) as outbox,
            open_remote_write(f"{base}/api/v1/write", {"edge_id": "e1"}) as sink,
            httpx.AsyncClient(base_url=base, trust_env=False) as client,
        ):
            forwarding = asyncio.create_task(Forwarder(outbox, [sink], first_backoff=0.1).run())
            for first in range(0, SAMPLES, 1_000):
                outbox.put_samples("press", samples[first : first + 1_000])
                await outbox.settle()
            with engine(name, tmp_path, port):
                async with asyncio.timeout(40):
                    while outbox.depth:  # noqa: ASYNC110 - the outbox has no event for being empty
                        await asyncio.sleep(0.05)
                values = await stored(client)
            forwarding.cancel()
            await asyncio.wait([forwarding])
            told = [(round(float(str(at)) * 1000), float(str(v))) for at, v in values]
            assert told == [
                (s.source_time // MILLISECOND, float(n)) for n, (_, s) in enumerate(samples)
            ]

    asyncio.run(scenario())
