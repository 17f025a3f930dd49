"""What every benchmark stands on: the processes, what they cost, and the table that says it.

The load generator, the floor and TwinBridge each run in a process of their own; CPU and memory
are read from /proc, over a window that opens after the start has settled.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import sysconfig
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx
from definitions import definitions
from load import Load
from prometheus_client.parser import text_string_to_metric_families

HERE = Path(__file__).parent
TWINBRIDGE = Path(sysconfig.get_path("scripts"), "twinbridge")
TICKS = os.sysconf("SC_CLK_TCK")
START_LIMIT = 60.0
NODE = "bench"
Pipe = int | IO[bytes] | None


class Broken(Exception):
    """The benchmark could not be done, or what was measured did the wrong thing."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one process over one window."""

    core: float
    """Share of one core, 1.0 = all of it."""
    resident: float
    """MiB at the end."""


@asynccontextmanager
async def process(
    *command: object, stdin: Pipe = None, stdout: Pipe = None, stderr: Pipe = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A child that is asked to end on the way out, and killed if it will not in 10 s."""
    child = await asyncio.create_subprocess_exec(
        *map(str, command), stdin=stdin, stdout=stdout, stderr=stderr
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.terminate()
            try:
                await asyncio.wait_for(child.wait(), 10)
            except TimeoutError:
                child.kill()
                await child.wait()


@dataclass
class Generator:
    """The load generator as its parent sees it."""

    child: asyncio.subprocess.Process
    ports: Sequence[int]
    dead: Sequence[int]
    writes: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)

    def tell(self, do: str, device: int) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write(json.dumps({"do": do, "device": device}).encode() + b"\n")

    async def listen(self) -> None:
        assert self.child.stdout is not None
        async for line in self.child.stdout:
            self.writes.put_nowait(json.loads(line))


@asynccontextmanager
async def generator(load: Load) -> AsyncIterator[Generator]:
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, HERE / "load_generator.py", *load.generator_options()]
    async with process(*command, stdin=pipe, stdout=pipe) as child:
        assert child.stdout is not None
        ready = json.loads(await asyncio.wait_for(child.stdout.readline(), START_LIMIT))
        running = Generator(child, ready["ports"], ready["dead"])
        listening = asyncio.create_task(running.listen(), name="generator's events")
        try:
            yield running
        finally:
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening


@dataclass
class Counting:
    """A child of the benchmark's own that tells its counts, a line of JSON, on SIGUSR1."""

    child: asyncio.subprocess.Process

    async def told(self) -> dict[str, Any]:
        assert self.child.stdout is not None
        line = await asyncio.wait_for(self.child.stdout.readline(), START_LIMIT)
        if not line:
            raise Broken("a process of the benchmark has ended by itself")
        counts: dict[str, Any] = json.loads(line)
        return counts

    async def counts(self) -> Mapping[str, float]:
        self.child.send_signal(signal.SIGUSR1)
        return await self.told()


@asynccontextmanager
async def counting(script: str, *arguments: object) -> AsyncIterator[Counting]:
    command = [sys.executable, HERE / script, *arguments]
    async with process(*command, stdout=asyncio.subprocess.PIPE) as child:
        yield Counting(child)


def floor(load: Load, plant: Generator) -> AbstractAsyncContextManager[Counting]:
    return counting("floor.py", *load.floor_options(), *plant.ports)


@dataclass
class TwinBridge:
    """A running `twinbridge run` or a pod, and where it is asked."""

    child: asyncio.subprocess.Process
    api: httpx.AsyncClient
    started: float
    log: Path
    name: str = "twinbridge run"

    async def metrics(self) -> dict[str, float]:
        """Sample name with its labels → value, e.g. `twinbridge_polls_total`."""
        answer = await self.api.get("/metrics")
        answer.raise_for_status()
        return {
            sample.name
            + "".join(f",{k}={v}" for k, v in sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    async def counts(self) -> Mapping[str, float]:
        seen = await self.metrics()
        late = seen["twinbridge_polls_late_total"] + seen.get("twinbridge_polls_skipped_total", 0.0)
        return {"polls": seen["twinbridge_polls_total"], "late": late}

    async def until_ready(self) -> None:
        while time.monotonic() < self.started + START_LIMIT:
            self.must_run()
            with suppress(httpx.TransportError):
                if (await self.api.get("/readyz")).is_success:
                    return
            await asyncio.sleep(0.02)
        raise Broken(f"{self.name} is not ready in {START_LIMIT:.0f} s")

    def must_run(self) -> None:
        if self.child.returncode is not None:
            raise Broken(f"{self.name} ended by itself:\n{self.log.read_text()[-2000:]}")


def twinbridge(load: Load, plant: Generator) -> AbstractAsyncContextManager[TwinBridge]:
    """`twinbridge run` over the definitions of `load`, ready to be asked."""
    return twinbridge_over(definitions(load, plant.ports, plant.dead, node=NODE))


@asynccontextmanager
async def twinbridge_over(definitions: str) -> AsyncIterator[TwinBridge]:
    """`twinbridge run` over the YAML of some resources on node NODE."""
    with tempfile.TemporaryDirectory(prefix="twinbridge-bench-") as folder:
        place = Path(folder)
        resources = place / "plant.yaml"
        resources.write_text(definitions)
        listen = f"127.0.0.1:{free_port()}"
        command = [TWINBRIDGE, "run", "-f", resources, "--state-dir", place / "state"]
        log = place / "log"
        with log.open("wb") as out:
            started = time.monotonic()
            async with (
                process(*command, "--api", listen, "--node", NODE, stdout=out, stderr=out) as child,
                httpx.AsyncClient(base_url=f"http://{listen}", timeout=10) as api,
            ):
                running = TwinBridge(child, api, started, log)
                await running.until_ready()
                try:
                    yield running
                finally:
                    running.must_run()


@asynccontextmanager
async def twinbridge_role(place: Path, *words: object, listen: str) -> AsyncIterator[TwinBridge]:
    """A `twinbridge` command of node NODE that shows its metrics where option `listen` says."""
    role, address = str(words[0]), f"127.0.0.1:{free_port()}"
    state, log = place / role, place / f"{role}.log"
    command = [TWINBRIDGE, *words, "--node", NODE, "--state-dir", state, listen, address]
    with log.open("wb") as out:
        started = time.monotonic()
        async with (
            process(*command, stdout=out, stderr=out) as child,
            httpx.AsyncClient(base_url=f"http://{address}", timeout=10) as api,
        ):
            running = TwinBridge(child, api, started, log, f"twinbridge {role}")
            await running.until_ready()
            try:
                yield running
            finally:
                running.must_run()


_given: set[int] = set()


def free_port() -> int:
    """One that was free a moment ago, and not given before."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _given:
            _given.add(port)
            return port


def cpu_seconds(pid: int) -> float:
    """User and system time of a process with all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise Broken(f"process {pid} has no memory")


async def cost(pid: int, seconds: float) -> Cost:
    """What a process costs in the next `seconds`."""
    begun, before = time.monotonic(), cpu_seconds(pid)
    await asyncio.sleep(seconds)
    spent = cpu_seconds(pid) - before
    return Cost(spent / (time.monotonic() - begun), resident_mib(pid))


async def measure(reader: Counting | TwinBridge, load: Load, seconds: float) -> dict[str, float]:
    """Cost and punctuality of a reader: `served` and `on_time` are shares of what was due."""
    before = await reader.counts()
    begun = time.monotonic()
    spent = await cost(reader.child.pid, seconds)
    after = await reader.counts()
    polls = after["polls"] - before["polls"]
    late = after["late"] - before["late"]
    if not polls:
        raise Broken("nothing was read")
    due = load.polls_per_second * (time.monotonic() - begun)
    return {
        "core": spent.core,
        "resident_mib": spent.resident,
        "polls_per_second": polls / (time.monotonic() - begun),
        "served": polls / due,
        "on_time": 1 - late / polls,
    }


async def cost_per(reader: Counting | TwinBridge, name: str, seconds: float) -> dict[str, float]:
    """What a reader costs, and how much of what counter `name` counts it does in a second."""
    counts = reader.metrics if isinstance(reader, TwinBridge) else reader.counts
    before, begun = (await counts())[name], time.monotonic()
    spent = await cost(reader.child.pid, seconds)
    rate = ((await counts())[name] - before) / (time.monotonic() - begun)
    if not rate:
        raise Broken("nothing was read")
    return {"core": spent.core, "resident_mib": spent.resident, "per_second": rate}


async def compare(load: Load, seconds: float, warm_up: float) -> dict[str, dict[str, float]]:
    """Floor and TwinBridge over the same machines, one after the other, and their ratio."""
    found: dict[str, dict[str, float]] = {}
    async with generator(load) as plant:
        async with floor(load, plant) as bare:
            await asyncio.sleep(warm_up)
            found["floor"] = await measure(bare, load, seconds)
        async with twinbridge(load, plant) as ours:
            await asyncio.sleep(warm_up)
            async with asyncio.TaskGroup() as both:
                theirs = both.create_task(cost(plant.child.pid, seconds), name="generator")
                found["twinbridge"] = await measure(ours, load, seconds)
        found["generator"] = {
            "core": theirs.result().core,
            "resident_mib": theirs.result().resident,
        }
    found["ratio"] = {
        name: found["twinbridge"][name] / found["floor"][name] for name in ("core", "resident_mib")
    }
    return found


def quantile(metrics: Mapping[str, float], name: str, share: float) -> float:
    """The upper bound, in seconds, of the histogram bucket in which the quantile lies."""
    prefix = f"{name}_bucket,le="
    buckets = sorted(
        (float(key.removeprefix(prefix)), count)
        for key, count in metrics.items()
        if key.startswith(prefix)
    )
    if not buckets or not buckets[-1][1]:
        raise Broken(f"{name} has counted nothing")
    return next(bound for bound, count in buckets if count >= share * buckets[-1][1])


def arguments(doc: str | None, **defaults: float) -> argparse.ArgumentParser:
    """The options that every benchmark has; `defaults` are further numeric ones."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    for name, default in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    return parser


def show(title: str, rows: Mapping[str, Mapping[str, float]], *, as_json: bool) -> None:
    """A row per name, a column per figure."""
    if as_json:
        print(json.dumps({"benchmark": title, "cpus": os.cpu_count(), **rows}, indent=2))
        return
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    print(title)
    print(" " * 14 + "".join(f"{name:>18}" for name in columns))
    for label, row in rows.items():
        print(f"{label:14}" + "".join(cells(row, columns)))


def cells(row: Mapping[str, float], columns: Iterable[str]) -> Iterable[str]:
    return (f"{row[name]:18.3f}" if name in row else " " * 18 for name in columns)


def finish(work: Any) -> None:
    """Run a benchmark to its end: exit code 1 when something broke, never for being slow."""
    try:
        asyncio.run(work)
    except Broken as reason:
        sys.exit(f"{Path(sys.argv[0]).name}: {reason}")
