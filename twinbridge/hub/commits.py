"""One commit: the writes that came at the same time, decided one after the other, kept together.

Only one commit is under way at a time, and what it made is in memory before the next one begins:
so each write is decided against what is in memory and what came before it in its own commit.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import orjson

from twinbridge.hub import refusals, revisions
from twinbridge.hub.kinds import Json, Kind
from twinbridge.hub.revisions import Revision
from twinbridge.hub.stored import Change, Key, stored

MOST_OBJECTS = 200_000


class Put(NamedTuple):
    """Store this document; unless `changed`, it is what is there already."""

    document: Json
    changed: bool = True
    warnings: tuple[str, ...] = ()


class Remove(NamedTuple):
    """Delete it; `document` is its last state."""

    document: Json


Decide: TypeAlias = Callable[[Json | None], Put | Remove]
"""From what is there (None: nothing) to what shall be. Pure; raises Refused."""


@dataclass(frozen=True, slots=True)
class Written:
    document: Json
    """As it is now, or would be; of what was deleted the last state."""
    change: Change | None
    """Without what was before."""
    created: bool
    deleted: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Write:
    """Asked for by somebody who waits for `done`."""

    kind: Kind
    key: Key
    decide: Decide
    dry: bool
    done: asyncio.Future[Written]

    def tell(self, result: Written | BaseException) -> None:
        if self.done.done():
            return
        if isinstance(result, BaseException):
            self.done.set_exception(result)
        else:
            self.done.set_result(result)


class Committed(NamedTuple):
    """`missed`: what is on disk already and was not known, for a commit before this one was told
    to have failed and had not.
    """

    missed: Sequence[Revision]
    results: Sequence[Written | Exception]


@dataclass(slots=True)
class Commit:
    """`known`: the bodies of what is written to, as they are in memory at `version`."""

    writes: Sequence[Write]
    known: dict[Key, bytes | None]
    version: int
    objects: int

    def run(self, db: sqlite3.Connection) -> Committed:
        """On the writer's thread, inside a transaction. A write that is refused, or whose
        decision fails, leaves the others alone.
        """
        last = revisions.counter(db).last
        missed = revisions.since(db, self.version) if last != self.version else []
        self.version = last
        self.known |= {r.key: None if r.deleted else r.body for r in missed}
        fresh: list[Revision] = []
        results = [self._result(write, fresh) for write in self.writes]
        if fresh:
            revisions.keep(db, fresh)
        return Committed(missed, results)

    def _result(self, write: Write, fresh: list[Revision]) -> Written | Exception:
        try:
            return self._decided(write, fresh)
        except Exception as error:  # noqa: BLE001 - handed on to whoever asked
            return error

    def _decided(self, write: Write, fresh: list[Revision]) -> Written:
        kind, key = write.kind, write.key
        body = self.known.get(key)
        if body is None and self.objects >= MOST_OBJECTS:
            why = f"exceeded quota: this hub holds at most {MOST_OBJECTS} objects"
            raise refusals.forbidden(kind, key.name, why)
        verdict = write.decide(None if body is None else orjson.loads(body))
        deleted, document = isinstance(verdict, Remove), verdict.document
        warnings = () if isinstance(verdict, Remove) else verdict.warnings
        if write.dry or (isinstance(verdict, Put) and not verdict.changed):
            return Written(document, None, body is None, deleted, warnings)
        version = self.version + 1
        document["metadata"]["resourceVersion"] = str(version)
        encoded = orjson.dumps(document)
        change = Change(stored(kind, key, version, document, encoded), None, deleted)
        fresh.append(Revision(version, key, deleted, encoded))
        self.version = version
        self.objects += (body is None) - deleted
        self.known[key] = None if deleted else encoded
        return Written(document, change, body is None, deleted, warnings)
