"""What is done to the outbox's file, each within a transaction of the caller's."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from twinbridge.adapters.outbox_sqlite.blocks import (
    GAP,
    SAMPLES,
    Block,
    record_block,
    unpack_record,
    unpack_samples,
)
from twinbridge.ports import OutboxRecord

MIGRATIONS = (
    """
    CREATE TABLE life (id TEXT NOT NULL, next INTEGER NOT NULL, depth INTEGER NOT NULL);
    INSERT INTO life VALUES (lower(hex(randomblob(16))), 1, 0);
    CREATE TABLE cursor (sink TEXT PRIMARY KEY, acked INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE block (
        seq INTEGER PRIMARY KEY,
        count INTEGER NOT NULL,
        kind TEXT NOT NULL,
        device TEXT NOT NULL,
        at INTEGER NOT NULL,
        monotonic INTEGER NOT NULL,
        body BLOB NOT NULL
    )
    """,
)

FREE_DISK_FLOOR = 0.1
"""Below this share of free disk the outbox stops growing: the rest is for what must be kept."""
TRIM_SHARE = 16
"""So much of the whole goes at once: gap records are few, however long an outage lasts."""
_BEYOND_ALL = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Bounds:
    """`size` in bytes, `age` in nanoseconds by our own clock."""

    folder: Path
    size: int
    age: int


class Level(NamedTuple):
    """As Outbox says it, of what is on disk."""

    depth: int
    oldest: int
    size: int


def level(db: sqlite3.Connection) -> Level:
    depth = db.execute("SELECT depth FROM life").fetchone()[0]
    oldest = db.execute("SELECT at FROM block ORDER BY seq LIMIT 1").fetchone()
    return Level(depth, oldest[0] if oldest else 0, _pragma(db, "page_count") * _page_size(db))


def append(db: sqlite3.Connection, blocks: Iterable[Block]) -> int:
    """The seq of the last record."""
    first: int = db.execute("SELECT next FROM life").fetchone()[0]
    seq = first
    for block in blocks:
        db.execute(
            "INSERT INTO block (seq, kind, device, at, monotonic, count, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (seq, *block),
        )
        seq += block.length
    db.execute("UPDATE life SET next = ?, depth = depth + ?", (seq, seq - first))
    return seq - 1


def keep_cursors(db: sqlite3.Connection, sinks: Sequence[str]) -> None:
    """Of these sinks only: one that is gone holds nothing back."""
    known = [name for (name,) in db.execute("SELECT sink FROM cursor")]
    db.executemany(
        "DELETE FROM cursor WHERE sink = ?", [(name,) for name in known if name not in sinks]
    )
    forget_acknowledged(db, sinks)


def acknowledge(
    db: sqlite3.Connection, outbox: str, sink: str, seq: int, sinks: Sequence[str]
) -> None:
    """Nothing happens if `outbox` is another life than this file's: its numbers are others."""
    if db.execute("SELECT id FROM life").fetchone()[0] != outbox:
        return
    db.execute(
        "INSERT INTO cursor VALUES (?, ?)"
        " ON CONFLICT (sink) DO UPDATE SET acked = max(acked, excluded.acked)",
        (sink, seq),
    )
    forget_acknowledged(db, sinks)


def forget_acknowledged(db: sqlite3.Connection, sinks: Sequence[str]) -> None:
    cursors = dict(db.execute("SELECT sink, acked FROM cursor"))
    lowest = min(cursors.get(sink, 0) for sink in sinks)
    _delete(db, "seq <= :seq AND seq + count - 1 <= :seq", {"seq": lowest})


def read(db: sqlite3.Connection, sink: str, limit: int) -> tuple[str, list[OutboxRecord]]:
    """The outbox's id, and what `sink` has yet to get: about `limit` samples and records."""
    outbox = db.execute("SELECT id FROM life").fetchone()[0]
    row = db.execute("SELECT acked FROM cursor WHERE sink = ?", (sink,)).fetchone()
    acked = row[0] if row else 0
    records: list[OutboxRecord] = []
    for found in db.execute(
        "SELECT seq, kind, device, at, monotonic, body, count FROM block"
        " WHERE seq >= coalesce((SELECT max(seq) FROM block WHERE seq <= :acked), 0)"
        " AND seq + count - 1 > :acked ORDER BY seq",
        {"acked": acked},
    ):
        if records and limit < found[6]:
            break
        limit -= found[6]
        records.append(_record(acked, *found[:6]))
    return outbox, records


def trim(db: sqlite3.Connection, bounds: Bounds, now: int, monotonic: int) -> int:
    """Delete the oldest samples beyond the bounds, and tell of it; how many went."""
    bound = max(_beyond_age(db, now, bounds.age), _beyond_size(db, bounds))
    where, names = "kind = :kind AND seq < :seq", {"kind": SAMPLES, "seq": bound}
    span = db.execute(f"SELECT min(at), max(at) FROM block WHERE {where}", names).fetchone()  # noqa: S608 - a constant
    dropped = _delete(db, where, names) if bound else 0
    if dropped:
        append(db, [gap(span[0], span[1], dropped, now, monotonic)])
    return dropped


def gap(start: int, end: int, records: int | None, now: int, monotonic: int) -> Block:
    """`records` None: nobody knows how many."""
    body = {"from": start, "to": end, "records": records}
    return record_block(GAP, "", body, now, monotonic)


def _beyond_age(db: sqlite3.Connection, now: int, age: int) -> int:
    """The seq that the first sample to keep has, 0 when it is too early to clean up."""
    oldest = db.execute(
        "SELECT at FROM block WHERE kind = ? ORDER BY seq LIMIT 1", (SAMPLES,)
    ).fetchone()
    if oldest is None or oldest[0] >= now - age - age // TRIM_SHARE:
        return 0
    young = db.execute(
        "SELECT seq FROM block WHERE at >= ? ORDER BY seq LIMIT 1", (now - age,)
    ).fetchone()
    return int(young[0]) if young else _BEYOND_ALL


def _beyond_size(db: sqlite3.Connection, bounds: Bounds) -> int:
    total, free = _pragma(db, "page_count"), _pragma(db, "freelist_count")
    disk = shutil.disk_usage(bounds.folder)
    tight = disk.free < disk.total * FREE_DISK_FLOOR and free * TRIM_SHARE < total
    if not tight and (total - free) * _page_size(db) <= bounds.size:
        return 0
    oldest, newest = db.execute(
        "SELECT min(seq), max(seq) FROM block WHERE kind = ?", (SAMPLES,)
    ).fetchone()
    return 0 if oldest is None else int(oldest + (newest - oldest) // TRIM_SHARE + 1)


def _delete(db: sqlite3.Connection, where: str, names: dict[str, object]) -> int:
    found = db.execute(f"SELECT coalesce(sum(count), 0) FROM block WHERE {where}", names)  # noqa: S608 - our own constants
    gone: int = found.fetchone()[0]
    if gone:
        db.execute(f"DELETE FROM block WHERE {where}", names)  # noqa: S608 - our own constants
        db.execute("UPDATE life SET depth = depth - ?", (gone,))
    return gone


def _record(
    acked: int, seq: int, kind: str, device: str, at: int, monotonic: int, body: bytes
) -> OutboxRecord:
    """Of samples: those that are beyond the cursor."""
    if kind != SAMPLES:
        return OutboxRecord(seq, kind, device, at, monotonic, body=unpack_record(body))
    past = max(0, acked + 1 - seq)
    return OutboxRecord(seq + past, kind, device, at, monotonic, unpack_samples(body)[past:])


def _page_size(db: sqlite3.Connection) -> int:
    return _pragma(db, "page_size")


def _pragma(db: sqlite3.Connection, name: str) -> int:
    number: int = db.execute(f"PRAGMA {name}").fetchone()[0]
    return number
