"""The objects of the hub: all in memory, each write on disk before it is answered or seen.

Reads and watches are served from memory on the event loop. Writes run one after the other on the
writer's thread, against what is on disk then; those that wait at the same time share one fsync.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import orjson

from twinbridge.adapters.sqlite_file import SqliteFile
from twinbridge.adapters.sqlite_thread import SqliteThread
from twinbridge.errors import StoreUnavailable
from twinbridge.hub import refusals, revisions
from twinbridge.hub.kinds import Catalog, Json, Kind
from twinbridge.hub.refusals import Refused
from twinbridge.hub.revisions import Revision
from twinbridge.hub.stored import Change, Key, Stored, stored

FILE = "hub.db"
REMEMBERED = 10_000
"""Changes that a watch may go back by."""
REMEMBERED_BYTES = 64 << 20
MOST_OBJECTS = 200_000


class Put(NamedTuple):
    """Store this document; unless `changed`, it is what is there already."""

    document: Json
    changed: bool = True
    warnings: tuple[str, ...] = ()


class Remove(NamedTuple):
    """Delete it; `document` is its last state."""

    document: Json


Decide = Callable[[Json | None], Put | Remove]
"""From what is there (None: nothing) to what shall be. Pure; raises Refused."""


@dataclass(frozen=True, slots=True)
class Written:
    document: Json
    """As it is now, or would be; of what was deleted the last state."""
    change: Change | None
    created: bool
    deleted: bool
    warnings: tuple[str, ...] = ()


class _Refusal(NamedTuple):
    """As a result of the writer: an exception would undo the writes that share its commit."""

    why: Refused


class HubStore:
    """Every object of every kind; `on_change` is called on the loop with each change, in order."""

    def __init__(self, thread: SqliteThread, catalog: Catalog) -> None:
        self._thread = thread
        self._catalog = catalog
        self._items: dict[str, dict[Key, Stored]] = {k.key: {} for k in catalog.kinds}
        self._changes: deque[Change] = deque()
        self._bytes = 0
        self.version = 0
        """Of the newest change that can be seen."""
        self.compacted = 0
        """Watches and lists of this version and later ones can be had."""
        self.on_change: Callable[[Change], None] = lambda _: None

    @property
    def trouble(self) -> str:
        """Why the last write failed, or ''."""
        return self._thread.trouble

    @property
    def commits(self) -> int:
        """Each one fsync, for all who wrote at the same time."""
        return self._thread.commits

    async def load(self) -> None:
        """What is on disk. Raises StoreUnavailable."""
        found = await self._thread.write(
            lambda db: (revisions.counter(db), list(revisions.everything(db)))
        )
        counted, rows = found
        self.version = self.compacted = counted.compacted
        for row in rows:
            self._restore(row, counted.compacted)
        self.version = counted.last

    def _restore(self, row: Revision, compacted: int) -> None:
        kind = self._catalog.stored(row.key.resource)
        if kind is None:
            return  # a kind of another version of ours; its rows stay
        item = stored(kind, row.key, row.version, orjson.loads(row.body), row.body)
        old = self._items[row.key.resource].get(row.key)
        change = Change(item, old, row.deleted)
        if row.version > compacted:
            self._remember(change)
        self._put(change)

    def get(self, key: Key) -> Stored | None:
        return self._items[key.resource].get(key)

    def count(self, resource: str) -> int:
        return len(self._items[resource])

    def items(self, resource: str) -> Mapping[Key, Stored]:
        """As they are now; not to be kept over an await."""
        return self._items[resource]

    def items_at(self, resource: str, version: int) -> Mapping[Key, Stored]:
        """As they were at a version that is not compacted yet. Raises Refused: 410."""
        if version == self.version:
            return self._items[resource]
        if version < self.compacted:
            raise refusals.too_old(version, self.compacted)
        then = dict(self._items[resource])
        for change in reversed(self._changes):
            if change.item.version <= version:
                break
            if change.item.key.resource != resource:
                continue
            if change.old is None:
                then.pop(change.item.key, None)
            else:
                then[change.item.key] = change.old
        return then

    def changes_since(self, version: int) -> Iterator[Change]:
        """Those after that version, in order. Raises Refused: 410."""
        if version < self.compacted:
            raise refusals.too_old(version, self.compacted)
        newer: list[Change] = []
        for change in reversed(self._changes):
            if change.item.version <= version:
                break
            newer.append(change)
        return reversed(newer)

    async def write(self, kind: Kind, key: Key, decide: Decide, *, dry: bool = False) -> Written:
        """Returns once it is on disk. Raises Refused, as `decide` does, or StoreUnavailable.

        Whoever is cancelled meanwhile does not know whether it was written.
        """
        full = sum(map(len, self._items.values())) >= MOST_OBJECTS
        done = self._thread.submit(lambda db: _write(db, kind, key, decide, dry=dry, full=full))
        done.add_done_callback(self._written)
        written = await asyncio.shield(done)
        if isinstance(written, _Refusal):
            raise written.why
        return written

    async def forget(self, item: Stored) -> None:
        """Delete this revision of an object, unless it has changed. Raises StoreUnavailable."""
        kind = self._catalog.stored(item.key.resource)
        if kind is None:
            return

        def decide(old: Json | None) -> Put | Remove:
            if old is None or old["metadata"]["resourceVersion"] != str(item.version):
                return Put(old or {}, changed=False)
            return Remove(old)

        await self.write(kind, item.key, decide)

    def _written(self, done: asyncio.Future[Written | _Refusal]) -> None:
        if done.cancelled() or done.exception() is not None:
            return  # whoever waits is told
        written = done.result()
        if isinstance(written, _Refusal) or written.change is None:
            return
        item = written.change.item
        change = Change(item, self.get(item.key), written.deleted)
        self._remember(change)
        self._put(change)
        self.on_change(change)

    def _put(self, change: Change) -> None:
        items = self._items[change.item.key.resource]
        if change.deleted:
            items.pop(change.item.key, None)
        else:
            items[change.item.key] = change.item
        self.version = change.item.version

    def _remember(self, change: Change) -> None:
        self._changes.append(change)
        self._bytes += len(change.item.body)
        while len(self._changes) > REMEMBERED or self._bytes > REMEMBERED_BYTES:
            forgotten = self._changes.popleft().item
            self._bytes -= len(forgotten.body)
            self.compacted = forgotten.version

    async def compact(self, *, everything: bool = False) -> int:
        """Forget on disk what no watch can ask for; gives how many revisions went."""
        if everything:
            self._changes.clear()
            self._bytes = 0
            self.compacted = self.version
        version = self.compacted
        return await self._thread.write(lambda db: revisions.compact(db, version))


def _write(
    db: sqlite3.Connection, kind: Kind, key: Key, decide: Decide, *, dry: bool, full: bool
) -> Written | _Refusal:
    body = revisions.latest(db, key)
    try:
        if body is None and full:
            why = f"exceeded quota: this hub holds at most {MOST_OBJECTS} objects"
            raise refusals.forbidden(kind, key.name, why)
        verdict = decide(None if body is None else orjson.loads(body))
    except Refused as refused:
        return _Refusal(refused)
    deleted = isinstance(verdict, Remove)
    document = verdict.document
    warnings = () if isinstance(verdict, Remove) else verdict.warnings
    if dry or (isinstance(verdict, Put) and not verdict.changed):
        return Written(document, None, body is None, deleted, warnings)
    version = revisions.next_version(db)
    document["metadata"]["resourceVersion"] = str(version)
    encoded = orjson.dumps(document)
    revisions.append(db, Revision(version, key, deleted, encoded))
    change = Change(stored(kind, key, version, document, encoded), None, deleted)
    return Written(document, change, body is None, deleted, warnings)


def _prepare(file: SqliteFile) -> str:
    file.path.parent.mkdir(parents=True, exist_ok=True)
    return file.damage(thorough=False)


@asynccontextmanager
async def open_hub_store(folder: Path, catalog: Catalog) -> AsyncIterator[HubStore]:
    """The store in this folder while the context lasts. Raises StoreUnavailable."""
    file = SqliteFile(folder / FILE, revisions.MIGRATIONS)
    try:
        damage = await asyncio.to_thread(_prepare, file)
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"{file.path}: {error}") from error
    if damage:
        raise StoreUnavailable(f"{file.path} is damaged ({damage}): restore it, or move it away")
    thread = SqliteThread(file)
    try:
        store = HubStore(thread, catalog)
        await store.load()
        yield store
    finally:
        with suppress(StoreUnavailable):
            await thread.close()
