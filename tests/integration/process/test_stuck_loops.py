"""A loop that stands is seen by the probes and by systemd; nobody else is taken for it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from asking import get
from edge_process import edge, machines
from line import MODEL, bank, device
from prometheus_client import CollectorRegistry

from twinbridge.cli.health import BEAT, LoopLag, links_verdict, probes_running
from twinbridge.cli.loops import LoopThread, loop_thread
from twinbridge.cli.notify import service_managed
from twinbridge.rest.probes import Health

BOUND = 30.0
FED = 0.2
"""Seconds between two feeds of the watchdog."""
STUCK = 2 * BEAT


@dataclass
class Process:
    """One loop that works, one of its own thread that can be made to stand, and the probes."""

    lag: LoopLag
    url: str
    machines: LoopThread

    async def ask(self, path: str) -> tuple[int, str]:
        return await asyncio.to_thread(get, self.url + path)

    async def until_status(self, status: int) -> str:
        async with asyncio.timeout(BOUND):
            answer = 0, ""
            while answer[0] != status:
                answer = await self.ask("/healthz")
        return answer[1]

    @asynccontextmanager
    async def standing(self) -> AsyncIterator[None]:
        """The machines' loop computes for as long as the context lasts."""
        over = threading.Event()

        async def hang() -> None:
            over.wait(BOUND)

        hanging = asyncio.create_task(self.machines.call(hang()))
        try:
            yield
        finally:
            over.set()
            await hanging


async def _watched(lag: LoopLag, watched: asyncio.Event) -> None:
    with lag.watching("machines"):
        watched.set()
        await asyncio.Event().wait()


@asynccontextmanager
async def process(stuck_after: float = STUCK) -> AsyncIterator[Process]:
    lag = LoopLag(stuck_after)
    metrics = CollectorRegistry()
    metrics.register(lag)
    health = Health(lag.live, lambda: links_verdict(None))
    async with (
        probes_running(health, metrics, "127.0.0.1", 0) as url,
        loop_thread("machines") as thread,
    ):
        watched = asyncio.Event()
        watching = asyncio.ensure_future(thread.call(_watched(lag, watched)))
        with lag.watching("agent"):
            async with asyncio.timeout(BOUND):
                while not watched.is_set():  # noqa: ASYNC110 - set in another loop
                    await asyncio.sleep(0.01)
            yield Process(lag, url, thread)
        watching.cancel()


def test_healthz_names_the_loop_that_stands_and_is_well_again_when_it_turns() -> None:
    async def scenario() -> None:
        async with process() as running:
            await running.until_status(200)
            async with running.standing():
                said = json.loads(await running.until_status(503))
                assert said["status"] == "stuck"
                assert list(said["loops"]) == ["machines"]
                assert said["loops"]["machines"]["seconds"] >= STUCK
                assert said["loops"]["machines"]["since"].endswith("Z")
            await running.until_status(200)
            _, metrics = await running.ask("/metrics")
            shown = dict(line.split(" ") for line in metrics.splitlines() if line[0] != "#")
            lag = float(shown['twinbridge_loop_lag_seconds{loop="machines"}'])
            assert lag >= STUCK, "the worst of the last seconds stays visible"

    asyncio.run(scenario())


def test_the_probes_answer_while_the_loop_that_opened_them_stands() -> None:
    async def scenario() -> None:
        async with process() as running:
            threading.Event().wait(3 * BEAT)  # this very loop stands, on purpose
            status, said = get(f"{running.url}/healthz")
            assert (status, list(json.loads(said)["loops"])) == (503, ["agent"])

    asyncio.run(scenario())


def test_a_loop_that_has_ended_its_watch_is_judged_no_more() -> None:
    async def scenario() -> None:
        async with process() as running:
            with running.lag.watching("brief"):
                pass
            (lags,) = running.lag.collect()
            assert {sample.labels["loop"] for sample in lags.samples} == {"agent", "machines"}

    asyncio.run(scenario())


@contextmanager
def service_manager(address: str) -> Iterator[socket.socket]:
    """What systemd listens on; `@…` is an abstract address."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        there.settimeout(BOUND)
        yield there


def empty(there: socket.socket) -> list[bytes]:
    """What has come."""
    there.setblocking(False)
    found = []
    with suppress(BlockingIOError):
        while True:
            found.append(there.recv(1000))
    there.settimeout(BOUND)
    return found


def watchdog(address: str, seconds: float) -> dict[str, str]:
    return {
        "NOTIFY_SOCKET": address,
        "WATCHDOG_USEC": str(int(seconds * 1_000_000)),
        "WATCHDOG_PID": str(os.getpid()),
    }


@pytest.mark.parametrize("abstract", [False, True])
def test_the_watchdog_is_fed_while_every_loop_turns_and_starves_when_one_stands(
    tmp_path: Path, *, abstract: bool
) -> None:
    address = f"@twinbridge-{os.getpid()}" if abstract else str(tmp_path / "notify")

    async def scenario(systemd: socket.socket) -> None:
        async with process() as running:
            with service_managed(running.lag, watchdog(address, 3 * FED)) as manager:
                manager.tell("READY=1")
                assert systemd.recv(1000) == b"READY=1"
                assert await asyncio.to_thread(systemd.recv, 1000) == b"WATCHDOG=1"
                async with running.standing():
                    await running.until_status(503)
                    assert empty(systemd), "what came before it stood too long"
                    await asyncio.sleep(2 * FED)
                    assert not empty(systemd)
                assert await asyncio.to_thread(systemd.recv, 1000) == b"WATCHDOG=1"
            said = b""
            while said != b"STOPPING=1":
                said = systemd.recv(1000)

    with service_manager(address) as systemd:
        asyncio.run(scenario(systemd))


def test_the_watchdog_of_another_process_is_not_ours() -> None:
    other = watchdog("/nowhere", 1) | {"WATCHDOG_PID": "1"}
    with service_managed(LoopLag(), other) as manager:
        assert manager.watchdog == 0
        manager.tell("READY=1")  # nobody listens there, and the work goes on


def test_run_tells_systemd_that_it_is_ready_alive_and_about_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    with service_manager(address) as systemd, machines({1: bank(1)}) as plc:
        (tmp_path / "plant.yaml").write_text(MODEL + device("a", plc.port))
        with edge(tmp_path / "plant.yaml", tmp_path / "state") as running:
            told = [systemd.recv(1000)]
            while b"READY=1" not in told or told.count(b"WATCHDOG=1") < 2:
                told.append(systemd.recv(1000))
            running.process.send_signal(signal.SIGTERM)
            while told[-1] != b"STOPPING=1":
                told.append(systemd.recv(1000))
            assert running.process.wait(15) == 0, running.log
