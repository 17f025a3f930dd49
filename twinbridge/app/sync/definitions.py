"""What the hub defines, kept on disk, so that a start without the hub knows all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeAlias

import structlog

from twinbridge.api.accept import Accepted, Resource, Wishes, only_wishes_differ
from twinbridge.api.plant import Plant
from twinbridge.app.agent import Agent
from twinbridge.app.supervise import Backoff
from twinbridge.app.wishes import FOREVER
from twinbridge.core.messages import Audit
from twinbridge.errors import StoreUnavailable
from twinbridge.ports import Hub, HubDefinitions, KnownDefinition, Ref, SyncStore

log = structlog.get_logger()

Documents: TypeAlias = Mapping[Ref, Resource]


class Compiler:
    """What the command line puts together of the drivers, the node and the local files."""

    def __init__(
        self,
        accept: Callable[[Documents, Documents], Accepted],
        wishes: Callable[[Resource, Resource], Wishes],
    ) -> None:
        self.accept = accept
        self.wishes = wishes


class Definitions:
    """The hub's resources of this node: as they are there, and as they are in force here.

    `on_taken` gets the names of resources whose status may differ now. Nothing is taken while the
    gate is shut; while `fetches` says no, only of the EdgeNode, which may say otherwise.
    """

    def __init__(
        self,
        store: SyncStore,
        agent: Agent,
        compiler: Compiler,
        take_up: Callable[[Plant], Awaitable[None]],
        on_taken: Callable[[Iterable[Ref]], None],
        gate: asyncio.Event,
        fetches: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store = store
        self._agent = agent
        self._compiler = compiler
        self._take_up = take_up
        self._on_taken = on_taken
        self._gate = gate
        self._fetches = fetches
        self._turn = asyncio.Lock()
        self._documents: dict[Ref, Resource] = {}
        self._sound: dict[Ref, Resource] = {}
        self.problems: Mapping[Ref, str] = {}
        """What is wrong with resources as the hub has them; their old version runs on."""
        self.missing: frozenset[str] = frozenset()
        """Kinds that the hub does not show."""
        self.up_to_date = asyncio.Event()
        """Set once what the hub listed first in this life is in force."""

    @property
    def documents(self) -> Documents:
        """As the hub has them."""
        return self._documents

    @property
    def sound(self) -> Documents:
        """As they are in force."""
        return self._sound

    async def restore(self) -> Plant:
        """What was in force before this start."""
        try:
            known = await self._store.load_definitions()
        except StoreUnavailable as error:
            log.error("definitions of the hub cannot be read", why=str(error))  # noqa: TRY400 - a broken disk is no bug, its trace says nothing
            known = ()
        self._documents = {one.ref: one.document for one in known if one.document is not None}
        self._sound = {one.ref: one.sound for one in known if one.sound is not None}
        self._agent.given_since = -FOREVER
        return (await self._accepted()).plant

    async def again(self) -> None:
        """The local files have changed."""
        async with self._turn:
            self._agent.given_since = None
            await self._take_all()

    async def follow(self, hub: Hub) -> None:
        """Take up what the hub defines, and each change of it. Never returns."""
        async for told in hub.definitions():
            came = self._agent.clock.mono()
            await self._gate.wait()
            # How long ago it was that a former life of this process heard the hub, nobody knows.
            first = not self.up_to_date.is_set()
            self._agent.desired.wishes.behind = max(0, hub.clock_ahead)
            unheard = FOREVER if first else told.unheard + self._agent.clock.mono() - came
            found = told._replace(unheard=unheard)
            fetches = self._fetches()
            await self.take(found if fetches else self._of_the_node(found))
            if not fetches and self._fetches():  # since the EdgeNode was taken
                await self.take(found)
            self.up_to_date.set()

    def _of_the_node(self, found: HubDefinitions) -> HubDefinitions:
        """That it is gone says nothing: so is all the rest at a hub that is built anew."""
        node = {ref: one for ref, one in found.documents.items() if ref.kind == "EdgeNode"}
        return found._replace(documents={**self._documents, **node})

    async def take(self, found: HubDefinitions) -> None:
        """On disk first: what was taken up once is not forgotten by a restart."""
        async with self._turn:
            await self._take(found)

    async def _take(self, found: HubDefinitions) -> None:
        since, old = self._agent.clock.mono() - found.unheard, self._documents
        self.missing = found.missing
        kept = {ref: one for ref, one in old.items() if ref.kind in found.missing}
        new = {**kept, **found.documents}
        changed = {ref for ref, one in new.items() if one is not old.get(ref) != one}
        changed |= old.keys() - new.keys()
        if not changed:
            return
        async with asyncio.TaskGroup() as tasks:
            keeping = self._keep(_known(changed, new, self._sound))
            tasks.create_task(keeping, name="definitions to disk")
            looked = await self._looked_at(changed, new)  # while the disk is at work
        self._documents = new
        wishes = {ref for ref in looked if self._only_wishes(ref, new)}
        for ref in sorted(changed - wishes):
            if ref.kind == "Device" and _uid(old.get(ref)) not in ("", _uid(new.get(ref))):
                await self._agent.make_anew(ref.name)
        self._agent.given_since = since
        try:
            for ref in sorted(wishes):
                await self._take_wishes(ref, looked[ref])
            if wishes != changed:
                await self._take_all()
        finally:
            self._agent.given_since = None
        self._on_taken(changed)

    async def _looked_at(self, changed: Iterable[Ref], documents: Documents) -> dict[Ref, Wishes]:
        """What those desire that differ in nothing else."""
        found = {}
        for ref in changed:
            await asyncio.sleep(0)  # thousands may come at once
            if self._only_wishes(ref, documents):
                model = self._sound.get(Ref("DeviceModel", self._agent.devices[ref.name].model))
                found[ref] = self._compiler.wishes(documents[ref], model or {})
        return found

    def _only_wishes(self, ref: Ref, documents: Documents) -> bool:
        new, running = documents.get(ref), self._sound.get(ref)
        return (
            ref.kind == "Device"
            and new is not None
            and running is not None
            and ref.name in self._agent.devices
            and only_wishes_differ(new, running)
        )

    async def _take_wishes(self, ref: Ref, found: Wishes) -> None:
        """The short way of a desired value: nothing else of the plant is looked at."""
        document = self._documents[ref]
        problems = {r: why for r, why in self.problems.items() if r != ref}
        if found.problem:
            await self._tell_problems({**problems, ref: found.problem})
            return
        self.problems = problems
        self._sound[ref] = document
        await self._agent.take_wishes(
            replace(
                self._agent.devices[ref.name],
                desired=found.desired,
                generation=generation(document),
            ),
            self._agent.unheard,
        )
        await self._keep([KnownDefinition(ref, document, document)])

    async def _take_all(self) -> None:
        before, known = dict(self._sound), self.problems
        accepted = await self._accepted()
        problems, self.problems = self.problems, known
        await self._tell_problems(problems)
        await self._take_up(accepted.plant)
        touched = {r for r in before.keys() | self._sound if before.get(r) != self._sound.get(r)}
        gone = [ref for ref in touched if ref not in self._sound and ref not in self._documents]
        await self._keep(_known(touched - set(gone), self._documents, self._sound), gone)

    async def _accepted(self) -> Accepted:
        accepted = await asyncio.to_thread(self._compiler.accept, self._documents, self._sound)
        self._sound = {Ref(*key): found for key, found in accepted.in_force.items()}
        self.problems = {Ref(*key): why for key, why in accepted.problems.items()}
        return accepted

    async def _tell_problems(self, problems: Mapping[Ref, str]) -> None:
        """Those that are new are said, and noted for an Event beside the resource."""
        new = {ref: why for ref, why in problems.items() if self.problems.get(ref) != why}
        self.problems = problems
        clock = self._agent.clock
        records = [
            Audit(
                "definition.refused", "/".join(ref), "hub", {"why": why}, clock.wall(), clock.mono()
            )
            for ref, why in new.items()
        ]
        for ref, why in new.items():
            log.error("definition", resource="/".join(ref), problem=why)
        if records:
            with suppress(StoreUnavailable):
                await self._agent.store.append_audit(*records)

    async def _keep(self, known: Iterable[KnownDefinition], gone: Sequence[Ref] = ()) -> None:
        """Until the disk takes it: what is not kept is not taken up."""
        backoff = Backoff(0.2, 10.0)
        known = list(known)
        while True:
            try:
                return await self._store.save_definitions(known, gone)
            except StoreUnavailable as error:
                log.warning("definitions of the hub are not kept, and wait", why=str(error))
                await asyncio.sleep(backoff.next())


def _known(refs: Iterable[Ref], new: Documents, sound: Documents) -> list[KnownDefinition]:
    return [KnownDefinition(ref, new.get(ref), sound.get(ref)) for ref in refs]


def generation(document: Resource) -> int:
    return int(str(_metadata(document).get("generation", 1)))


def _uid(document: Resource | None) -> str:
    return "" if document is None else str(_metadata(document).get("uid", ""))


def _metadata(document: Resource) -> Resource:
    found = document.get("metadata")
    return found if isinstance(found, dict) else {}
