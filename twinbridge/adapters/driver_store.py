"""The store of a driver pod: beside its state, the records that the agent does not have yet.

Alarms, audit and outcomes are recorded in the same commit as what they tell of, numbered, and
kept until the agent says that it has them on its own disk. The journal's record of a write says
what became of its command: both are kept at once, so that none is there without the other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import NamedTuple, TypeAlias

from typing_extensions import override

from twinbridge.adapters import state_sqlite
from twinbridge.adapters.history_sqlite import History
from twinbridge.adapters.sqlite_file import SqliteFile
from twinbridge.adapters.sqlite_thread import SqliteThread
from twinbridge.adapters.state_rows import (
    alarm_from,
    audit_from,
    audit_row,
    dumps,
    loads,
    outcome_body,
    outcome_from,
)
from twinbridge.adapters.store_sqlite import SqliteStore
from twinbridge.core.alarm import Alarm
from twinbridge.core.messages import AlarmChanged, Audit, DesiredState, Outcome

Record: TypeAlias = AlarmChanged | Audit | Outcome


class KeptRecord(NamedTuple):
    """`id` grows by one or more from each record to the next of one state directory."""

    id: int
    body: bytes


class DriverStore(SqliteStore):
    """Opened by `open_store_of(DriverStore, …)`. `on_record` is called after each commit."""

    def __init__(self, state: SqliteThread, history: History, file: SqliteFile) -> None:
        super().__init__(state, history, file)
        self.on_record: Callable[[], None] = _nobody
        self._told: dict[str, Alarm] = {}

    def has(self, alarm: Alarm) -> bool:
        """Whether this very state of the alarm was the last that was recorded."""
        return self._told.get(alarm.id) == alarm

    @override
    async def save_alarm(self, alarm: Alarm, *audit: Audit) -> None:
        records: list[Record] = [*audit, AlarmChanged(alarm)]
        await self._keep(state_sqlite.save_alarm(alarm), self._append(audit), records)
        self._told[alarm.id] = alarm
        if alarm.over:
            self._told.pop(alarm.id)

    @override
    async def save_mode(self, rule: str, mode: str, *audit: Audit) -> None:
        await self._keep(state_sqlite.save_mode(rule, mode), self._append(audit), audit)

    @override
    async def append_audit(self, *audit: Audit) -> None:
        await self._keep(self._append(audit), _nothing, audit)

    async def record(self, *records: Record) -> None:
        """Keep what was told without being kept. Raises StoreUnavailable."""
        await self._keep(_nothing, _nothing, records)
        self._told |= {r.alarm.id: r.alarm for r in records if isinstance(r, AlarmChanged)}

    def forget_told(self) -> None:
        """Another agent listens now: it knows none of the alarms that stand."""
        self._told.clear()

    async def records(self, after: int, limit: int) -> Sequence[KeptRecord]:
        """What the agent does not have, the oldest first. Raises StoreUnavailable."""
        return await self._state.read(lambda db: _select(db, after, limit))

    async def forget_records(self, upto: int) -> None:
        """The agent has them. Raises StoreUnavailable."""
        await self._state.write(
            lambda db: db.execute("DELETE FROM record WHERE id <= ?", (upto,)) and None
        )

    async def _keep(
        self,
        change: state_sqlite.Change,
        other: state_sqlite.Change,
        records: Sequence[Record],
    ) -> None:
        append = _append_records(records)
        await self._state.write(state_sqlite.together(change, other, append))
        self.on_record()


def encode_record(record: Record) -> bytes:
    match record:
        case AlarmChanged(alarm):
            return dumps(["alarm", asdict(alarm)])
        case Audit():
            return dumps(["audit", *audit_row(record, "")[1:4], *record[3:]])
        case Outcome():
            return dumps(["outcome", *record])


def decode_record(body: bytes) -> Record:
    """Raises ValueError, TypeError, KeyError, AttributeError for what is no record."""
    kind, *rest = loads(body)
    if kind == "alarm":
        return AlarmChanged(alarm_from(dumps(rest[0])))
    if kind == "audit":
        name, subject, origin, detail, wall, mono = rest
        return audit_from((name, subject, origin, dumps(detail), wall, mono))
    if kind == "outcome":
        return outcome_from(dumps(rest))
    raise ValueError(f"{kind!r} is no kind of record; allowed: alarm, audit, outcome")


def _select(db: sqlite3.Connection, after: int, limit: int) -> Sequence[KeptRecord]:
    found = db.execute(
        "SELECT id, body FROM record WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
    )
    return [KeptRecord(*row) for row in found]


def _append_records(records: Sequence[Record]) -> state_sqlite.Change:
    encoded = [(record, encode_record(record)) for record in records]

    def change(db: sqlite3.Connection) -> None:
        for record, body in encoded:
            if isinstance(record, Outcome):
                _settle(db, record, body)
                continue
            db.execute("INSERT INTO record (body) VALUES (?)", (body,))
            if isinstance(record, Audit) and (outcome := _outcome_in(record)):
                _settle(db, outcome, encode_record(outcome))

    return change


def _settle(db: sqlite3.Connection, outcome: Outcome, body: bytes) -> None:
    """Once, whether it comes with the journal or by itself; one told again has another time."""
    where = (outcome.device, outcome.property)
    row = db.execute("SELECT body FROM outcome WHERE device = ? AND property = ?", where).fetchone()
    if row is not None and outcome_from(row[0]) == outcome:
        return
    db.execute("INSERT INTO record (body) VALUES (?)", (body,))
    db.execute("INSERT OR REPLACE INTO outcome VALUES (?, ?, ?)", (*where, outcome_body(outcome)))


def _outcome_in(record: Audit) -> Outcome | None:
    """Of the journal's record of a write that somebody desired."""
    said = record.detail
    device, _, name = record.subject.rpartition("/")
    version, epoch = said.get("version"), said.get("epoch")
    if record.kind != "write" or not isinstance(version, int) or not version:
        return None
    at = said.get("at")
    return Outcome(
        device,
        name,
        version,
        DesiredState(str(said["outcome"])),
        str(said["message"]),
        at if isinstance(at, int) else record.wall,
        str(epoch or ""),
    )


def _nothing(db: sqlite3.Connection) -> None:
    del db


def _nobody() -> None:
    pass
