"""The objects of the hub: all in memory, each write on disk before it is answered or seen.

Reads and watches are served from memory on the event loop. Writes are decided one after the other
on the writer's thread; those that wait at the same time share one commit, and its fsync.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import orjson

from twinbridge.adapters.sqlite_file import SqliteFile
from twinbridge.adapters.sqlite_thread import SqliteThread
from twinbridge.errors import StoreUnavailable
from twinbridge.hub import refusals, revisions
from twinbridge.hub.commits import Commit, Committed, Decide, Put, Remove, Write, Written
from twinbridge.hub.kinds import Catalog, Json, Kind
from twinbridge.hub.revisions import Revision
from twinbridge.hub.stored import Change, Key, Stored, stored

FILE = "hub.db"
REMEMBERED = 10_000
"""Changes that a watch may go back by."""
REMEMBERED_BYTES = 64 << 20
AT_ONCE = 500
"""Writes that share one commit at most."""


class HubStore:
    """Every object of every kind; `on_change` is called on the loop with each change, in order."""

    def __init__(self, thread: SqliteThread, catalog: Catalog) -> None:
        self._thread = thread
        self._catalog = catalog
        self._items: dict[str, dict[Key, Stored]] = {k.key: {} for k in catalog.kinds}
        self._changes: deque[Change] = deque()
        self._bytes = 0
        self._waiting: deque[Write] = deque()
        self._committing = False
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
        self.on_change(change)

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
        done: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        self._waiting.append(Write(kind, key, decide, dry, done))
        if not self._committing:
            self._commit()
        return await asyncio.shield(done)

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

    def _commit(self) -> None:
        """All that waits, as far as one commit takes it."""
        writes = [self._waiting.popleft() for _ in range(min(len(self._waiting), AT_ONCE))]
        if not writes:
            return
        there = {write.key: self.get(write.key) for write in writes}
        known = {key: item.body if item else None for key, item in there.items()}
        commit = Commit(writes, known, self.version, sum(map(len, self._items.values())))
        try:
            done = self._thread.submit(commit.run)
        except StoreUnavailable as closed:
            _tell(writes, [closed] * len(writes))
            return
        self._committing = True
        done.add_done_callback(lambda told: self._committed(writes, told))

    def _committed(self, writes: Sequence[Write], told: asyncio.Future[Committed]) -> None:
        self._committing = False
        if told.cancelled():
            return  # the loop ends
        failed = told.exception()
        if failed is not None:
            _tell(writes, [failed] * len(writes))
        else:
            missed, results = told.result()
            for row in missed:
                self._restore(row, self.compacted)
            for result in results:
                if isinstance(result, Written) and result.change:
                    self._publish(result.change)
            _tell(writes, results)
        self._commit()

    def _publish(self, made: Change) -> None:
        change = Change(made.item, self.get(made.item.key), made.deleted)
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


def _tell(writes: Sequence[Write], results: Sequence[Written | BaseException]) -> None:
    for write, result in zip(writes, results, strict=True):
        write.tell(result)


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
