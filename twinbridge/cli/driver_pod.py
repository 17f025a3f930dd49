"""Puts one driver pod together: machines on one loop, its end of the bus on another.

It starts from the definitions on its own disk when nobody else is there, and goes on without
broker and agent: it polls, evaluates, trips and journals, and hands over later what it kept.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from prometheus_client import REGISTRY as LIBRARY_REGISTRY
from pydantic import BaseModel

from twinbridge import __version__
from twinbridge.adapters.bus_memory import MemoryBus
from twinbridge.adapters.bus_mqtt.driver_side import DriverSide
from twinbridge.adapters.bus_mqtt.encoding import (
    DriverStatus,
    Malformed,
    Portion,
    decode_portion,
)
from twinbridge.adapters.bus_mqtt.lease import Leases
from twinbridge.adapters.bus_mqtt.topics import Topics
from twinbridge.adapters.driver_store import DriverStore
from twinbridge.adapters.store_sqlite import open_store_of
from twinbridge.api.broker import Broker
from twinbridge.api.plant import Plant, compile_plant
from twinbridge.api.yaml_source import Document
from twinbridge.app.clock import SystemClock
from twinbridge.app.machines import Machines
from twinbridge.app.metrics import REGISTRY
from twinbridge.app.supervise import supervise
from twinbridge.cli.drivers import installed_drivers
from twinbridge.cli.edge_metrics import EdgeCollector
from twinbridge.cli.health import LoopLag, driver_verdict, probes_running
from twinbridge.cli.loops import LoopThread, loop_thread
from twinbridge.cli.notify import service_managed
from twinbridge.cli.process import kept, known_errors_alone, settle_memory, stop_on_signals
from twinbridge.core.messages import Event, SetMode
from twinbridge.core.model import DeviceSpec
from twinbridge.core.rule import Mode, RuleInstance
from twinbridge.core.share import Share, foreign_inputs, split
from twinbridge.errors import InvalidInput, StoreUnavailable, TwinBridgeError
from twinbridge.ports import Driver, StoredState
from twinbridge.rest.probes import Health, Verdict

log = structlog.get_logger()

GATHER = 0.003
"""Seconds that samples gather before they are sent as one message; alarms do not wait."""
DARK = 2.0
"""Seconds that a start waits for the broker before it goes on from its own disk."""
PATIENCE = 10.0
"""Seconds that a start whose state was damaged waits to be the one writer of all its devices."""


@dataclass(frozen=True, slots=True)
class DriverOptions:
    protocol: str
    broker: Broker
    node: str
    state_dir: Path
    share: Share = field(default_factory=Share)
    probes: tuple[str, int] | None = None
    stuck_after: float = 10.0
    """Seconds without a turn of an event loop, after which the process counts as dead."""


async def run_driver(options: DriverOptions, stop: asyncio.Event | None = None) -> None:
    """Run until SIGTERM or SIGINT (or `stop`). Raises InvalidInput for an unknown protocol."""
    stop = stop or stop_on_signals()
    os.environ.setdefault("TWINBRIDGE_PKI_DIR", str(Path.cwd() / options.state_dir / "pki"))
    driver = installed_drivers().get(options.protocol)
    if driver is None:
        known = ", ".join(sorted(installed_drivers()))
        raise InvalidInput(f"no driver is named {options.protocol!r}; installed: {known}")
    log.info("starting", driver=options.protocol, node=options.node, share=str(options.share))
    lag = LoopLag(options.stuck_after)
    with known_errors_alone(), service_managed(lag) as manager, lag.watching("bus"):
        async with open_store_of(DriverStore, options.state_dir) as store:
            pod = DriverPod(options, driver, store, await store.identity(), lag)
            async with pod.running():
                log.info("ready", driver=options.protocol, owner=pod.owner)
                manager.tell("READY=1")
                await stop.wait()
    log.info("stopped")


class DriverPod:
    """What the bus says decides what the machines' side serves."""

    def __init__(
        self, options: DriverOptions, driver: Driver, store: DriverStore, owner: str, lag: LoopLag
    ) -> None:
        self.owner = owner
        self._options = options
        self._driver = driver
        self._store = store
        self._lag = lag
        self._bus = MemoryBus(linger=GATHER)
        topics = Topics(options.node)
        self._side = DriverSide(
            options.broker,
            topics,
            options.protocol,
            owner,
            store,
            self._bus,
            on_definitions=self._take_note,
            on_inputs=self._hear,
        )
        self._leases = Leases(topics, options.protocol, owner, self._look_again)
        self._side.serve_also(self._leases.serve, self._leases.heard, self._leases.release)
        self._machines: Machines | None = None
        self._loop: LoopThread | None = None
        self._stored = StoredState()
        self._started = False
        self._told: bytes = b""
        self._taken: bytes = b""
        self._portion: Portion | None = None
        self._plant = Plant({}, ())
        self._modes: dict[str, str] = {}
        self._bell = asyncio.Event()
        self._inputs: asyncio.Queue[list[Event]] = asyncio.Queue(1000)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Until the block ends; then the links are closed and what is said last is kept."""
        self._stored = await self._store.load()
        self._modes = dict(self._stored.modes)
        async with (
            loop_thread("machines") as self._loop,
            self._probes(),
            asyncio.TaskGroup() as group,
        ):
            machines = self._machines = await self._loop.call(self._make())
            work = group.create_task(self._loop.call(self._work(machines)), name="machines")
            tasks = [
                group.create_task(_supervised(name, run), name=name)
                for name, run in (
                    ("bus", self._side.run),
                    ("records", self._side.keep),
                    ("definitions", self._follow),
                    ("inputs", self._hand_on_inputs),
                )
            ]
            try:
                yield
            finally:
                # The machines first: what they say at the end is kept, and told.
                work.cancel()
                await asyncio.wait([work])
                await kept(self._loop.call(machines.drain()))
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                await kept(self._side.drain())

    async def _make(self) -> Machines:
        drivers = {self._options.protocol: self._driver}
        return Machines(drivers, self._store, self._bus, SystemClock())

    async def _work(self, machines: Machines) -> None:
        """On the machines' loop."""
        with self._lag.watching("machines"):
            await machines.run(asyncio.Event())

    # Definitions, and which of them are served here.

    def _take_note(self, payload: bytes) -> None:
        """New definitions, or none any more."""
        if payload:
            self._told = payload
            self._bell.set()

    def _look_again(self) -> None:
        """The leases have changed."""
        self._bell.set()

    async def _follow(self) -> None:
        """Take up what is told, and what the leases allow; never returns."""
        if not self._taken:
            await self._begin()
        while True:
            await self._bell.wait()
            self._bell.clear()
            if self._told != self._taken:
                await self._take_up(self._told)
            await self._serve()

    async def _begin(self) -> None:
        """From the own disk, also when nobody else is there."""
        noted = await self._noted("definitions")
        if noted:
            self._told = self._told or noted.encode()
            await self._take_up(noted.encode())
        try:
            async with asyncio.timeout(DARK):
                await self._side.connected.wait()
        except TimeoutError:
            held = (await self._noted("held")).splitlines()
            log.warning("no broker: going on from the own disk", endpoints=len(held))
            self._leases.trust(held)
        self._bell.set()

    async def _noted(self, name: str) -> str:
        try:
            return await self._store.note(name)
        except StoreUnavailable as error:
            log.error("a note cannot be read", note=name, why=str(error))  # noqa: TRY400
            return ""

    async def _take_up(self, payload: bytes) -> None:
        """Compile new definitions; those that cannot be read change nothing."""
        self._taken = payload
        try:
            portion = decode_portion(payload)
        except Malformed as error:
            log.error("definitions are refused, the old ones run on", why=str(error))  # noqa: TRY400
            return
        if portion.version != __version__:
            log.warning("the agent has another version", agent=portion.version, own=__version__)
        documents = [Document(place, content) for place, content in portion.documents]
        drivers = installed_drivers()
        plant = await asyncio.to_thread(compile_plant, documents, drivers, self._options.node)
        for problem in plant.problems:
            (log.debug if problem.warning else log.error)("definition", problem=str(problem))
        self._portion, self._plant = portion, plant
        self._leases.want({self._endpoint(spec) for spec in self._share().values()})
        await self._note("definitions", payload.decode())
        log.info("definitions taken up", devices=len(self._share()), hash=portion.hash)

    def _share(self) -> Mapping[str, DeviceSpec]:
        """The devices that this process is to serve, if nobody else does."""
        share, protocol = self._options.share, self._options.protocol
        return {
            name: spec
            for name, spec in self._plant.devices.items()
            if spec.protocol == protocol and share.owns(self._endpoint(spec), spec.labels)
        }

    def _endpoint(self, spec: DeviceSpec) -> str:
        if not isinstance(spec.connection, BaseModel):
            raise TypeError(f"{spec.name}: its connection has not been validated by its driver")
        return self._driver.endpoint(spec.connection)

    async def _serve(self) -> None:
        """Let the machines' side have what is defined, shared out to us, and leased."""
        machines, loop = self._machines, self._loop
        if machines is None or loop is None or self._portion is None:
            return
        held, share = self._leases.held, self._share()
        mine = {name: spec for name, spec in share.items() if self._endpoint(spec) in held}
        instances = split(self._plant.instances, mine.__contains__)
        foreign = {ref.device for ref in foreign_inputs(instances, mine.__contains__)}
        self._side.exports = frozenset(self._portion.exports) & mine.keys()
        await loop.call(self._apply(machines, mine, instances))
        await loop.call(machines.closed())
        self._leases.stopped()
        self._side.listen_to(frozenset(foreign))
        await loop.call(_withhold(machines, self._doubt()))
        await self._take_modes(instances)
        self._tell_status(mine, share)
        await self._note("held", "\n".join(sorted(held)))

    async def _apply(
        self,
        machines: Machines,
        devices: Mapping[str, DeviceSpec],
        instances: Iterable[RuleInstance],
    ) -> None:
        """On the machines' loop."""
        if self._started:
            machines.apply(devices, instances)
        elif devices:
            self._started = True
            if not self._stored.readable:
                log.error("the stored state was damaged; armed trips count as latched")
            machines.start(self._stored, devices, instances)
            settle_memory()

    def _doubt(self) -> str:
        """Why ordinary writes wait: trips do not."""
        if self._leases.doubt and self._leases.rivals:
            return "the lease could not be renewed, and another driver waits for it"
        return ""

    async def _take_modes(self, instances: Iterable[RuleInstance]) -> None:
        """Modes set by hand while this process was not there."""
        served = {instance.rule for instance in instances}
        for rule, mode in self._portion.modes if self._portion else ():
            if rule in served and self._modes.get(rule) != mode:
                try:
                    await self._bus.request(SetMode(rule, Mode(mode), "agent"))
                except TwinBridgeError as error:
                    log.error("a mode is not taken up", rule=rule, why=str(error))  # noqa: TRY400
                else:
                    self._modes[rule] = mode

    def _tell_status(self, mine: Mapping[str, DeviceSpec], share: Mapping[str, DeviceSpec]) -> None:
        problems = {p.subject: str(p) for p in self._plant.problems if not p.warning}
        self._side.tell_status(
            DriverStatus(
                online=True,
                protocol=self._options.protocol,
                share=str(self._options.share),
                version=__version__,
                boot=self._side.boot,
                definitions=self._portion.hash if self._portion else "",
                devices=tuple(sorted(mine)),
                standby=tuple(sorted(share.keys() - mine.keys())),
                problems=tuple(sorted(problems.items())),
            )
        )

    async def _note(self, name: str, content: str) -> None:
        try:
            await self._store.put_note(name, content)
        except StoreUnavailable as error:
            log.error("a start without broker would not know it", note=name, why=str(error))  # noqa: TRY400

    # Inputs of rules from other processes.

    def _hear(self, events: Iterable[Event]) -> None:
        if not self._inputs.full():  # a newer one follows
            self._inputs.put_nowait(list(events))

    async def _hand_on_inputs(self) -> None:
        while True:
            events = await self._inputs.get()
            while not self._inputs.empty():
                events += self._inputs.get_nowait()
            if self._loop is not None and self._machines is not None:
                await self._loop.call(_heard(self._machines, events))

    # Probes.

    @asynccontextmanager
    async def _probes(self) -> AsyncIterator[None]:
        if self._options.probes is None:
            yield
            return
        host, port = self._options.probes
        parts = (EdgeCollector(self._store, self._bus), self._lag, LIBRARY_REGISTRY)
        for part in parts:
            REGISTRY.register(part)
        try:
            health = Health(self._lag.live, self._ready)
            async with probes_running(health, REGISTRY, host, port) as url:
                log.info("probes", url=url)
                yield
        finally:
            for part in parts:
                REGISTRY.unregister(part)

    def _ready(self) -> Verdict:
        if self._machines is None:
            return False, {"ready": False, "definitions": "none yet"}
        return driver_verdict(
            self._options.node,
            self._machines,
            self._store,
            definitions=self._portion is not None,
            bus=self._side.connected.is_set(),
        )


async def _supervised(name: str, run: Callable[[], Awaitable[None]]) -> None:
    await supervise(name, run, lambda _: None)


async def _withhold(machines: Machines, why: str) -> None:
    machines.withhold(why)


async def _heard(machines: Machines, events: list[Event]) -> None:
    machines.hear(events)
