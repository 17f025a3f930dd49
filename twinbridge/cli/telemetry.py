"""The outbox and the engines that it feeds, as the EdgeNode says; taken up while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from twinbridge.api.connectivity import Connectivity
from twinbridge.api.plant import Plant
from twinbridge.api.telemetry import Prometheus
from twinbridge.api.wire import Json, timestamp
from twinbridge.app.agent import Agent
from twinbridge.app.forwarding import Forwarder
from twinbridge.app.supervise import supervise
from twinbridge.app.sync.sync import Backlog
from twinbridge.core.model import SECOND
from twinbridge.ports import Outbox

log = structlog.get_logger()

UNBUFFERED_BYTES = 1_000_000
UNBUFFERED_AGE = 60 * SECOND
"""Of a node that buffers nothing: what is on its way, and no outage."""


@dataclass(frozen=True, slots=True)
class TelemetryOptions:
    """Equal options leave what runs as it is."""

    prometheus: Prometheus | None
    connectivity: Connectivity
    site: str = ""

    @property
    def wanted(self) -> bool:
        sends = self.connectivity.online.send_telemetry and self.connectivity.mode != "offline"
        return self.prometheus is not None and sends

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
        return TelemetryOptions(None, connectivity or Connectivity())
    return TelemetryOptions(
        found.telemetry.prometheus, connectivity or found.connectivity, found.site
    )


class TelemetryFeed(Backlog):
    """What history records also goes to the outbox while an engine is named."""

    def __init__(self, agent: Agent, state_dir: Path) -> None:
        self._agent = agent
        self._state_dir = state_dir
        self._group: asyncio.TaskGroup | None = None
        self._options: TelemetryOptions | None = None
        self._task: asyncio.Task[None] | None = None
        self._outbox: Outbox | None = None
        self._forwarder: Forwarder | None = None
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
        from twinbridge.adapters.outbox_sqlite import open_outbox
        from twinbridge.adapters.sink_remote_write import open_remote_write

        engine = options.prometheus
        if engine is None:
            return
        labels = {"edge_id": self._agent.node, "edge_location": options.site, **engine.labels}
        async with (
            open_remote_write(
                engine.url,
                labels,
                token_file=_path(engine.token_file),
                ca_file=_path(engine.ca_file),
            ) as sink,
            open_outbox(
                self._state_dir,
                limit_bytes=options.limit_bytes,
                max_age=options.max_age,
                sinks=[sink.name],
            ) as outbox,
        ):
            self._forwarder = Forwarder(outbox, [sink])
            if self._held:
                self._forwarder.hold()
            self._outbox, self._agent.also_record = outbox, outbox.put_samples
            log.info("telemetry", engine=engine.url)
            try:
                await self._forwarder.run()
            finally:
                self._outbox = self._forwarder = self._agent.also_record = None

    def hold(self) -> None:
        self._held = True
        if self._forwarder is not None:
            self._forwarder.hold()

    def release(self) -> None:
        self._held = False
        if self._forwarder is not None:
            self._forwarder.release()

    def figures(self) -> Json:
        """For the EdgeNode's status; nothing where nothing is fed."""
        if self._outbox is None:
            return {}
        view: Json = {"records": self._outbox.depth, "sizeBytes": self._outbox.size}
        if self._outbox.oldest:
            view["oldest"] = timestamp(self._outbox.oldest)
        return {"outbox": view}


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
