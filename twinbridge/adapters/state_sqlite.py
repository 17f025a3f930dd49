"""What state.db holds, and the statements on it; each runs inside a writer's transaction."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeAlias, TypeVar

import structlog

from twinbridge.adapters.sqlite_file import SqliteFile
from twinbridge.adapters.state_rows import (
    alarm_body,
    alarm_from,
    audit_from,
    definition_body,
    definition_from,
    desired_body,
    desired_from,
    outcome_from,
    reported_from,
)
from twinbridge.core.alarm import Alarm
from twinbridge.core.messages import Audit
from twinbridge.ports import KnownDefinition, Ref, StoredDesired, StoredState

T = TypeVar("T")
Change: TypeAlias = Callable[[sqlite3.Connection], None]

MIGRATIONS = (
    """
    CREATE TABLE note (name TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE desired (
        device TEXT NOT NULL,
        property TEXT NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (device, property)
    );
    CREATE TABLE alarm (id TEXT PRIMARY KEY, body BLOB NOT NULL);
    CREATE TABLE mode (rule TEXT PRIMARY KEY, mode TEXT NOT NULL);
    CREATE TABLE reported (device TEXT PRIMARY KEY, body BLOB NOT NULL);
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        boot TEXT NOT NULL,
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        origin TEXT NOT NULL,
        detail BLOB NOT NULL,
        wall INTEGER NOT NULL,
        monotonic INTEGER NOT NULL
    );
    CREATE INDEX audit_of_subject ON audit (subject, id);
    CREATE TRIGGER audit_is_not_edited BEFORE UPDATE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
    CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END
    """,
    """
    CREATE TABLE record (id INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL);
    CREATE TABLE outcome (
        device TEXT NOT NULL,
        property TEXT NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (device, property)
    );
    CREATE TABLE taken (owner TEXT PRIMARY KEY, id INTEGER NOT NULL) WITHOUT ROWID
    """,
    """
    CREATE TABLE definition (
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        document BLOB,
        sound BLOB,
        PRIMARY KEY (kind, name)
    )
    """,
)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_log = structlog.get_logger(__name__)


def boot_id() -> str:
    """Names the boot of the machine, within which monotonic times compare."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return str(uuid.uuid4())


def load(db: sqlite3.Connection, boot: str) -> StoredState:
    """Everything stored, and from now on `boot` is the last one seen."""
    state = _stored(db)
    _note(db, "boot", boot)
    return state


def load_without_writing(file: SqliteFile) -> StoredState:
    """Load from a disk that takes no writes. What cannot be read counts as damaged."""
    if not file.path.exists() or not file.path.stat().st_size:
        return StoredState()
    try:
        with closing(file.open_without_writing()) as db:
            begun = db.execute("SELECT 1 FROM sqlite_schema").fetchone()
            return _stored(db) if begun else StoredState()
    except sqlite3.Error:
        _log.exception("stored state cannot be read", file=str(file.path))
        return StoredState(readable=False)


def note_damage(why: str) -> Change:
    """Found damage outlives a crash of the start that found it."""
    return lambda db: _note(db, "damage", why)


