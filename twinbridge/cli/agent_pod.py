"""Puts one agent pod together: twins, store, REST and faces; its drivers are on the bus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import structlog

from twinbridge import __version__
from twinbridge.adapters.agent_store import AgentStore
from twinbridge.adapters.bus_mqtt.agent_side import AgentSide
from twinbridge.adapters.bus_mqtt.encoding import Portion, encode_portion
from twinbridge.adapters.bus_mqtt.topics import Topics
from twinbridge.adapters.store_sqlite import open_store_of
from twinbridge.api.broker import Broker
from twinbridge.api.plant import Plant
from twinbridge.api.portions import extract
from twinbridge.api.scada import Scada
from twinbridge.api.wire import Json
from twinbridge.app.agent import Agent
from twinbridge.app.clock import SystemClock
from twinbridge.app.faces import AgentTwins
from twinbridge.app.service import TwinService
from twinbridge.app.supervise import supervise
from twinbridge.cli.definitions import (
    Definitions,
    edits_until,
    fingerprint,
    load_beside_hub,
    load_with_documents,
)
from twinbridge.cli.drivers import installed_drivers
from twinbridge.cli.edge_metrics import EdgeCollector
from twinbridge.cli.faces import Faces, scada_of
from twinbridge.cli.health import LoopLag
from twinbridge.cli.hub_link import HubLink
from twinbridge.cli.notify import service_managed
from twinbridge.cli.options import HubOptions
from twinbridge.cli.process import kept, known_errors_alone, settle_memory, stop_on_signals
from twinbridge.cli.rest_api import Served, rest_running
from twinbridge.cli.telemetry import TelemetryFeed, TelemetryOptions, telemetry_of
from twinbridge.core.messages import SetMode
from twinbridge.rest.probes import Health, Verdict

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class AgentOptions:
    paths: Sequence[str]
    broker: Broker
    node: str
    state_dir: Path
    host: str
    port: int
    token_file: Path | None
    mqtt: str | None = None
    """URL of the broker of the plain SCADA face."""
    stuck_after: float = 10.0
    """Seconds without a turn of an event loop, after which the process counts as dead."""
    hub: HubOptions | None = None


async def run_agent(options: AgentOptions, stop: asyncio.Event | None = None) -> None:
    """Run until SIGTERM or SIGINT (or `stop`). Raises InvalidDefinition when nothing can run."""
    stop = stop or stop_on_signals()
    seen = await asyncio.to_thread(fingerprint, options.paths)
    loading = load_beside_hub if options.hub else load_with_documents
    plant = await asyncio.to_thread(loading, options.paths, options.node)
    log.info("starting", agent=options.node, devices=len(plant.devices))
    lag = LoopLag(options.stuck_after)
    with known_errors_alone(), service_managed(lag) as manager, lag.watching("agent"):
        async with open_store_of(AgentStore, options.state_dir) as store:
            pod = AgentPod(options, store, await store.identity(), lag)
            async with pod.running(plant), rest_running(pod.served, options) as address:
                settle_memory()
                log.info("ready", api=address)
                manager.tell("READY=1")
                edits = Definitions(options, plant, seen, pod.take_up_files, loading)
                await edits_until(stop, edits)
    log.info("stopped")


class AgentPod:
    def __init__(
        self, options: AgentOptions, store: AgentStore, identity: str, lag: LoopLag
    ) -> None:
        self._options = options
        self._store = store
        self._epoch = identity
        self._lag = lag
        self._plant = Plant({}, ())
        self._modes: dict[str, str] = {}
        self._side = AgentSide(
            options.broker,
            Topics(options.node),
            identity,
            store,
            version=__version__,
            knows=lambda device: device in self.agent.devices,
            on_lost=self._lose,
            on_served=self._resend,
            on_problems=self._note_problems,
            on_mode=self._keep_mode,
        )
        clock = SystemClock()
        self.agent = Agent(store, self._side, options.node, clock, epoch=identity)
        self._service = TwinService(self.agent)
        self._faces = Faces(AgentTwins(self.agent), options.state_dir)
        self._telemetry = TelemetryFeed(self.agent, store, options.state_dir)
        self._hub = (
            HubLink(options.hub, store, self.agent, self.take_up, self._drivers, self._telemetry)
            if options.hub
            else None
        )

    @asynccontextmanager
    async def running(self, local: Plant) -> AsyncIterator[None]:
        """`local` is what the files say; what the hub said last is in force beside it."""
        stored = await self._store.load()
        self._modes = dict(stored.modes)
        await self.agent.restore(stored)
        plant = await self._hub.begin(local) if self._hub else local
        await self._take_up(plant)
        async with asyncio.TaskGroup() as group:
            work = group.create_task(
                supervise("agent", self.agent.run, lambda _: None), name="agent"
            )
            bus = group.create_task(supervise("bus", self._side.run, lambda _: None), name="bus")
            await self.agent.started.wait()
            try:
                async with (
                    self._faces.running(self._scada(plant)),
                    self._telemetry.running(self._telemetry_of(plant)),
                    self._hub.running() if self._hub else nullcontext(),
                ):
                    yield
            finally:
                for task in (work, bus):
                    task.cancel()
                await asyncio.wait([work, bus])
                await kept(self.agent.drain())

    async def take_up_files(self, local: Plant) -> None:
        """The files were edited."""
        await (self._hub.take_up_local(local) if self._hub else self.take_up(local))

    async def take_up(self, plant: Plant) -> None:
        """New definitions, to the twins and to the drivers."""
        await self._take_up(plant)
        await self._faces.take_up(self._scada(plant))
        await self._telemetry.take_up(self._telemetry_of(plant))

    async def _take_up(self, plant: Plant) -> None:
        problems = {p.subject: str(p) for p in plant.problems if not p.warning}
        await self.agent.set_plant(plant.devices, plant.instances, problems)
        self._plant = plant
        self._define()

    def _define(self) -> None:
        protocols = {spec.protocol for spec in self._plant.devices.values()}
        self._side.define(
            {name: self._portion(name) for name in sorted(protocols | installed_drivers().keys())}
        )

    def _portion(self, protocol: str) -> bytes:
        """Its hash is that of all that it says."""
        found = extract(self._plant, self._plant.documents, protocol)
        rules = {instance.rule for instance in self._plant.instances}
        portion = Portion(
            "",
            self._epoch,
            __version__,
            tuple((f"{d.file}:{d.line(())}", _but_wishes(d.content)) for d in found.documents),
            tuple(sorted((rule, mode) for rule, mode in self._modes.items() if rule in rules)),
            tuple(sorted(found.exports)),
        )
        digest = sha256(encode_portion(portion)).hexdigest()[:16]
        return encode_portion(replace(portion, hash=digest))

    def _lose(self, devices: Iterable[str], why: str) -> None:
        self.agent.lose(devices, why)

    def _resend(self, devices: Iterable[str]) -> None:
        self.agent.resend(devices)

    def _note_problems(self, driver: str, found: Mapping[str, str]) -> None:
        self.agent.note_problems(driver, found)

    async def _keep_mode(self, request: SetMode) -> None:
        """The drivers have it; one that is not there now learns it from its definitions."""
        self._modes[request.rule] = str(request.mode)
        await self._store.save_mode(request.rule, str(request.mode))
        self._define()

    def _scada(self, plant: Plant) -> Scada:
        return scada_of(plant, self._options.node, self._options.mqtt)

    def _drivers(self) -> list[Json]:
        return [
            {
                "name": name,
                "protocol": owner.status.protocol,
                "online": not owner.lost,
                "version": owner.status.version,
                "devices": len(owner.status.devices),
            }
            for name, owner in self._side.owners.items()
        ]

    def _telemetry_of(self, plant: Plant) -> TelemetryOptions:
        connectivity = self._hub.connectivity if self._hub else None
        return telemetry_of(plant, self._options.node, connectivity)

    @property
    def served(self) -> Served:
        health = Health(self._lag.live, self._ready)
        return Served(self._service, health, (EdgeCollector(self._store, self._side), self._lag))

    def _ready(self) -> Verdict:
        """Without its bus an agent shows twins that are lost: that is said, and not judged."""
        ready, view = self._service.health()
        drivers = {
            str(driver["name"]): {
                **{key: value for key, value in driver.items() if key != "name"},
                "definitions": self._side.owners[str(driver["name"])].status.definitions,
            }
            for driver in self._drivers()
        }
        bus = "ok" if self._side.connected.is_set() else "not connected"
        heard, hub = self._hub.verdict() if self._hub else (True, {})
        return ready and heard, view | hub | {"bus": bus, "drivers": drivers}


def _but_wishes(content: object) -> object:
    """What is desired goes to a driver one by one, and is no reason to define all anew."""
    spec = content.get("spec") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(spec, dict) or "desired" not in spec:
        return content
    return {**content, "spec": {key: spec[key] for key in spec if key != "desired"}}
