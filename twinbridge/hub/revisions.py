"""What hub.db holds: revisions of objects, the newest of each and the last ones of all.

One table is both the objects and the log for watches, so that a write is one row. Each function
runs inside a transaction of the writer's thread.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from twinbridge.hub.stored import Key

MIGRATIONS = (
    """
    CREATE TABLE revision (
        version INTEGER PRIMARY KEY,
        resource TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        deleted INTEGER NOT NULL,
        body BLOB NOT NULL
    );
    CREATE UNIQUE INDEX revision_of ON revision (resource, namespace, name, version);
    CREATE TABLE counter (last INTEGER NOT NULL, compacted INTEGER NOT NULL)
    """,
)

_ALL = "SELECT version, resource, namespace, name, deleted, body FROM revision"
_AT_ONCE = 100


class Revision(NamedTuple):
    version: int
    key: Key
    deleted: bool
    body: bytes


class Counter(NamedTuple):
    last: int
    compacted: int
    """Up to here the log is gone."""


def counter(db: sqlite3.Connection) -> Counter:
    """A new file starts at the time of day in ms, so that no version of a lost file comes again."""
    found = db.execute("SELECT last, compacted FROM counter").fetchone()
    if found is None:
        start = time.time_ns() // 1_000_000
        db.execute("INSERT INTO counter VALUES (?, ?)", (start, start))
        return Counter(start, start)
    return Counter(*found)


def everything(db: sqlite3.Connection) -> Iterator[Revision]:
    """In the order in which it came to be."""
    return map(_revision, db.execute(f"{_ALL} ORDER BY version"))


def _revision(row: tuple[int, str, str, str, int, bytes]) -> Revision:
    version, resource, namespace, name, deleted, body = row
    return Revision(version, Key(resource, namespace, name), bool(deleted), body)


def since(db: sqlite3.Connection, version: int) -> list[Revision]:
    """Those after that version, in order."""
    rows = db.execute(f"{_ALL} WHERE version > ? ORDER BY version", (version,))
    return list(map(_revision, rows))


def keep(db: sqlite3.Connection, fresh: Sequence[Revision]) -> None:
    """In few statements: each gives other threads a chance to take the interpreter from us."""
    for first in range(0, len(fresh), _AT_ONCE):
        some = fresh[first : first + _AT_ONCE]
        values = [v for version, key, gone, body in some for v in (version, *key, gone, body)]
        places = ",".join(["(?,?,?,?,?,?)"] * len(some))
        db.execute(f"INSERT INTO revision VALUES {places}", values)  # noqa: S608 - of our own
    db.execute("UPDATE counter SET last = ?", (fresh[-1].version,))


def compact(db: sqlite3.Connection, version: int) -> int:
    """Forget what was replaced or deleted up to there; gives how many rows went."""
    replaced = db.execute(
        "DELETE FROM revision WHERE version < ?1 AND EXISTS ("
        " SELECT 1 FROM revision AS newer WHERE newer.resource = revision.resource"
        " AND newer.namespace = revision.namespace AND newer.name = revision.name"
        " AND newer.version > revision.version AND newer.version <= ?1)",
        (version,),
    )
    gone = db.execute("DELETE FROM revision WHERE version <= ? AND deleted", (version,))
    db.execute("UPDATE counter SET compacted = max(compacted, ?)", (version,))
    return replaced.rowcount + gone.rowcount
