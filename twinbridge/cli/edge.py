"""Puts one edge together in one process: machines on one loop, agent, store and REST on another."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import structlog

from twinbridge import __version__
from twinbridge.adapters.bus_memory import MemoryBus
from twinbridge.adapters.store_sqlite import SqliteStore, open_store
from twinbridge.api.plant import Plant
from twinbridge.api.scada import Scada
from twinbridge.api.wire import Json
from twinbridge.app.agent import Agent
from twinbridge.app.clock import SystemClock
from twinbridge.app.faces import AgentTwins
from twinbridge.app.machines import Machines
from twinbridge.app.service import TwinService
from twinbridge.app.supervise import supervise
from twinbridge.cli.definitions import (
    Definitions,
    TakeUp,
    edits_until,
    fingerprint,
    load,
    load_beside_hub,
)
from twinbridge.cli.drivers import installed_drivers
from twinbridge.cli.edge_metrics import EdgeCollector
from twinbridge.cli.faces import Faces, scada_of
from twinbridge.cli.health import LoopLag, links_verdict
from twinbridge.cli.hub_link import HubLink
from twinbridge.cli.loops import loop_thread
from twinbridge.cli.notify import service_managed
from twinbridge.cli.options import HubOptions
from twinbridge.cli.process import kept, known_errors_alone, settle_memory, stop_on_signals
from twinbridge.cli.rest_api import Served, rest_running
from twinbridge.cli.telemetry import TelemetryFeed, TelemetryOptions, telemetry_of
from twinbridge.ports import StoredState, TwinStore
from twinbridge.rest.probes import Health, Verdict

log = structlog.get_logger()

NOT_SAFETY = (
    "TwinBridge protects process and equipment. It is non-safety: no SIL or PL, not an emergency"
    " stop, and it must not be the only layer against injury."
)
GATHER = 0.05
"""Seconds that samples gather before the agent takes them all at once; alarms do not wait."""


@dataclass(frozen=True, slots=True)
class EdgeOptions:
    paths: Sequence[str]
    state_dir: Path
    host: str
    port: int
    node: str | None
    token_file: Path | None
    mqtt: str | None = None
    """URL of the broker of the plain SCADA face."""
    stuck_after: float = 10.0
    """Seconds without a turn of an event loop, after which the process counts as dead."""
    hub: HubOptions | None = None


async def run_edge(options: EdgeOptions, stop: asyncio.Event | None = None) -> None:
    """Run until SIGTERM or SIGINT (or `stop`). Raises InvalidDefinition when nothing can run."""
    stop = stop or stop_on_signals()
    # Drivers keep what identifies this edge beside its state, unless a Device says otherwise.
    os.environ.setdefault("TWINBRIDGE_PKI_DIR", str(Path.cwd() / options.state_dir / "pki"))
    seen = await asyncio.to_thread(fingerprint, options.paths)
    loading = load_beside_hub if options.hub else load
    plant = await asyncio.to_thread(loading, options.paths, options.node)
    node = options.node or _only_node(plant)
    log.info("starting", node=node, devices=len(plant.devices), rules=len(plant.instances))
    log.info(NOT_SAFETY)
    lag = LoopLag(options.stuck_after)
    with known_errors_alone(), service_managed(lag) as manager, lag.watching("agent"):
        async with open_store(options.state_dir) as store:
            edge = Edge(store, node, lag, options)
            async with (
                edge.agent_running(plant),
                # The address is taken before a machine is touched: a second edge gets no further.
                rest_running(edge.served, options) as address,
                edge.machines_running(),
                edge.faces_running(),
                edge.telemetry_running(),
                edge.hub_running(),
            ):
                log.info("ready", api=address)
                manager.tell("READY=1")
                edits = Definitions(options, plant, seen, edge.take_up_files, loading)
                await edits_until(stop, edits)
    log.info("stopped")


class Edge:
    """The agent on the loop that makes it, the machines on their own; between is only the bus."""

    def __init__(self, store: SqliteStore, node: str, lag: LoopLag, options: EdgeOptions) -> None:
        self._options = options
        self._plant = Plant({}, ())
        self._machines: Machines | None = None
        """Once they have their definitions."""
        self._tell_machines: TakeUp | None = None
        self._store = store
        self._bus = MemoryBus(linger=GATHER)
        self._clock = SystemClock()
        self.lag = lag
        self.agent = Agent(store, self._bus, node, self._clock)
        self.service = TwinService(self.agent)
        self.faces = Faces(AgentTwins(self.agent), options.state_dir)
        self.metrics = EdgeCollector(store, self._bus)
        self.telemetry = TelemetryFeed(self.agent, store, options.state_dir)
        self.hub = (
            HubLink(options.hub, store, self.agent, self.take_up, self._drivers, self.telemetry)
            if options.hub
            else None
        )

    @asynccontextmanager
    async def agent_running(self, local: Plant) -> AsyncIterator[None]:
        """`local` is what the files say; what the hub said last is in force beside it."""
        self._stored = await self._store.load()
        await self.agent.restore(self._stored)
        self._plant = await self.hub.begin(local) if self.hub else local
        await self._tell_agent(self._plant)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(
                supervise("agent", self.agent.run, lambda _: None), name="agent"
            )
            await self.agent.started.wait()
            try:
                yield
            finally:
                task.cancel()
                await asyncio.wait([task])
                await kept(self.agent.drain())

    @asynccontextmanager
    async def machines_running(self) -> AsyncIterator[None]:
        async with loop_thread("machines") as loop, asyncio.TaskGroup() as group:
            machines = await loop.call(_make(self._store, self._bus, self._clock))

            async def tell(plant: Plant) -> None:
                await loop.call(_apply(machines, plant))

            self._tell_machines = tell

            async def work() -> None:
                # Made in here: a stop before this task's first step leaves nothing unawaited.
                await loop.call(self._work(machines))

            task = group.create_task(work(), name="machines")
            try:
                yield
            finally:
                self._tell_machines = None
                task.cancel()
                await asyncio.wait([task])
                await kept(loop.call(machines.drain()))

    def faces_running(self) -> AbstractAsyncContextManager[Faces]:
        return self.faces.running(self._scada())

    def telemetry_running(self) -> AbstractAsyncContextManager[None]:
        return self.telemetry.running(self._telemetry())

    def hub_running(self) -> AbstractAsyncContextManager[None]:
        return self.hub.running() if self.hub else nullcontext()

    async def take_up_files(self, local: Plant) -> None:
        """The files were edited."""
        await (self.hub.take_up_local(local) if self.hub else self.take_up(local))

    async def take_up(self, plant: Plant) -> None:
        """New definitions, to the twins, the machines and the faces; what did not change is not
        disturbed.
        """
        self._plant = plant
        await self._tell_agent(plant)
        if self._tell_machines is not None:
            await self._tell_machines(plant)
        await self.faces.take_up(self._scada())
        await self.telemetry.take_up(self._telemetry())

    def _scada(self) -> Scada:
        return scada_of(self._plant, self.agent.node, self._options.mqtt)

    def _telemetry(self) -> TelemetryOptions:
        return telemetry_of(
            self._plant, self.agent.node, self.hub.connectivity if self.hub else None
        )

    def _drivers(self) -> list[Json]:
        counted = Counter(spec.protocol for spec in self.agent.devices.values())
        return [
            {"name": name, "protocol": name, "version": __version__, "online": True, "devices": n}
            for name, n in sorted(counted.items())
        ]

    async def _work(self, machines: Machines) -> None:
        """On the machines' loop."""
        ready = asyncio.Event()
        with self.lag.watching("machines"):
            async with asyncio.TaskGroup() as group:
                group.create_task(machines.run(ready), name="machines")
                await ready.wait()
                _start(machines, self._stored, self._plant)
                self._machines = machines

    @property
    def served(self) -> Served:
        health = Health(self.lag.live, self.ready)
        return Served(self.service, health, (self.metrics, self.lag))

    def ready(self) -> Verdict:
        """Whether it serves, keeps what must be kept, and has tried every link."""
        serves, view = self.service.health()
        tried, links = links_verdict(self._machines)
        heard, hub = self.hub.verdict() if self.hub else (True, {})
        ready = serves and tried and heard
        return ready, view | links | hub | {"ready": ready}

    async def _tell_agent(self, plant: Plant) -> None:
        problems = {p.subject: str(p) for p in plant.problems if not p.warning}
        await self.agent.set_plant(plant.devices, plant.instances, problems)


async def _make(store: TwinStore, bus: MemoryBus, clock: SystemClock) -> Machines:
    return Machines(installed_drivers(), store, bus, clock)


def _start(machines: Machines, stored: StoredState, plant: Plant) -> None:
    if not stored.readable:
        log.error("the stored state was damaged and is set aside; armed trips count as latched")
    machines.start(stored, plant.devices, plant.instances)
    settle_memory()


async def _apply(machines: Machines, plant: Plant) -> None:
    machines.apply(plant.devices, plant.instances)


def _only_node(plant: Plant) -> str:
    """The node that the devices name, if they agree."""
    nodes = {d.node for d in plant.devices.values()}
    return nodes.pop() if len(nodes) == 1 else "local"
