"""Puts one edge together in one process: machines on one loop, agent, store and REST on another."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from twinbridge.adapters.bus_memory import MemoryBus
from twinbridge.adapters.store_sqlite import SqliteStore, open_store
from twinbridge.api.plant import Plant, load_plant
from twinbridge.app.agent import Agent
from twinbridge.app.clock import SystemClock
from twinbridge.app.machines import Machines
from twinbridge.app.metrics import REGISTRY
from twinbridge.app.service import TwinService
from twinbridge.app.supervise import supervise
from twinbridge.cli.definitions import edits
from twinbridge.cli.drivers import installed_drivers
from twinbridge.cli.edge_metrics import EdgeCollector
from twinbridge.cli.loops import LoopThread, loop_thread
from twinbridge.errors import InvalidDefinition, StoreUnavailable, TwinBridgeError
from twinbridge.ports import StoredState, TwinStore
from twinbridge.rest.app import create_app
from twinbridge.rest.server import serve
from twinbridge.rest.tokens import Tokens

log = structlog.get_logger()

NOT_SAFETY = (
    "TwinBridge protects process and equipment. It is non-safety: no SIL or PL, not an emergency"
    " stop, and it must not be the only layer against injury."
)
STOP_WITHIN = 5.0
YOUNG_OBJECTS = 10_000
"""Allocations between two looks of the collector; samples live long or not at all."""
GATHER = 0.02
"""Seconds that news of the machines gathers before the agent takes it, all at once."""


@dataclass(frozen=True, slots=True)
class EdgeOptions:
    paths: Sequence[str]
    state_dir: Path
    host: str
    port: int
    node: str | None
    token_file: Path | None


async def run_edge(options: EdgeOptions, stop: asyncio.Event | None = None) -> None:
    """Run until SIGTERM or SIGINT (or `stop`). Raises InvalidDefinition when nothing can run."""
    stop = stop or _stop_on_signals()
    plant = await asyncio.to_thread(load, options)
    node = options.node or _only_node(plant)
    log.info("starting", node=node, devices=len(plant.devices), rules=len(plant.instances))
    log.info(NOT_SAFETY)
    async with open_store(options.state_dir) as store:
        with _known_errors_alone():
            async with _edge(plant, node, store) as edge, _rest(edge, options) as address:
                log.info("ready", api=address)
                await _until(stop, edge, options)
        log.info("stopped")


@contextmanager
def _known_errors_alone() -> Iterator[None]:
    """A task group wraps whatever ends it; an error that has one line is raised as itself."""
    try:
        yield
    except ExceptionGroup as group:
        known, others = group.split(TwinBridgeError)
        if known is None or others is not None:
            raise
        first: BaseException = known
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


@dataclass(slots=True)
class Edge:
    plant: Plant
    machines: Machines
    machine_loop: LoopThread
    agent: Agent
    store: TwinStore

    async def take_up(self, plant: Plant) -> None:
        """Go on with new definitions; what did not change is not disturbed."""
        self.plant = plant
        await self.agent.set_plant(plant.devices, plant.instances, _problems(plant))
        await self.machine_loop.call(_apply(self.machines, plant))


@asynccontextmanager
async def _edge(plant: Plant, node: str, store: SqliteStore) -> AsyncIterator[Edge]:
    """The agent on this loop, the machines on one of their own; between them is only the bus."""
    bus, clock = MemoryBus(linger=GATHER), SystemClock()
    agent = Agent(store, bus, node, clock)
    REGISTRY.register(EdgeCollector(store, bus))
    stored = await store.load()
    await agent.restore(stored)
    await agent.set_plant(plant.devices, plant.instances, _problems(plant))
    async with loop_thread("machines") as machine_loop, asyncio.TaskGroup() as group:
        serving = group.create_task(supervise("agent", agent.run, lambda _: None), name="agent")
        await agent.started.wait()
        machines = await machine_loop.call(_make(store, bus, clock))

        async def work() -> None:
            # Made in here: a stop before this task's first step leaves nothing unawaited.
            await machine_loop.call(_work(machines, stored, plant))

        working = group.create_task(work(), name="machines")
        try:
            yield Edge(plant, machines, machine_loop, agent, store)
        finally:
            for task in (working, serving):
                task.cancel()
            await asyncio.wait([working, serving])
            await _drain(machine_loop.call(machines.drain()), agent)


async def _make(store: TwinStore, bus: MemoryBus, clock: SystemClock) -> Machines:
    return Machines(installed_drivers(), store, bus, clock)


async def _work(machines: Machines, stored: StoredState, plant: Plant) -> None:
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(machines.run(ready), name="machines")
        await ready.wait()
        _start(machines, stored, plant)


def _start(machines: Machines, stored: StoredState, plant: Plant) -> None:
    if not stored.readable:
        log.error("the stored state was damaged and is set aside; armed trips count as latched")
    machines.start(stored, plant.devices, plant.instances)
    # The definitions live as long as the process: the collector need not look at them again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)


async def _apply(machines: Machines, plant: Plant) -> None:
    machines.apply(plant.devices, plant.instances)


async def _drain(machines_drained: Awaitable[None], agent: Agent) -> None:
    try:
        async with asyncio.timeout(STOP_WITHIN):
            await machines_drained
            await agent.drain()
    except (StoreUnavailable, TimeoutError) as error:
        log.error("not everything could be kept on disk", why=str(error))  # noqa: TRY400


@asynccontextmanager
async def _rest(edge: Edge, options: EdgeOptions) -> AsyncIterator[str]:
    tokens = Tokens(options.token_file) if options.token_file else None
    app = create_app(TwinService(edge.agent), tokens=tokens, metrics=REGISTRY)
    async with serve(app, options.host, options.port) as address:
        yield str(address)


async def _until(stop: asyncio.Event, edge: Edge, options: EdgeOptions) -> None:
    """Take up edits of the definitions until told to stop."""
    hup = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hup.set)
    watch = asyncio.create_task(
        supervise("definitions", lambda: _follow(edge, options, hup), lambda _: None),
        name="definitions",
    )
    try:
        await stop.wait()
    finally:
        watch.cancel()


async def _follow(edge: Edge, options: EdgeOptions, hup: asyncio.Event) -> None:
    async for _ in edits(options.paths, hup):
        try:
            plant = await asyncio.to_thread(load, options)
        except TwinBridgeError as error:
            log.error("edit refused, the old definitions run on", why=str(error))  # noqa: TRY400
            continue
        known = {(p.subject, p.field, p.message) for p in edge.plant.problems}
        new = [
            p
            for p in plant.problems
            if not p.warning and (p.subject, p.field, p.message) not in known
        ]
        if new:
            for problem in new:
                log.error("edit refused, the old definitions run on", problem=str(problem))
        else:
            await edge.take_up(plant)
            log.info("definitions taken up", devices=len(plant.devices))


def load(options: EdgeOptions) -> Plant:
    """Load and say what is wrong; the good resources run. Raises InvalidDefinition if none is."""
    plant = load_plant(options.paths, installed_drivers(), options.node)
    for problem in plant.problems:
        (log.warning if problem.warning else log.error)("definition", problem=str(problem))
    if not plant.devices and any(not p.warning for p in plant.problems):
        raise InvalidDefinition("no device can run; see the problems above, or `validate`")
    return plant


def _problems(plant: Plant) -> dict[str, str]:
    return {p.subject: str(p) for p in plant.problems if not p.warning}


def _only_node(plant: Plant) -> str:
    """The node that the devices name, if they agree."""
    nodes = {d.node for d in plant.devices.values()}
    return nodes.pop() if len(nodes) == 1 else "local"


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    return stop
