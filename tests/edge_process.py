"""`twinbridge run` as a process of its own, and machines that live on when it is killed."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twinbridge_simulators.modbus_server import ModbusServer
from twinbridge_simulators.registers import RegisterBank

COMMAND = [sys.executable, "-c", "from twinbridge.cli.main import main; main()"]


def until(seen: Callable[[], object], what: str, seconds: float = 15.0) -> None:
    """Poll until it is so; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end, f"never came: {what}"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=30, check=False
    )


@contextmanager
def machines(units: Mapping[int, RegisterBank]) -> Iterator[ModbusServer]:
    """A Modbus server on a thread of its own; banks may be looked at and set from the test."""
    loop = asyncio.new_event_loop()
    server = ModbusServer("127.0.0.1", 0, dict(units))
    thread = threading.Thread(target=loop.run_forever, name="machines")
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
        try:
            yield server
        finally:
            closing = server.__aexit__(None, None, None)
            asyncio.run_coroutine_threadsafe(closing, loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def ask(port: int, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Status and body; raises OSError when nobody answers."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json"},
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            status, text = refusal.code, refusal.read()
    try:
        return status, json.loads(text or b"null")
    except ValueError:
        return status, text.decode()


class Edge:
    """One `twinbridge run`, or agent; `log` is all that it has said."""

    def __init__(self, definitions: Path, state: Path, *more: str, role: str = "run") -> None:
        self.port = free_port()
        self._said = state.parent / f"edge-{self.port}.log"
        address = f"127.0.0.1:{self.port}"
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [*COMMAND, role, "-f", definitions, "--state-dir", state, "--api", address, *more],
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> str:
        return self._said.read_text()

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and body; raises OSError when the edge does not answer."""
        return ask(self.port, method, path, body)

    def get(self, path: str) -> Any:
        return self.ask("GET", path)[1]

    def ready(self, connected: int = 1) -> None:
        """Wait until it serves, with so many devices connected."""

        def seen() -> bool:
            assert self.process.poll() is None, self.log
            try:
                return bool(self.get("/readyz")["devices"]["connected"] >= connected)
            except OSError:
                return False

        until(seen, f"{connected} devices connected")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


@contextmanager
def edge(definitions: Path, state: Path, *more: str) -> Iterator[Edge]:
    """Killed at the end if it still runs."""
    running = Edge(definitions, state, *more)
    try:
        yield running
    finally:
        running.kill()
