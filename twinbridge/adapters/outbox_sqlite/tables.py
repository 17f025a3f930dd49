"""What is done to the outbox's file, each within a transaction of the caller's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from twinbridge.adapters.outbox_sqlite.blocks import (
    GAP,
    SAMPLES,
    Block,
    record_block,
    unpack_record,
    unpack_samples,
)
from twinbridge.adapters.outbox_sqlite.told import Range, common, holes, joined, length
from twinbridge.adapters.state_rows import dumps
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
    """
    CREATE TABLE told (
        sink TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (sink, first)
    ) WITHOUT ROWID;
    INSERT INTO told SELECT sink, 1, acked FROM cursor WHERE acked > 0;
    DROP TABLE cursor;
    CREATE TABLE clock (id INTEGER PRIMARY KEY, boot TEXT NOT NULL, synced INTEGER NOT NULL);
    INSERT INTO clock VALUES (0, '', 0);
    ALTER TABLE block ADD COLUMN clock INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE life DROP COLUMN depth;
    ALTER TABLE life ADD COLUMN journal INTEGER NOT NULL DEFAULT 0
    """,
    """
    CREATE TABLE refused (
        id INTEGER PRIMARY KEY,
        sink TEXT NOT NULL,
        seq INTEGER NOT NULL,
        kind TEXT NOT NULL,
        device TEXT NOT NULL,
        at INTEGER NOT NULL,
        why TEXT NOT NULL,
        content BLOB NOT NULL
    )
    """,
)

REFUSED_KEPT = 1_000
"""Refused parts, the newest."""
BEYOND_ALL = 2**63 - 1

_Row: TypeAlias = tuple[int, str, str, int, int, bytes, int, int]
"""seq, kind, device, at, monotonic, body, count, clock."""
_FROM = "FROM block WHERE seq >= coalesce((SELECT max(seq) FROM block WHERE seq <= :seq), 0)"
"""From the block on that has this number in it, or the one before it."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """`size` in bytes, `age` in ns."""

    folder: Path
    size: int
    age: int
    sinks: Sequence[str]


class Now(NamedTuple):
    """ns of both clocks; `boot` names the one within which monotonic times compare."""

    wall: int
    monotonic: int
    boot: str
    synced: bool


class Level(NamedTuple):
    """As Outbox says it, of what is on disk."""

    depth: int
    oldest: int
    size: int


def level(db: sqlite3.Connection, bounds: Bounds) -> Level:
    end, depth, first = newest(db), 0, BEYOND_ALL
    for sink in bounds.sinks:
        told = told_to(db, sink)
        depth = max(depth, end - length(told))
        first = min(first, next(holes(told, 0, end), (BEYOND_ALL, 0))[0])
    oldest = db.execute(f"SELECT at {_FROM} ORDER BY seq LIMIT 1", {"seq": first}).fetchone()
    return Level(depth, oldest[0] if oldest else 0, pragma(db, "page_count") * page_size(db))


def newest(db: sqlite3.Connection) -> int:
    """The last number that was given."""
    following: int = db.execute("SELECT next FROM life").fetchone()[0]
    return following - 1


def append(db: sqlite3.Connection, blocks: Iterable[Block], now: Now) -> int:
    """The seq of the last record."""
    clock = _clock(db, now)
    first = newest(db) + 1
    seq = first
    for block in blocks:
        db.execute(
            "INSERT INTO block (seq, kind, device, at, monotonic, count, body, clock)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (seq, *block, clock),
        )
        seq += block.length
    db.execute("UPDATE life SET next = ?", (seq,))
    return seq - 1


def journaled(db: sqlite3.Connection) -> int:
    """How far the journal was taken over."""
    number: int = db.execute("SELECT journal FROM life").fetchone()[0]
    return number


def note_journaled(db: sqlite3.Connection, number: int) -> None:
    db.execute("UPDATE life SET journal = ?", (number,))


def keep_sinks(db: sqlite3.Connection, bounds: Bounds) -> None:
    """These and no others: one that is gone holds nothing back, a new one gets all there is."""
    known = {name for (name,) in db.execute("SELECT DISTINCT sink FROM told")}
    gone = [(name,) for name in known if name not in bounds.sinks]
    db.executemany("DELETE FROM told WHERE sink = ?", gone)
    there = joined(
        (seq, seq + count - 1) for seq, count in db.execute("SELECT seq, count FROM block")
    )
    lost = list(holes(there, 0, newest(db)))
    for sink in bounds.sinks:
        mark(db, sink, lost)
    forget(db, bounds)


def acknowledge(db: sqlite3.Connection, outbox: str, sink: str, span: Range) -> None:
    """Nothing happens if `outbox` is another life than this file's: its numbers are others."""
    if db.execute("SELECT id FROM life").fetchone()[0] == outbox:
        mark(db, sink, [span])


def forget(db: sqlite3.Connection, bounds: Bounds, wanted: Sequence[Range] = ()) -> None:
    """Delete what every sink has, but for what is `wanted` again perhaps."""
    everywhere = list(holes(wanted, 0, newest(db)))
    for sink in bounds.sinks:
        everywhere = common(everywhere, told_to(db, sink))
    for first, last in everywhere:
        db.execute(
            "DELETE FROM block WHERE seq >= ? AND seq <= ? AND seq + count - 1 <= ?",
            (first, last, last),
        )


