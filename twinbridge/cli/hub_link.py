"""Ties an agent to its hub: which documents are in force, and the sync beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from uuid import uuid4

import structlog

from twinbridge import __version__
from twinbridge.adapters.store_sqlite import SqliteStore
from twinbridge.api.accept import Accepted, Resource, Wishes, accept, wishes
from twinbridge.api.connectivity import Connectivity, load_connectivity
from twinbridge.api.plant import Plant
from twinbridge.api.wire import Json
from twinbridge.api.yaml_source import Document
from twinbridge.app.agent import Agent
from twinbridge.app.clock import clock_synced
from twinbridge.app.supervise import supervise
from twinbridge.app.sync.definitions import Compiler, Definitions
from twinbridge.app.sync.journal import JournalToHub
from twinbridge.app.sync.sync import Gates, HubSync, SyncOptions
from twinbridge.cli.drivers import installed_drivers
from twinbridge.cli.options import HubOptions
from twinbridge.cli.telemetry import TelemetryFeed
from twinbridge.core.model import SECOND
from twinbridge.ports import Hub, Ref

log = structlog.get_logger()


class HubLink:
    """Call `begin` before the agent takes up its plant, then run it within `running`."""

    def __init__(
        self,
        options: HubOptions,
        store: SqliteStore,
        agent: Agent,
        take_up: Callable[[Plant], Awaitable[None]],
        drivers: Callable[[], list[Json]],
        telemetry: TelemetryFeed,
    ) -> None:
        self._options = options
        self._store = store
        self._agent = agent
        self._take_up = take_up
        self._drivers = drivers
        self._telemetry = telemetry
        self._local: tuple[Document, ...] = ()
        self._gates = Gates()
        self._life = uuid4().hex[:8]
        """Tells it from a process that runs on a copy of its disk."""
        self._journal: JournalToHub | None = None
        """None where the hub is not asked."""
        self._hub: Hub | None = None
        self.connectivity = Connectivity()
        self._sync: HubSync | None = None
        self._definitions = Definitions(
            store, agent, Compiler(self._accept, _wishes), self._taken_up, self._taken,
            self._gates.claimed, lambda: self.connectivity.fetches,
        )  # fmt: skip

    @property
    def connected(self) -> bool:
        return self._hub is not None and self._hub.connected

    def verdict(self) -> tuple[bool, Json]:
        """For readiness: alone is an error only where the node says `mode: online`."""
        return self.connected or self.connectivity.mode != "online", {"hub": self._stands()}

    def _stands(self) -> str:
        if self.connectivity.mode == "offline":
            return "not asked"
        if not self.connected:
            return "not connected"
        if self._sync is not None and self._sync.rival:
            return f"held by another process, {self._sync.rival}"
        missing = ", ".join(sorted(self._definitions.missing))
        return f"does not show {missing}: what was known of it stays" if missing else "ok"

    async def begin(self, local: Plant) -> Plant:
        """What was in force before, and what local files say beside it."""
        self._local = local.documents
        plant = await self._definitions.restore()
        self.connectivity = await asyncio.to_thread(self._said, plant)
        if self.connectivity.mode != "offline":
            # Now, and not once the machines run: their first alarm is to be told.
            self._journal = JournalToHub(
                self._store, await self._store.identity(), self._gates.alarms
            )
            await self._journal.begin()
        return plant

    async def take_up_local(self, local: Plant) -> None:
        """Local files have changed."""
        self._local = local.documents
        await self._definitions.again()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Sync beside the body, unless the node is to stand alone."""
        journal = self._journal
        if journal is None:
            log.warning("offline by its connectivity: the hub is not asked")
            yield
            return
        async with asyncio.TaskGroup() as group:
            task = group.create_task(
                supervise("hub", lambda: self._serve(journal), lambda _: None), name="hub"
            )
            try:
                yield
            finally:
                task.cancel()

    async def _serve(self, journal: JournalToHub) -> None:
        from twinbridge.adapters.hub_kube import open_hub

        options, agent = self._options, self._agent
        online = self.connectivity.online
        self._sync = HubSync(
            agent,
            self._definitions,
            journal,
            self._gates,
            f"{await self._store.identity()}.{self._life}",
            self._figures,
            SyncOptions(
                online.sync_interval / SECOND, online.writes_per_second, online.bytes_per_second
            ),
            self._telemetry,
        )
        async with open_hub(
            options.where,
            agent.node,
            namespace=options.namespace,
            token_file=options.token_file,
            ca_file=options.ca_file,
        ) as hub:
            self._hub = hub
            try:
                await self._sync.run(hub)
            finally:
                self._hub = None

    # What the sync asks.

    def _accept(self, documents: Mapping[Ref, Resource], sound: Mapping[Ref, Resource]) -> Accepted:
        return accept(
            {(ref.kind, ref.name): found for ref, found in documents.items()},
            {(ref.kind, ref.name): found for ref, found in sound.items()},
            installed_drivers(),
            self._agent.node,
            self._local,
        )

    async def _taken_up(self, plant: Plant) -> None:
        self.connectivity = await asyncio.to_thread(self._said, plant)
        await self._take_up(plant)
        if self._sync is not None:
            online = self.connectivity.online
            self._sync.writer.interval = online.sync_interval / SECOND
            self._sync.writer.per_second = online.writes_per_second
            self._sync.writer.bytes_per_second = online.bytes_per_second

    def _taken(self, refs: Iterable[Ref]) -> None:
        if self._sync is not None:
            self._sync.taken(refs)

    def _said(self, plant: Plant) -> Connectivity:
        """The file goes before the EdgeNode: who stands beside the box has the last word."""
        if self._options.connectivity is not None:
            return load_connectivity(self._options.connectivity)
        node = plant.nodes.get(self._agent.node)
        return node.connectivity if node is not None else Connectivity()

    def _figures(self) -> Json:
        agent = self._agent
        return {
            "version": __version__,
            "drivers": self._drivers(),
            "devices": {
                "total": len(agent.devices),
                "connected": sum(agent.twin(name).connected for name in agent.devices),
                "tripped": sum(bool(agent.alarms.trips_of(name)) for name in agent.devices),
            },
            "clockSynced": clock_synced(),
            **self._telemetry.figures(),
        }


def _wishes(device: Resource, model: Resource) -> Wishes:
    return wishes(device, model, installed_drivers())
