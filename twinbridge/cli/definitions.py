"""The YAML files that a process runs from: loading them, and taking up edits."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeAlias

import structlog

from twinbridge.api.plant import Plant, load_plant
from twinbridge.app.supervise import supervise
from twinbridge.cli.drivers import installed_drivers
from twinbridge.errors import InvalidDefinition, TwinBridgeError

log = structlog.get_logger()

Fingerprint: TypeAlias = frozenset[tuple[str, int, int]]
TakeUp: TypeAlias = Callable[[Plant], Awaitable[None]]
Load: TypeAlias = Callable[[Sequence[str], str | None], Plant]

LOOK_EVERY = 1.0
"""Seconds between looks; an edit counts once two looks in a row saw the same."""


class Source(Protocol):
    @property
    def paths(self) -> Sequence[str]: ...

    @property
    def node(self) -> str | None: ...


class Definitions:
    """Follows the files of `source`, which were `seen` just before `plant` was loaded.

    `asked` (SIGHUP) makes it look at once. An edit with a problem that the running definitions
    do not have is refused as a whole, with its errors in the log.
    """

    def __init__(
        self,
        source: Source,
        plant: Plant,
        seen: Fingerprint,
        take_up: TakeUp,
        load: Load,
    ) -> None:
        self._load = load
        self.asked = asyncio.Event()
        self._source = source
        self._plant = plant
        self._seen = seen
        self._take_up = take_up

    async def follow(self) -> None:
        """Take up each settled edit. Never returns."""
        before = self._seen
        while True:
            asked = await self._wait()
            now = await asyncio.to_thread(fingerprint, self._source.paths)
            settled, before = now == before, now
            if asked or (settled and now != self._seen):
                await self._load_again()
                self._seen = now

    async def _wait(self) -> bool:
        """Until the next look is due; True when somebody asked for it."""
        try:
            async with asyncio.timeout(LOOK_EVERY):
                await self.asked.wait()
        except TimeoutError:
            return False
        self.asked.clear()
        return True

    async def _load_again(self) -> None:
        try:
            plant = await asyncio.to_thread(self._load, self._source.paths, self._source.node)
        except TwinBridgeError as error:
            log.error("edit refused, the old definitions run on", why=str(error))  # noqa: TRY400
            return
        known = {(p.subject, p.field, p.message) for p in self._plant.problems}
        worse = [
            p
            for p in plant.problems
            if not p.warning and (p.subject, p.field, p.message) not in known
        ]
        for problem in worse:
            log.error("edit refused, the old definitions run on", problem=str(problem))
        if not worse:
            self._plant = plant
            await self._take_up(plant)
            log.info("definitions taken up", devices=len(plant.devices))


def load(paths: Sequence[str], node: str | None) -> Plant:
    """Load and say what is wrong; the good resources run. Raises InvalidDefinition if none is."""
    return replace(load_with_documents(paths, node), documents=())


def load_with_documents(paths: Sequence[str], node: str | None) -> Plant:
    """As `load`, with the resources as they were written, for those to whom they are handed."""
    plant = load_plant(paths, installed_drivers(), node)
    for problem in plant.problems:
        (log.warning if problem.warning else log.error)("definition", problem=str(problem))
    if not plant.devices and any(not p.warning for p in plant.problems):
        raise InvalidDefinition("no device can run; see the problems above, or `validate`")
    return plant


def load_beside_hub(paths: Sequence[str], node: str | None) -> Plant:
    """As `load_with_documents`; that nothing runs of it is no error, since the hub defines more."""
    plant = load_plant(paths, installed_drivers(), node) if paths else Plant({}, ())
    for problem in plant.problems:
        log.warning("local definition", problem=str(problem))
    return plant


async def edits_until(stop: asyncio.Event, definitions: Definitions) -> None:
    """Take up edits of the definitions, at once on SIGHUP, until told to stop."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, definitions.asked.set)
    watch = asyncio.create_task(
        supervise("definitions", definitions.follow, lambda _: None), name="definitions"
    )
    try:
        await stop.wait()
    finally:
        watch.cancel()


def fingerprint(paths: Sequence[str]) -> Fingerprint:
    """Name, size and time of every file; a file that vanishes meanwhile is left out."""
    return frozenset(_stats(paths))


def _stats(paths: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    for given in paths:
        path = Path(given)
        files = sorted(path.rglob("*.y*ml")) if path.is_dir() else [path]
        for file in files:
            try:
                stat = file.stat()
            except OSError:
                continue
            yield str(file), stat.st_mtime_ns, stat.st_size
