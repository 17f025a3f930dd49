"""The outbox and the sinks that it feeds, as the EdgeNode says; taken up while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from twinbridge.adapters.outbox_sqlite import Loss, SqliteOutbox, open_outbox
from twinbridge.api.connectivity import Connectivity
from twinbridge.api.plant import Plant
from twinbridge.api.telemetry import Telemetry
from twinbridge.api.wire import Json, timestamp
from twinbridge.app.agent import Agent
from twinbridge.app.clock import clock_synced
from twinbridge.app.forwarding import Forwarder
from twinbridge.app.history import Record
from twinbridge.app.journal_feed import JournalFeed
from twinbridge.app.supervise import supervise
from twinbridge.app.sync.sync import Backlog
from twinbridge.cli.sinks import Target, cannot_open, targets_of
from twinbridge.core.model import MILLISECOND, SECOND, Quality, Sample
from twinbridge.ports import SyncStore

log = structlog.get_logger()

UNBUFFERED_BYTES = 1_000_000
UNBUFFERED_AGE = 60 * SECOND
"""Of a node that buffers nothing: what is on its way, and no outage."""


@dataclass(frozen=True, slots=True)
class TelemetryOptions:
    """Equal options leave what runs as it is."""

    telemetry: Telemetry
    connectivity: Connectivity
    site: str = ""

    @property
    def wanted(self) -> bool:
        sends = self.connectivity.online.send_telemetry and self.connectivity.mode != "offline"
        return sends and self.telemetry != Telemetry()

    @property
    def backfill(self) -> bool:
        return "sync_buffered_data" in self.connectivity.on_reconnect

    @property
    def limit_bytes(self) -> int:
        offline = self.connectivity.offline
        return offline.buffer_max_size if self.connectivity.buffers else UNBUFFERED_BYTES

    @property
    def max_age(self) -> int:
        offline = self.connectivity.offline
        return offline.buffer_max_age if self.connectivity.buffers else UNBUFFERED_AGE


def telemetry_of(plant: Plant, node: str, connectivity: Connectivity | None) -> TelemetryOptions:
    """What the EdgeNode says; `connectivity` where something else has the last word on that."""
    found = plant.nodes.get(node)
    if found is None:
        return TelemetryOptions(Telemetry(), connectivity or Connectivity())
    return TelemetryOptions(found.telemetry, connectivity or found.connectivity, found.site)


OPEN_AGAIN_SECONDS = 30.0
LOSS_TOLD = 3600 * SECOND
"""So long after the last sample that was let go the node says so; a gap record is for ever."""


class TelemetryFeed(Backlog):
    """What history records, and the journal, also go to the outbox while a sink is named."""

    def __init__(self, agent: Agent, store: SyncStore, state_dir: Path) -> None:
        self._agent = agent
        self._store = store
        self._state_dir = state_dir
        self._group: asyncio.TaskGroup | None = None
        self._options: TelemetryOptions | None = None
        self._task: asyncio.Task[None] | None = None
        self._outbox: SqliteOutbox | None = None
        self._forwarders: dict[str, Forwarder] = {}
        self._broken: dict[str, str] = {}
        """Sinks that could not be opened, and why."""
        self._held = False

    @asynccontextmanager
    async def running(self, options: TelemetryOptions) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as self._group:
            await self.take_up(options)
            try:
                yield
            finally:
                await self._end()

    async def take_up(self, options: TelemetryOptions) -> None:
        if self._group is None or options == self._options:
            return
        await self._end()
        self._options = options
        if options.wanted:
            self._task = self._group.create_task(
                supervise("telemetry", lambda: self._serve(options), lambda _: None),
                name="telemetry",
            )

    async def _end(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _serve(self, options: TelemetryOptions) -> None:
        targets = targets_of(options.telemetry, self._agent.node, options.site)
        async with open_outbox(
            self._state_dir,
            limit_bytes=options.limit_bytes,
            max_age=options.max_age,
            sinks={target.name: target.rewind for target in targets},
            clock_synced=clock_synced,
        ) as outbox:
            self._outbox, self._agent.also_record = outbox, _recorder(outbox, self._agent)
            try:
                async with asyncio.TaskGroup() as tasks:
                    if any(target.journal for target in targets):
                        feed = JournalFeed(self._store, outbox)
                        tasks.create_task(feed.run(), name="journal to outbox")
                    for target in targets:
                        name = f"telemetry to {target.name}"
                        work = self._forward(target, outbox, backfill=options.backfill)
                        tasks.create_task(work, name=name)
            finally:
                self._outbox = self._agent.also_record = None
                self._forwarders.clear()

    async def _forward(self, target: Target, outbox: SqliteOutbox, *, backfill: bool) -> None:
        """To one sink, whatever becomes of the others."""
        while True:
            self._broken.pop(target.name, None)
            try:
                async with target.open() as sink:
                    forwarder = self._forwarders[target.name] = Forwarder(
                        outbox, sink, backfill=backfill
                    )
                    if self._held:
                        forwarder.hold()
                    log.info("telemetry", sink=target.name, to=target.url)
                    await forwarder.run()
            except (ModuleNotFoundError, OSError) as error:
                self._broken[target.name] = why = cannot_open(error)
                log.error("no telemetry", sink=target.name, to=target.url, why=why)  # noqa: TRY400 - a person mends it
            await asyncio.sleep(OPEN_AGAIN_SECONDS)

    def hold(self) -> None:
        self._held = True
        for forwarder in self._forwarders.values():
            forwarder.hold()

    def release(self) -> None:
        self._held = False
        for forwarder in self._forwarders.values():
            forwarder.release()

    @property
    def trouble(self) -> str:
        """Why some sink takes nothing, or the disk nothing for them, and what was let go lately;
        '' when all is well.
        """
        found = {name: each.trouble for name, each in self._forwarders.items()} | self._broken
        if self._outbox is not None:
            found["outbox"] = self._outbox.trouble or self._lost(self._outbox.loss)
        return "; ".join(f"{name}: {why}" for name, why in found.items() if why)

    def _lost(self, loss: Loss) -> str:
        if not loss.samples or self._agent.clock.wall() - loss.at > LOSS_TOLD:
            return ""
        return (
            f"{loss.samples:,} samples were let go before every sink had them, the last at"
            f" {timestamp(loss.at)}: there was no room for them any more, or they were too old"
        )

    def figures(self) -> Json:
        """For the EdgeNode's status; nothing where nothing is fed."""
        if self._outbox is None:
            return {}
        view: Json = {"records": self._outbox.depth, "sizeBytes": self._outbox.size}
        if self._outbox.oldest:
            view["oldest"] = timestamp(self._outbox.oldest)
        return {"outbox": view}


def _recorder(outbox: SqliteOutbox, agent: Agent) -> Record:
    """A bad sample goes out with the time at which it turned bad: its own is that of its value,
    which has been told.
    """

    def record(device: str, samples: Sequence[tuple[str, Sample]]) -> None:
        if any(sample.quality is Quality.BAD for _, sample in samples):
            now = agent.clock.wall()
            samples = [(name, _turned(sample, now)) for name, sample in samples]
        outbox.put_samples(device, samples)

    return record


def _turned(sample: Sample, now: int) -> Sample:
    if sample.quality is not Quality.BAD:
        return sample
    return sample._replace(source_time=max(now, sample.source_time + MILLISECOND))
