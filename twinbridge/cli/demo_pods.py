"""The demo's edge as processes: a broker, a driver for each protocol, and an agent.

They live in process groups of their own, write their logs into the state folder, and end with the
demo, however it ends.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import pwd
import shutil
import signal
import socket
import sqlite3
import sys
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from pathlib import Path

from twinbridge.cli.story import StoryError
from twinbridge.errors import Unreachable

BROKER, AGENT = "broker", "agent"
DRIVERS = ("modbus", "opcua", "mqtt")
NODE = "edge-1"
"""As the examples name it."""

COMMAND = (sys.executable, "-c", "from twinbridge.cli.main import main; main()")
LAST_LINES = 5
LISTENS_WITHIN = 10.0
STOPS_WITHIN = 6.0
"""Seconds; a stop takes 5 at most."""
NOTICED_WITHIN = 1.0
_PR_SET_PDEATHSIG = 1


class Pods:
    """The processes by name; one that ends by itself is a StoryError."""

    def __init__(
        self, group: asyncio.TaskGroup, commands: dict[str, Sequence[str]], folder: Path
    ) -> None:
        self._group = group
        self._commands = commands
        self._folder = folder
        self._running: dict[str, Process] = {}

    async def start(self, name: str) -> None:
        """Raises StoryError when it cannot be started."""
        with self._log(name).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *self._commands[name],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_ending_with_us(),
            )
        self._running[name] = process
        self._group.create_task(self._watch(name, process), name=f"watch {name}")

    async def kill(self, name: str) -> None:
        """As a crash does: kill -9. Returns once it is gone."""
        process = self._running.pop(name)
        _signal(process, signal.SIGKILL)
        await process.wait()

    async def stop(self) -> None:
        """All of them; who does not end in time is killed."""
        running, self._running = self._running, {}
        broker = running.pop(BROKER, None)
        async with asyncio.TaskGroup() as group:
            for name, process in running.items():
                group.create_task(_end(process), name=f"stop {name}")
        if broker is not None:  # last: it takes the others' farewells
            await _end(broker)

    def audit(self, subject: str) -> Counter[str]:
        """How often the agent has recorded what of an alarm, as it stands on its disk."""
        file = f"file:{self._folder / AGENT / 'state.db'}?mode=ro"
        with closing(sqlite3.connect(file, uri=True)) as db:
            rows = db.execute("SELECT kind FROM audit WHERE subject = ?", (subject,))
            return Counter(kind for (kind,) in rows)

    async def _watch(self, name: str, process: Process) -> None:
        code = await process.wait()
        if self._running.get(name) is process:
            del self._running[name]
            said = await asyncio.to_thread(self._log(name).read_text, errors="replace")
            last = "\n".join(said.splitlines()[-LAST_LINES:])
            raise StoryError(f"{name} ended by itself, with {code}; it said last:\n{last}")

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"


@asynccontextmanager
async def pods_running(
    paths: Sequence[str], folder: Path, host: str, port: int
) -> AsyncIterator[Pods]:
    """Broker, drivers and agent, until the block ends. Raises Unreachable without mosquitto."""
    broker_port = _free_port()
    commands: dict[str, Sequence[str]] = {BROKER: _broker(folder, broker_port)}
    common = ("--bus", f"mqtt://127.0.0.1:{broker_port}", "--node", NODE)
    for name in DRIVERS:
        state = str(folder / name)
        commands[name] = (*COMMAND, "driver", name, *common, "--state-dir", state)
    files = [word for path in paths for word in ("-f", path)]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    state = str(folder / AGENT)
    commands[AGENT] = (*COMMAND, "agent", *files, *common, "--state-dir", state, "--api", address)
    async with asyncio.TaskGroup() as group:
        pods = Pods(group, commands, folder)
        try:
            await pods.start(BROKER)
            await _listening(broker_port)
            for name in (AGENT, *DRIVERS):
                await pods.start(name)
            yield pods
        except Exception:
            await asyncio.sleep(NOTICED_WITHIN)  # who died says more than what it left undone
            raise
        finally:
            await pods.stop()


def _broker(folder: Path, port: int) -> Sequence[str]:
    """Of this machine alone; what is retained survives it."""
    program = shutil.which("mosquitto") or shutil.which(
        "mosquitto", path="/usr/sbin:/usr/local/sbin"
    )
    if program is None:
        raise Unreachable(
            "--pods needs the broker mosquitto, which is in no folder of PATH, nor in /usr/sbin;"
            " on Debian: apt install mosquitto"
        )
    kept = folder / BROKER
    kept.mkdir()
    configuration = kept / "mosquitto.conf"
    lines = (
        f"user {pwd.getpwuid(os.getuid()).pw_name}",  # it would leave root for one without access
        f"listener {port} 127.0.0.1",
        "allow_anonymous true",
        "persistence true",
        f"persistence_location {kept}/",
        "autosave_interval 1",
    )
    configuration.write_text("".join(f"{line}\n" for line in lines))
    return (program, "-c", str(configuration))


async def _listening(port: int) -> None:
    try:
        async with asyncio.timeout(LISTENS_WITHIN):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    await writer.wait_closed()
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise StoryError(f"mosquitto does not listen on port {port}") from None


async def _end(process: Process) -> None:
    _signal(process, signal.SIGTERM)
    try:
        async with asyncio.timeout(STOPS_WITHIN):
            await process.wait()
    except TimeoutError:
        pass
    finally:
        _signal(process, signal.SIGKILL)  # what is left of its group


def _signal(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _ending_with_us() -> Callable[[], None] | None:
    """What a child does before it becomes its program, so that it outlives no kill -9 of ours."""
    if sys.platform != "linux":
        return None
    return partial(_end_with_parent, ctypes.CDLL(None).prctl, os.getpid())


def _end_with_parent(prctl: Callable[[int, int], int], parent: int) -> None:
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was quicker
        os._exit(1)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
