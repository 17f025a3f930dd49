"""Pods under fire: broker, agent and drivers are killed at random every few seconds.

The plant load of 100 machines behind two Modbus drivers, with a boiler behind an OPC UA driver
and a fan and a leak sensor behind an MQTT one. Meanwhile six machines overheat again and again
and must be stopped, and four take commands. Judged at the machines and on the disks: every trip
came, within a second of its driver being there; every record of every driver is with the agent,
once; every accepted command has one outcome. Ends with exit code 1 when anything is not so.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from definitions import definitions
from load import Load
from rig import (
    NODE,
    TWINBRIDGE,
    Broken,
    Generator,
    arguments,
    finish,
    free_port,
    generator,
    process,
)

from twinbridge.core.share import Share

EXAMPLES = Path(__file__).parent.parent / "examples"
OTHERS = ("boiler", "leak-and-fan")
USUAL_PORTS = ("4840", "18830")
OWN_PORTS: dict[str, str] = {}
HEATED = range(6)
COMMANDED = range(6, 10)
ON_TIME = 1.0
"""Seconds within which a machine is stopped, not counting those without its driver."""
GIVE_UP = 60.0
QUIET = 90.0
"""Seconds in which all must be well again once nothing is killed any more."""
FINAL = {"applied", "rejected", "expired", "blocked", "overridden"}


@dataclass
class Pod:
    """A process that is killed and started again; `down` are its times without service, s."""

    name: str
    command: Sequence[object]
    log: Path
    ready: str = ""
    child: asyncio.subprocess.Process | None = None
    down: list[tuple[float, float]] = field(default_factory=list)
    since: float = 0.0
    kills: int = 0

    async def start(self) -> None:
        out = self.log.open("ab")
        self.child = await asyncio.create_subprocess_exec(
            *map(str, self.command), stdout=out, stderr=out
        )
        out.close()

    def must_run(self) -> None:
        if self.child is not None and self.child.returncode is not None and not self.since:
            raise Broken(f"{self.name} ended by itself:\n{self.log.read_text()[-3000:]}")

    async def kill(self) -> None:
        assert self.child is not None
        self.must_run()
        self.since = self.since or time.monotonic()
        self.kills += 1
        self.child.kill()
        await self.child.wait()

    async def stop(self) -> None:
        if self.child is not None and self.child.returncode is None:
            self.child.terminate()
            try:
                await asyncio.wait_for(self.child.wait(), 10)
            except TimeoutError:
                self.child.kill()
                await self.child.wait()

    async def until_ready(self, http: httpx.AsyncClient) -> None:
        """Note when it serves again."""
        while self.ready:
            with suppress(httpx.TransportError):
                if (await http.get(self.ready)).is_success:
                    break
            await asyncio.sleep(0.02)
        if self.since:
            self.down.append((self.since, time.monotonic()))
            self.since = 0.0

    def down_within(self, start: float, end: float) -> float:
        """Seconds of that time in which it was not there."""
        spans = [*self.down, (self.since, end)] if self.since else self.down
        return sum(max(0.0, min(end, b) - max(start, a)) for a, b in spans)


class Edge:
    """The pods of one edge node, and what is known of them."""

    def __init__(self, folder: Path, resources: Sequence[Path]) -> None:
        self.folder = folder
        port, api = free_port(), free_port()
        self.url = f"http://127.0.0.1:{api}"
        configuration = folder / "mosquitto.conf"
        configuration.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
        broker = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        if broker is None:
            raise Broken("mosquitto is not installed")
        bus = ["--bus", f"mqtt://127.0.0.1:{port}", "--node", NODE]
        files = [word for path in resources for word in ("-f", path)]
        agent = [TWINBRIDGE, "agent", *files, *bus, "--api", f"127.0.0.1:{api}"]
        self.broker = self._pod("broker", [broker, "-c", configuration])
        self.agent = self._pod("agent", agent, f"{self.url}/readyz", state=True)
        self.shards = [self._driver("modbus", bus, f"{n}/2", f"modbus-{n}") for n in range(2)]
        self.drivers = [*self.shards, self._driver("opcua", bus), self._driver("mqtt", bus)]
        self.pods = [self.broker, self.agent, *self.drivers]

    def _driver(self, protocol: str, bus: Sequence[str], shard: str = "0/1", name: str = "") -> Pod:
        probes = free_port()
        return self._pod(
            name or protocol,
            [TWINBRIDGE, "driver", protocol, *bus, "--shard", shard,
             "--probes", f"127.0.0.1:{probes}"],
            f"http://127.0.0.1:{probes}/readyz",
            state=True,
        )  # fmt: skip

    def _pod(
        self, name: str, command: Sequence[object], ready: str = "", *, state: bool = False
    ) -> Pod:
        folder = ["--state-dir", self.folder / name] if state else []
        return Pod(name, [*command, *folder], self.folder / f"{name}.log", ready)

    def database(self, pod: Pod) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.folder / pod.name / 'state.db'}?mode=ro", uri=True)


@asynccontextmanager
async def running(edge: Edge) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=edge.url, timeout=5) as http:
        try:
            for pod in edge.pods:
                await pod.start()
            yield http
        finally:
            for pod in reversed(edge.pods):
                await pod.stop()


async def until(what: str, true: Callable[[], Awaitable[object]], seconds: float) -> None:
    give_up = time.monotonic() + seconds
    while True:
        with suppress(httpx.TransportError, KeyError):
            if await true():
                return
        if time.monotonic() > give_up:
            raise Broken(f"not within {seconds:.0f} s: {what}")
        await asyncio.sleep(0.1)


class Chaos:
    def __init__(self, edge: Edge, http: httpx.AsyncClient, plant: Generator) -> None:
        self.edge = edge
        self.http = http
        self.plant = plant
        self.over = False
        self.stops: dict[int, asyncio.Future[None]] = {}
        self.latencies: list[float] = []
        self.excess: list[float] = []
        self.trips: list[str] = []
        self.commands = 0
        self.faults: list[str] = []

    async def run(self, seconds: float) -> None:
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self.watch(), name="writes")
            async with asyncio.TaskGroup() as work:
                for device in HEATED:
                    work.create_task(self.heat(device), name=f"heat {device}")
                for device in COMMANDED:
                    work.create_task(self.command(device), name=f"command {device}")
                work.create_task(self.kill(seconds), name="kills")
            watching.cancel()

    async def kill(self, seconds: float) -> None:
        """One after the other; while one comes back the next may die."""
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as revivals:
            while time.monotonic() < end:
                await asyncio.sleep(random.uniform(1.0, 4.0))
                pod = random.choice(self.edge.pods)
                if pod.since:
                    continue
                await pod.kill()
                revivals.create_task(self.revive(pod), name=f"revive {pod.name}")
        self.over = True

    async def revive(self, pod: Pod) -> None:
        await asyncio.sleep(random.uniform(0.0, 2.0))
        await pod.start()
        await pod.until_ready(self.http)

    # Trips.

    async def watch(self) -> None:
        while True:
            write = await self.plant.writes.get()
            waiting = self.stops.get(write["device"])
            if waiting is not None and not write["value"] and not waiting.done():
                waiting.set_result(None)

    async def heat(self, device: int) -> None:
        while not self.over:
            await asyncio.sleep(random.uniform(0.5, 2.0))
            await self.trip_once(device)

    async def trip_once(self, device: int) -> None:
        stopped = self.stops[device] = asyncio.get_running_loop().create_future()
        began = time.monotonic()
        self.plant.tell("heat", device)
        try:
            await asyncio.wait_for(stopped, GIVE_UP)
        except TimeoutError:
            raise Broken(f"m{device} overheated and was not stopped in {GIVE_UP:.0f} s") from None
        ended = time.monotonic()
        shard = await self.shard_of(device)
        self.latencies.append(ended - began)
        # A stop may be written by a driver that dies before it is seen here: its own time counts.
        self.excess.append(ended - began - shard.down_within(began, ended))
        alarm = await self.alarm_of(device)
        self.trips.append(alarm)
        self.plant.tell("cool", device)
        await self.release(device, alarm)
        del self.stops[device]
        self.plant.tell("start", device)

    async def shard_of(self, device: int) -> Pod:
        """Which driver serves it: both have a share, by its endpoint."""
        endpoint = f"modbus-tcp://127.0.0.1:{self.plant.ports[device]}"
        return self.edge.shards[0 if Share(0, 2).owns(endpoint, ()) else 1]

    async def alarm_of(self, device: int) -> str:
        found: list[str] = []

        async def there() -> bool:
            items = (await self.http.get("/api/v1/alarms")).json()["items"]
            found[:] = [a["id"] for a in items if a["device"] == f"m{device}" and a["latched"]]
            return bool(found)

        await until(f"the trip of m{device} is with the agent", there, GIVE_UP)
        return found[0]

    async def release(self, device: int, alarm: str) -> None:
        async def gone() -> bool:
            items = (await self.http.get("/api/v1/alarms")).json()["items"]
            standing = [a["id"] for a in items if a["device"] == f"m{device}" and a["latched"]]
            for each in standing:
                url = f"/api/v1/alarms/{each}/reset"
                await self.http.post(url, json={"reason": "chaos"})
            return not standing

        await until(f"the trip {alarm} is released", gone, GIVE_UP)

    # Commands.

    async def command(self, device: int) -> None:
        run = True
        while not self.over:
            await asyncio.sleep(random.uniform(0.2, 1.0))
            run = not run
            await self.command_once(device, run=run)

    async def command_once(self, device: int, *, run: bool) -> None:
        """Ask until it is accepted, then wait until it is known what became of it."""
        accepted: list[int] = []

        async def taken() -> bool:
            answer = await self.http.patch(f"/api/v1/devices/m{device}/desired", json={"run": run})
            accepted[:] = [answer.json()["version"]] if answer.status_code == 202 else []
            return bool(accepted)

        await until(f"a command for m{device} is accepted", taken, GIVE_UP)
        self.commands += 1

        async def settled() -> bool:
            view = (await self.http.get(f"/api/v1/devices/m{device}")).json()
            desired = view["properties"]["run"]["desired"]
            return desired["version"] > accepted[0] or desired["state"] in FINAL

        await until(f"version {accepted[0]} of m{device} has an outcome", settled, GIVE_UP)

    # What is left.

    async def calm(self) -> None:
        """All are there, and have handed over what they kept."""

        async def well() -> bool:
            for pod in self.edge.pods:
                pod.must_run()
            items = (await self.http.get("/api/v1/devices?limit=1000")).json()["items"]
            return bool(items) and all(d["connected"] for d in items)

        async def handed_over() -> bool:
            return all(not rows(self.edge, pod, "record") for pod in self.edge.drivers)

        await until("all devices are connected", well, QUIET)
        await until("all records are with the agent", handed_over, QUIET)

    def judge(self) -> dict[str, Any]:
        taken = Counter(audit(self.edge, self.edge.agent))
        told = Counter(row for pod in self.edge.drivers for row in audit(self.edge, pod))
        missing = sum((told - taken).values())
        doubled = sum(n - 1 for row, n in taken.items() if n > 1 and row in told)
        trips = Counter(row[1] for row in taken if row[0] == "trip")
        outcomes = Counter(
            (row[1], json.loads(row[2])["version"], json.loads(row[2])["epoch"])
            for row in taken.elements()
            if row[0] == "write" and json.loads(row[2])["version"]
        )
        late = [excess for excess in self.excess if excess > ON_TIME]
        unrecorded = [alarm for alarm in self.trips if trips[alarm] != 1]
        return {
            "kills": {pod.name: pod.kills for pod in self.edge.pods},
            "trips": len(self.trips),
            "trips_late": len(late),
            "trips_not_recorded_once": len(unrecorded),
            "worst_ms_with_driver": round(1000 * max(self.excess, default=0.0), 1),
            "worst_ms": round(1000 * max(self.latencies, default=0.0), 1),
            "commands": self.commands,
            "outcomes": len(outcomes),
            "outcomes_doubled": sum(n - 1 for n in outcomes.values()),
            "driver_records": sum(told.values()),
            "records_missing": missing,
            "records_doubled": doubled,
        }


def rows(edge: Edge, pod: Pod, table: str) -> int:
    with edge.database(pod) as database:
        return int(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def audit(edge: Edge, pod: Pod) -> Iterable[tuple[str, str, str, int, int]]:
    with edge.database(pod) as database:
        found = database.execute("SELECT kind, subject, detail, wall, monotonic FROM audit")
        return [
            (kind, subject, bytes(detail).decode(), wall, mono)
            for kind, subject, detail, wall, mono in found
        ]


async def chaos(seconds: float, seed: int, keep: Path | None, *, as_json: bool) -> None:
    random.seed(seed)
    load = Load(devices=100, registers=50, interval=500, armed=10)
    with tempfile.TemporaryDirectory(prefix="twinbridge-chaos-") as place:
        folder = keep or Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        async with generator(load) as plant:
            plain = folder / "plant.yaml"
            plain.write_text(definitions(load, plant.ports, plant.dead, node=NODE))
            others = [adopted(EXAMPLES / name, folder) for name in OTHERS]
            simulate = [word for path in others for word in ("-f", path)]
            async with (
                process(TWINBRIDGE, "simulate", *simulate, stdout=-3, stderr=-3),
                running(edge := Edge(folder, [plain, *others])) as http,
            ):
                fire = Chaos(edge, http, plant)
                await fire.calm()
                await fire.run(seconds)
                await fire.calm()
            figures = fire.judge()
    print(json.dumps({"seconds": seconds, "seed": seed, **figures}, indent=None if as_json else 2))
    wrong = [name for name in figures if name.endswith(("late", "once", "doubled", "missing"))]
    if any(figures[name] for name in wrong) or not figures["trips"]:
        raise Broken(", ".join(name for name in wrong if figures[name]) or "nothing happened")


def adopted(example: Path, folder: Path) -> Path:
    """An example as a plant of this node, on ports of its own."""
    place = folder / example.name
    place.mkdir()
    for file in example.glob("*.yaml"):
        if not file.name.endswith(".test.yaml"):
            text = file.read_text().replace("nodeName: edge-1", f"nodeName: {NODE}")
            for port in USUAL_PORTS:
                if port in text:
                    text = text.replace(port, OWN_PORTS.setdefault(port, str(free_port())))
            (place / file.name).write_text(text)
    return place


if __name__ == "__main__":
    parser = arguments(__doc__, seconds=600.0, seed=0)
    parser.add_argument("--keep", type=Path, help="folder for logs and disks, which stay")
    asked = parser.parse_args()
    seed = asked.seed or random.randrange(1, 1_000_000)
    finish(chaos(asked.seconds, seed, asked.keep, as_json=asked.json))
