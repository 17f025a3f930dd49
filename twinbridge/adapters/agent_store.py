"""The store of an agent pod: what driver pods hand over is taken once, however often it comes."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from twinbridge.adapters import state_sqlite
from twinbridge.adapters.driver_store import Record
from twinbridge.adapters.store_sqlite import SqliteStore
from twinbridge.core.messages import AlarmChanged, Audit


class AgentStore(SqliteStore):
    """Opened by `open_store_of(AgentStore, …)`."""

    async def take_over(
        self, owner: str, records: Sequence[tuple[int, Record]]
    ) -> Sequence[Record]:
        """Keep the records of that driver which are new, in one commit, and return them.

        Raises StoreUnavailable; then none of them counts as taken.
        """
        new: list[Record] = []

        def change(db: sqlite3.Connection) -> None:
            new.clear()
            taken = _taken(db, owner)
            new.extend(record for number, record in records if number > taken)
            state_sqlite.together(*(self._kept(record) for record in new))(db)
            last = max([taken, *(number for number, _ in records)])
            db.execute("INSERT OR REPLACE INTO taken VALUES (?, ?)", (owner, last))

        await self._state.write(change)
        return new

    async def taken(self, owner: str) -> int:
        """The number of the last record taken from that driver, 0 for none."""
        return await self._state.read(lambda db: _taken(db, owner))

    def _kept(self, record: Record) -> state_sqlite.Change:
        match record:
            case AlarmChanged(alarm):
                return state_sqlite.save_alarm(alarm)
            case Audit():
                return self._append([record])
        return _elsewhere


def _taken(db: sqlite3.Connection, owner: str) -> int:
    found = db.execute("SELECT id FROM taken WHERE owner = ?", (owner,)).fetchone()
    return int(found[0]) if found else 0


def _elsewhere(db: sqlite3.Connection) -> None:
    """An outcome is kept with its desired value."""
    del db
