"""What goes when there is no room for it any more: the oldest samples, and a gap record says so."""

from __future__ import annotations

import shutil
import sqlite3

from twinbridge.adapters.outbox_sqlite.blocks import SAMPLES
from twinbridge.adapters.outbox_sqlite.tables import (
    BEYOND_ALL,
    Bounds,
    Now,
    append,
    gap,
    mark,
    page_size,
    pragma,
    told_to,
)
from twinbridge.adapters.outbox_sqlite.told import Range, common, holes, joined, length

FREE_DISK_FLOOR = 0.1
"""Below this share of free disk the outbox stops growing: the rest is for what must be kept."""
TRIM_SHARE = 16
"""So much of the whole goes at once: gap records are few, however long an outage lasts."""


def trim(db: sqlite3.Connection, bounds: Bounds, now: Now) -> int:
    """Delete the oldest samples beyond the bounds, and tell of it; how many went."""
    bound = max(_beyond_age(db, now, bounds.age), _beyond_size(db, bounds))
    if not bound:
        return 0
    going = db.execute(
        "SELECT seq, count, at FROM block WHERE kind = ? AND seq < ? ORDER BY seq", (SAMPLES, bound)
    ).fetchall()
    gone = joined((seq, seq + count - 1) for seq, count, _ in going)
    wanted: list[Range] = []
    for sink in bounds.sinks:
        told = told_to(db, sink)
        wanted += [hole for span in gone for hole in holes(told, span[0] - 1, span[1])]
        mark(db, sink, gone)
    db.execute("DELETE FROM block WHERE kind = ? AND seq < ?", (SAMPLES, bound))
    dropped = joined(wanted)
    if dropped:
        times = [at for seq, count, at in going if common([(seq, seq + count - 1)], dropped)]
        append(db, [gap(min(times), max(times), length(dropped), now)], now)
    return length(dropped)


def _beyond_age(db: sqlite3.Connection, now: Now, age: int) -> int:
    """The seq that the first sample to keep has, 0 when it is too early to clean up.

    Within one boot the monotonic clock counts: a wall clock that is set right makes nothing old.
    """
    oldest = db.execute(
        "SELECT at, monotonic, boot FROM block JOIN clock ON clock.id = block.clock"
        " WHERE kind = ? ORDER BY seq LIMIT 1",
        (SAMPLES,),
    ).fetchone()
    if oldest is None:
        return 0
    here = oldest[2] == now.boot
    old = now.monotonic - oldest[1] if here else now.wall - oldest[0]
    if old <= age + age // TRIM_SHARE:
        return 0
    young = db.execute(
        "SELECT seq FROM block JOIN clock ON clock.id = block.clock"
        " WHERE CASE boot WHEN :boot THEN :mono - monotonic ELSE :wall - at END <= :age"
        " ORDER BY seq LIMIT 1",
        {"boot": now.boot, "mono": now.monotonic, "wall": now.wall, "age": age},
    ).fetchone()
    return int(young[0]) if young else BEYOND_ALL


def _beyond_size(db: sqlite3.Connection, bounds: Bounds) -> int:
    total, free = pragma(db, "page_count"), pragma(db, "freelist_count")
    disk = shutil.disk_usage(bounds.folder)
    tight = disk.free < disk.total * FREE_DISK_FLOOR and free * TRIM_SHARE < total
    if not tight and (total - free) * page_size(db) <= bounds.size:
        return 0
    oldest, newest = db.execute(
        "SELECT min(seq), max(seq) FROM block WHERE kind = ?", (SAMPLES,)
    ).fetchone()
    return 0 if oldest is None else int(oldest + (newest - oldest) // TRIM_SHARE + 1)
