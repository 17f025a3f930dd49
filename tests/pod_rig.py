"""Driver and agent pods as processes of their own, around a real broker."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_process import COMMAND, Edge, ask, free_port, until

NODE = "edge-1"
STEPPED = [sys.executable, str(Path(__file__).parent / "stepped_clock.py")]
"""A driver whose wall clock jumps by an hour, a moment after its start."""


class Driver:
    """One `twinbridge driver`; started again it finds its state."""

    def __init__(
        self,
        folder: Path,
        bus: str,
        *more: str,
        protocol: str = "modbus",
        name: str = "driver",
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.state = folder / name
        self.port = free_port()
        self._said = folder / f"{name}.log"
        words = ["driver", protocol, "--bus", bus, "--node", NODE, "--state-dir", str(self.state)]
        self._words = [*command, *words, "--probes", f"127.0.0.1:{self.port}", *more]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self._said.read_text() if self._said.exists() else ""

    def start(self) -> None:
        with self._said.open("ab") as said:
            self.process = subprocess.Popen(self._words, stdout=said, stderr=subprocess.STDOUT)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(how)
        return process.wait(10)

    def health(self) -> dict[str, Any]:
        """What /readyz says; {} while it does not answer."""
        try:
            found = ask(self.port, "GET", "/readyz")[1]
        except OSError:
            return {}
        return found if isinstance(found, dict) else {}

    def serves(self, number: int = 1) -> bool:
        """Whether it has so many devices, all of which answer."""
        devices = self.health().get("devices", {})
        return devices == {"total": number, "connected": number}

    def until_serves(self, number: int = 1) -> None:
        until(lambda: self.serves(number), f"{number} devices are served: {self.log[-2000:]}", 30)

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(f"file:{self.state / 'state.db'}?mode=ro", uri=True) as database:
            return list(database.execute(f"SELECT * FROM {table}"))


@contextmanager
def driver(folder: Path, bus: str, *more: str, **options: Any) -> Iterator[Driver]:
    """Started, and killed at the end if it still runs."""
    running = Driver(folder, bus, *more, **options)
    running.start()
    try:
        yield running
    finally:
        running.kill()


@contextmanager
def agent(folder: Path, bus: str, definitions: Path, *more: str) -> Iterator[Edge]:
    """As `edge_process.edge`, with its drivers elsewhere."""
    running = Edge(definitions, folder / "agent", "--bus", bus, "--node", NODE, *more, role="agent")
    try:
        yield running
    finally:
        running.kill()
