"""The desired entries of one edge node: as they stand, told to who follows, and kept on disk."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from twinbridge.api.wire import Json
from twinbridge.app.clock import Clock, Doorbell
from twinbridge.app.desired_entry import WITHDRAWN, desired_view
from twinbridge.app.events import EventLog
from twinbridge.app.wishes import Key, Overrides
from twinbridge.core.messages import Audit, DesiredState
from twinbridge.core.model import SECOND, DesiredSpec
from twinbridge.errors import StoreUnavailable
from twinbridge.ports import Actor, DesiredChanged, StoredDesired, TwinStore


class DesiredTable:
    """What changes here is on disk soon after; what must be there first is saved by its owner."""

    def __init__(self, store: TwinStore, clock: Clock, events: EventLog) -> None:
        self._store = store
        self._clock = clock
        self._events = events
        self._entries: defaultdict[str, dict[str, StoredDesired]] = defaultdict(dict)
        self._versions: dict[str, int] = {}
        self._deadlines: dict[Key, int] = {}
        """Monotonic ns at which what is pending expires."""
        self._unsaved: dict[Key, None] = {}
        self.locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """Of devices: who holds one writes what was desired of it."""
        self.overrides = Overrides()
        self.bell = Doorbell()

    # What stands.

    def version(self, device: str) -> int:
        return self._versions.get(device, 0)

    def stored(self, device: str, name: str) -> StoredDesired | None:
        """Also what was withdrawn."""
        return self._entries[device].get(name) if device in self._entries else None

    def entry(self, device: str, name: str) -> StoredDesired | None:
        entry = self.stored(device, name)
        return None if entry is None or entry.state == WITHDRAWN else entry

    def of(self, device: str) -> list[StoredDesired]:
        """Also what was withdrawn."""
        return list(self._entries[device].values()) if device in self._entries else []

    def view(self, device: str, name: str) -> Json | None:
        entry = self.entry(device, name)
        return None if entry is None else desired_view(entry)

    # What changes.

    def restore(self, entry: StoredDesired) -> None:
        """As it was on disk."""
        self.set(entry)
        self._versions[entry.device] = max(self.version(entry.device), entry.version)
        self.overrides.note(entry, self._clock)

    def set(self, entry: StoredDesired) -> None:
        """Nobody is told, and it is not kept."""
        self._entries[entry.device][entry.property] = entry

    def note(self, entry: StoredDesired) -> None:
        """Nobody is told."""
        self.set(entry)
        self.keep_later(entry)

    def put(self, entry: StoredDesired) -> None:
        """It is on disk already."""
        self._deadlines.pop((entry.device, entry.property), None)
        self.restore(entry)
        self.bell.ring()
        self.tell(entry.device, entry.property)

    def change(self, entry: StoredDesired) -> None:
        self.put(entry)
        self.keep_later(entry)

    def become(self, entry: StoredDesired, state: DesiredState, message: str, at: int = 0) -> None:
        changed = at or self._clock.wall()
        self.change(replace(entry, state=state.value, message=message, changed=changed))

    def tell(self, device: str, name: str) -> None:
        """Those who follow, what stands."""
        self._events.append(DesiredChanged(device, name, self.view(device, name)))

    def tell_replaced(self, entry: StoredDesired, at: int) -> None:
        """Those who follow, that another value takes the place of this one. `at` is UTC ns."""
        told = replace(entry, state=DesiredState.OVERRIDDEN.value, changed=at)
        self._events.append(DesiredChanged(entry.device, entry.property, desired_view(told)))

    def forget(self, device: str) -> list[StoredDesired]:
        """What there was of it."""
        tables: list[dict[Key, int] | dict[Key, None]] = [
            self._deadlines,
            self._unsaved,
            self.overrides.ends,
        ]
        for table in tables:
            for key in [key for key in table if key[0] == device]:
                del table[key]
        self._versions.pop(device, None)
        return list(self._entries.pop(device, {}).values())

    # What expires.

    def expire_in(self, entry: StoredDesired, left: int) -> None:
        """Unless it is known already when. `left` in ns."""
        key = (entry.device, entry.property)
        self._deadlines.setdefault(key, self._clock.mono() + left)
        self.bell.ring()

    def expire_due(self) -> None:
        now = self._clock.mono()
        for key in [k for k, due in self._deadlines.items() if due <= now]:
            del self._deadlines[key]
            entry = self.entry(*key)
            if entry is not None and entry.state == DesiredState.PENDING:
                self.become(entry, DesiredState.EXPIRED, "it was not written in time")

    def until_next(self) -> float | None:
        """Seconds."""
        due = [*self._deadlines.values(), *self.overrides.ends.values()]
        return max(0, min(due) - self._clock.mono()) / SECOND if due else None

    # The disk.

    def keep_later(self, entry: StoredDesired) -> None:
        self._unsaved[entry.device, entry.property] = None
        self.bell.ring()

    async def keep(self) -> bool:
        """Put what changed on disk; False while the disk does not take it."""
        while self._unsaved:
            device = next(iter(self._unsaved))[0]
            async with self.locks[device]:
                mine = self._entries[device]
                entries = [mine[name] for owner, name in self._unsaved if owner == device]
                try:
                    await self._store.save_desired(*entries)
                except StoreUnavailable:
                    return False
                for entry in entries:
                    if mine.get(entry.property) is entry:
                        self._unsaved.pop((device, entry.property), None)
        return True

    async def note_refusal(
        self, device: str, patch: Mapping[str, DesiredSpec | None], actor: Actor, why: str
    ) -> None:
        """A refusal is told even when it cannot be kept."""
        asked = {name: wish.value if wish else None for name, wish in patch.items()}
        detail: dict[str, object] = {
            "who": actor.name,
            "from": actor.address,
            "new": asked,
            "why": why,
        }
        wall, mono = self._clock.wall(), self._clock.mono()
        with suppress(StoreUnavailable):
            await self._store.append_audit(
                Audit("desired.refused", device, actor.origin, detail, wall, mono)
            )