def forget_damage(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM note WHERE name = 'damage'")


def probe(db: sqlite3.Connection) -> None:
    """A small write, to find out whether the disk takes one again."""
    _note(db, "probe", uuid.uuid4().hex)


def together(*changes: Change) -> Change:
    def change(db: sqlite3.Connection) -> None:
        for each in changes:
            each(db)

    return change


def save_desired(entries: Sequence[StoredDesired]) -> Change:
    rows = [(entry.device, entry.property, desired_body(entry)) for entry in entries]

    def change(db: sqlite3.Connection) -> None:
        db.executemany("INSERT OR REPLACE INTO desired VALUES (?, ?, ?)", rows)

    return change


def forget_desired(device: str) -> Change:
    def change(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM desired WHERE device = ?", (device,))

    return change


def save_alarm(alarm: Alarm) -> Change:
    body = alarm_body(alarm)

    def change(db: sqlite3.Connection) -> None:
        if alarm.over:
            db.execute("DELETE FROM alarm WHERE id = ?", (alarm.id,))
        else:
            db.execute("INSERT OR REPLACE INTO alarm VALUES (?, ?)", (alarm.id, body))

    return change


def save_mode(rule: str, mode: str) -> Change:
    def change(db: sqlite3.Connection) -> None:
        db.execute("INSERT OR REPLACE INTO mode VALUES (?, ?)", (rule, mode))

    return change


def append_audit(rows: Sequence[tuple[object, ...]]) -> Change:
    """Rows as `state_rows.audit_row` makes them."""

    def change(db: sqlite3.Connection) -> None:
        db.executemany(
            "INSERT INTO audit (boot, kind, subject, origin, detail, wall, monotonic)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            rows,
        )

    return change


def audit(db: sqlite3.Connection, limit: int, subject: str) -> Sequence[Audit]:
    """The newest first; of one subject, if it is given."""
    where = "WHERE subject = ?" if subject else "WHERE ? = ''"
    found = db.execute(
        f"SELECT kind, subject, origin, detail, wall, monotonic FROM audit {where}"  # noqa: S608 - one of two constants
        " ORDER BY id DESC LIMIT ?",
        (subject, max(0, limit)),
    )
    return [audit_from(row) for row in found]


def journal(db: sqlite3.Connection, after: int, limit: int) -> Sequence[tuple[int, Audit]]:
    found = db.execute(
        "SELECT id, kind, subject, origin, detail, wall, monotonic FROM audit WHERE id > ?"
        " ORDER BY id LIMIT ?",
        (after, max(0, limit)),
    )
    return [(number, audit_from(tuple(row))) for number, *row in found]


def journal_end(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT coalesce(max(id), 0) FROM audit").fetchone()[0])


def save_definitions(known: Iterable[KnownDefinition], gone: Iterable[Ref]) -> Change:
    rows = [(*one.ref, definition_body(one.document), definition_body(one.sound)) for one in known]
    names = list(gone)

    def change(db: sqlite3.Connection) -> None:
        db.executemany("INSERT OR REPLACE INTO definition VALUES (?, ?, ?, ?)", rows)
        db.executemany("DELETE FROM definition WHERE kind = ? AND name = ?", names)

    return change


def definitions(db: sqlite3.Connection) -> Sequence[KnownDefinition]:
    found = db.execute("SELECT kind, name, document, sound FROM definition ORDER BY kind, name")
    return [
        KnownDefinition(Ref(kind, name), definition_from(document), definition_from(sound))
        for kind, name, document, sound in found
    ]


def note(db: sqlite3.Connection, name: str) -> str:
    """What was noted under that name, or ''."""
    found = db.execute("SELECT content FROM note WHERE name = ?", (name,)).fetchone()
    return str(found[0]) if found else ""


def identity(db: sqlite3.Connection) -> str:
    """Given to this file once."""
    if not note(db, "identity"):
        _note(db, "identity", uuid.uuid4().hex)
    return note(db, "identity")


def put_note(name: str, content: str) -> Change:
    return lambda db: _note(db, name, content)


def _note(db: sqlite3.Connection, name: str, content: str) -> None:
    db.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (name, content))


def _stored(db: sqlite3.Connection) -> StoredState:
    notes = dict(db.execute("SELECT name, content FROM note"))
    refused: list[str] = []
    desired = _decoded(db, "SELECT device || '/' || property, body FROM desired ORDER BY 1",
                       desired_from, refused)  # fmt: skip
    alarms = _decoded(db, "SELECT id, body FROM alarm ORDER BY rowid", alarm_from, refused)
    reported = _decoded(db, "SELECT device, body FROM reported", reported_from, refused)
    outcomes = _decoded(db, "SELECT device || '/' || property, body FROM outcome ORDER BY 1",
                        outcome_from, refused)  # fmt: skip
    return StoredState(
        outcomes=[outcome for _, outcome in outcomes],
        desired=[entry for _, entry in desired],
        alarms=[alarm for _, alarm in alarms],
        modes=dict(db.execute("SELECT rule, mode FROM mode")),
        reported=dict(reported),
        readable=not refused and "damage" not in notes,
        boot=notes.get("boot", ""),
    )


def _decoded(
    db: sqlite3.Connection, query: str, decode: Callable[[bytes], T], refused: list[str]
) -> Sequence[tuple[str, T]]:
    def rows() -> Iterator[tuple[str, T]]:
        for key, body in db.execute(query):
            try:
                yield key, decode(body)
            except (ValueError, TypeError, KeyError, AttributeError):
                refused.append(key)
                _log.exception("a stored record cannot be read", record=key)

    return list(rows())
