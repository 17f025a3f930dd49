"""Who watches what. Each change goes only to those whose selection it can touch.

A thousand edges that each watch their own node are found by the node's name, so that a change
costs what its own watchers cost. A watcher that does not take its changes is closed: its client
watches again from the last version that it saw.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from prometheus_client import Counter, Gauge

from twinbridge.hub.kinds import CLUSTER
from twinbridge.hub.stored import Change, Stored, selected_value

BACKLOG: Final = 2_000
"""Changes that wait for one watcher at most."""

WATCHERS = Gauge("twinbridge_hub_watchers", "Open watches of the embedded hub.")
CLOSED = Counter(
    "twinbridge_hub_watchers_closed",
    "Watches that the embedded hub closed because their clients took too little.",
)

Selects = Callable[[Stored], bool]
_INDEXED: Final = ("spec.nodeName", "metadata.name")


class Selection(NamedTuple):
    """What is asked for: `resource` in a namespace ('': all), of which `selects`.

    `narrow`: a field (`spec.nodeName` or `metadata.name`) that has this value in all of it.
    """

    resource: str
    namespace: str
    selects: Selects
    narrow: tuple[str, str] | None = None

    def has(self, item: Stored) -> bool:
        if self.resource != item.key.resource or self.namespace not in (
            CLUSTER,
            item.key.namespace,
        ):
            return False
        return self.selects(item)


def narrowed(exact: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """The most telling of the fields that must have one value."""
    found = dict(exact)
    return next(((name, found[name]) for name in _INDEXED if name in found), None)


class Said(NamedTuple):
    """`kind` ADDED, MODIFIED or DELETED: what a change is to one selection."""

    kind: str
    change: Change


def seen_by(selection: Selection, change: Change) -> Said | None:
    """An object that leaves the selection is deleted for it, one that enters is added."""
    before = change.old is not None and selection.has(change.old)
    after = change.new is not None and selection.has(change.new)
    if not before and not after:
        return None
    if before and after:
        return Said("MODIFIED", change)
    return Said("ADDED" if after else "DELETED", change)


@dataclass(eq=False, slots=True)
class Watcher:
    selection: Selection
    version: int
    """Of the last change that it has seen or need not see."""
    waiting: deque[Said] = field(default_factory=deque)
    closed: bool = False
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, change: Change) -> None:
        if self.closed or (said := seen_by(self.selection, change)) is None:
            return
        if len(self.waiting) >= BACKLOG:
            CLOSED.inc()
            self.close()
            return
        self.waiting.append(said)
        self._wake.set()

    def close(self) -> None:
        self.closed = True
        self._wake.set()

    async def take(self, seconds: float) -> list[Said]:
        """What came, at once or within so many seconds; nothing when it is closed."""
        if not self.waiting and not self.closed:
            try:
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                return []
        self._wake.clear()
        taken = list(self.waiting)
        self.waiting.clear()
        return taken


class Watchers:
    def __init__(self) -> None:
        self._all: dict[str, set[Watcher]] = {}
        self._narrow: dict[tuple[str, str, str], set[Watcher]] = {}
        self.closed = False

    def open(self, selection: Selection, version: int, missed: Iterable[Change]) -> Watcher:
        """A watcher that has `missed` before it, and gets what is published from now on."""
        watcher = Watcher(selection, version)
        for change in missed:
            if said := seen_by(selection, change):
                watcher.waiting.append(said)
        self._group(selection).add(watcher)
        WATCHERS.inc()
        if self.closed:
            watcher.close()
        return watcher

    def leave(self, watcher: Watcher) -> None:
        group = self._group(watcher.selection)
        if watcher in group:
            group.remove(watcher)
            WATCHERS.dec()
        if not group and watcher.selection.narrow:
            del self._narrow[(watcher.selection.resource, *watcher.selection.narrow)]

    def publish(self, change: Change) -> None:
        for watcher in list(self._concerned(change)):
            watcher.offer(change)

    def close(self) -> None:
        """End every watch, those to come too."""
        self.closed = True
        for group in (*self._all.values(), *self._narrow.values()):
            for watcher in group:
                watcher.close()

    def _group(self, selection: Selection) -> set[Watcher]:
        if selection.narrow is None:
            return self._all.setdefault(selection.resource, set())
        return self._narrow.setdefault((selection.resource, *selection.narrow), set())

    def _concerned(self, change: Change) -> Iterator[Watcher]:
        resource = change.item.key.resource
        yield from self._all.get(resource, ())
        for name in _INDEXED:
            values = {selected_value(item, name) for item in (change.old, change.item) if item}
            for value in values:
                yield from self._narrow.get((resource, name, value), ())
