"""Which SCADA faces a process has: by its EdgeNode, or by `--mqtt`; taken up while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from pydantic import BaseModel

from twinbridge.api.plant import Plant
from twinbridge.api.scada import KubeEdgeTopics, PlainMqtt, Scada, SparkplugB
from twinbridge.app.supervise import supervise
from twinbridge.errors import InvalidInput
from twinbridge.ports import Face, Twins

log = structlog.get_logger()


def scada_of(plant: Plant, node: str, mqtt: str | None) -> Scada:
    """What the node's EdgeNode says; `mqtt` adds the plain face where it says nothing of it."""
    found = plant.nodes.get(node)
    scada = found.scada if found is not None else Scada()
    if mqtt is None or scada.mqtt is not None:
        return scada
    return scada.model_copy(update={"mqtt": PlainMqtt(broker=mqtt)})


class Faces:
    """Each face runs in a task of its own, supervised; a changed one is ended and begun anew."""

    def __init__(self, twins: Twins, state_dir: Path) -> None:
        self._twins = twins
        self._state_dir = state_dir
        self._running: dict[str, tuple[BaseModel, Face, asyncio.Task[None]]] = {}
        self._group: asyncio.TaskGroup | None = None

    @asynccontextmanager
    async def running(self, scada: Scada) -> AsyncIterator[Faces]:
        async with asyncio.TaskGroup() as self._group:
            await self.take_up(scada)
            try:
                yield self
            finally:
                await self._end(list(self._running))

    async def take_up(self, scada: Scada) -> None:
        """Begin, change and end faces; those that are as they were go on undisturbed."""
        wanted = {
            name: options
            for name in Scada.model_fields
            if (options := getattr(scada, name)) is not None
        }
        await self._end([n for n, (was, *_) in self._running.items() if wanted.get(n) != was])
        for name, options in wanted.items():
            if name not in self._running:
                self._begin(name, options)

    def _begin(self, name: str, options: BaseModel) -> None:
        if self._group is None:
            raise RuntimeError("faces begin within `running`")
        face = self._made(options)
        task = self._group.create_task(supervise(f"face {name}", face.run, lambda _: None))
        self._running[name] = options, face, task
        log.info("face", name=name)

    async def _end(self, names: list[str]) -> None:
        tasks = [self._running.pop(name)[2] for name in names]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _made(self, options: BaseModel) -> Face:
        """Imported when it is wanted: each brings what only it needs."""
        try:
            match options:
                case PlainMqtt():
                    from twinbridge.adapters.scada_mqtt.face import PlainFace

                    return PlainFace(options, self._twins)
                case SparkplugB():
                    from twinbridge.adapters.scada_sparkplug.face import SparkplugFace

                    return SparkplugFace(options, self._twins, self._state_dir)
                case KubeEdgeTopics():
                    from twinbridge.adapters.scada_kubeedge.face import KubeEdgeFace

                    return KubeEdgeFace(options, self._twins)
        except ModuleNotFoundError as error:
            raise InvalidInput(
                f"{error.name} is missing: pip install 'twinbridge[scada]'"
            ) from error
        raise TypeError(f"no face for {type(options).__name__}")