def rewind(db: sqlite3.Connection, outbox: str, sink: str, spans: Sequence[Range]) -> None:
    """The sink gets these again, as far as they are kept."""
    if db.execute("SELECT id FROM life").fetchone()[0] != outbox:
        return
    told = told_to(db, sink)
    there = [
        (max(first, seq), min(last, seq + count - 1))
        for first, last in spans
        for seq, _, _, _, _, _, count, _ in _overlapping(db, (first, last))
    ]
    _replace(db, sink, told, common(told, list(holes(joined(there), 0, newest(db)))))


def read(
    db: sqlite3.Connection, sink: str, limit: int, after: int
) -> tuple[str, list[OutboxRecord]]:
    """The outbox's id, and what `sink` has yet to get: about `limit` samples and records."""
    outbox = db.execute("SELECT id FROM life").fetchone()[0]
    clocks = {row[0]: (row[1], bool(row[2])) for row in db.execute("SELECT * FROM clock")}
    records: list[OutboxRecord] = []
    for hole in holes(told_to(db, sink), after, newest(db)):
        for found in _overlapping(db, hole):
            record = _record(hole, found, *clocks[found[7]])
            size = max(1, len(record.samples))
            if records and limit < size:
                return outbox, records
            limit -= size
            records.append(record)
    return outbox, records


def keep_refused(
    db: sqlite3.Connection, sink: str, records: Sequence[OutboxRecord], why: str
) -> None:
    """For an expert: as JSON, the newest of them."""
    db.executemany(
        "INSERT INTO refused (sink, seq, kind, device, at, why, content)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (sink, one.seq, one.kind, one.device, one.at, why, dumps(one.samples or one.body))
            for one in records
        ],
    )
    db.execute("DELETE FROM refused WHERE id <= (SELECT max(id) FROM refused) - ?", (REFUSED_KEPT,))


def gap(start: int, end: int, records: int | None, now: Now) -> Block:
    """`records` None: nobody knows how many."""
    body = {"from": start, "to": end, "records": records}
    return record_block(GAP, "", body, now.wall, now.monotonic)


def _overlapping(
    db: sqlite3.Connection, hole: Range
) -> Iterator[tuple[int, str, str, int, int, bytes, int, int]]:
    yield from db.execute(
        f"SELECT seq, kind, device, at, monotonic, body, count, clock {_FROM}"
        " AND seq <= :last AND seq + count - 1 >= :seq ORDER BY seq",
        {"seq": hole[0], "last": hole[1]},
    )


def told_to(db: sqlite3.Connection, sink: str) -> list[Range]:
    return db.execute(
        "SELECT first, last FROM told WHERE sink = ? ORDER BY first", (sink,)
    ).fetchall()


def mark(db: sqlite3.Connection, sink: str, spans: Sequence[Range]) -> None:
    """The sink has these, or never will."""
    for first, last in spans:
        touched = db.execute(
            "SELECT first, last FROM told WHERE sink = ? AND first <= ? AND last >= ?",
            (sink, last + 1, first - 1),
        ).fetchall()
        _replace(db, sink, touched, joined([*touched, (first, last)]))


def _replace(db: sqlite3.Connection, sink: str, old: Iterable[Range], new: Iterable[Range]) -> None:
    db.executemany("DELETE FROM told WHERE sink = ? AND first = ?", [(sink, a) for a, _ in old])
    db.executemany("INSERT INTO told VALUES (?, ?, ?)", [(sink, *span) for span in new])


def _clock(db: sqlite3.Connection, now: Now) -> int:
    """The number under which this boot and state of the clock are known."""
    last = db.execute("SELECT id, boot, synced FROM clock ORDER BY id DESC LIMIT 1").fetchone()
    if last[1:] == (now.boot, int(now.synced)):
        return int(last[0])
    db.execute("DELETE FROM clock WHERE id > 0 AND id NOT IN (SELECT clock FROM block)")
    db.execute("INSERT INTO clock VALUES (?, ?, ?)", (last[0] + 1, now.boot, int(now.synced)))
    return int(last[0]) + 1


def _record(
    hole: Range,
    found: _Row,
    boot: str,
    synced: bool,  # noqa: FBT001 - a column
) -> OutboxRecord:
    """Of samples: those within the hole."""
    seq, kind, device, at, monotonic, body, _, _ = found
    if kind != SAMPLES:
        content = unpack_record(body)
        return OutboxRecord(seq, kind, device, at, monotonic, (), content, boot, synced)
    past, end = max(0, hole[0] - seq), hole[1] - seq + 1
    samples = unpack_samples(body)[past:end]
    return OutboxRecord(seq + past, kind, device, at, monotonic, samples, {}, boot, synced)


def page_size(db: sqlite3.Connection) -> int:
    return pragma(db, "page_size")


def pragma(db: sqlite3.Connection, name: str) -> int:
    number: int = db.execute(f"PRAGMA {name}").fetchone()[0]
    return number
