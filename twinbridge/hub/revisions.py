"""What hub.db holds: revisions of objects, the newest of each and the last ones of all.

One table is both the objects and the log for watches, so that a write is one row. Each function
runs inside a transaction of the writer's thread.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
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
    rows = db.execute(
        "SELECT version, resource, namespace, name, deleted, body FROM revision ORDER BY version"
    )
    for version, resource, namespace, name, deleted, body in rows:
        yield Revision(version, Key(resource, namespace, name), bool(deleted), body)


def latest(db: sqlite3.Connection, key: Key) -> bytes | None:
    found = db.execute(
        "SELECT deleted, body FROM revision WHERE resource = ? AND namespace = ? AND name = ?"
        " ORDER BY version DESC LIMIT 1",
        key,
    ).fetchone()
    return None if found is None or found[0] else bytes(found[1])


def next_version(db: sqlite3.Connection) -> int:
    rows = db.execute("UPDATE counter SET last = last + 1 RETURNING last").fetchall()
    return int(rows[0][0])


def append(db: sqlite3.Connection, revision: Revision) -> None:
    version, key, deleted, body = revision
    db.execute(
        "INSERT INTO revision VALUES (?, ?, ?, ?, ?, ?)", (version, *key, int(deleted), body)
    )


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
