"""What is desired of the devices of one edge node: accepted, kept, sent, and what became of it.

A desired value is on disk before anyone is told that it is accepted. One PATCH is one version
of the device's desired state; versions only grow, also across restarts and withdrawals.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import structlog

from twinbridge.api.wire import Json
from twinbridge.app.alarm_table import AlarmTable
from twinbridge.app.clock import Clock, Doorbell
from twinbridge.app.desired_entry import (
    DEVICE_ORIGIN,
    WITHDRAWN,
    deadline,
    desired_view,
    grave,
    heard,
    new_entry,
    record,
    to_desire,
    wish_text,
)
from twinbridge.app.events import EventLog
from twinbridge.app.wishes import (
    FOREVER,
    MAYBE_BEFORE_RESET,
    Heard,
    Key,
    Overrides,
    Releases,
    in_our_time,
    overrides,
    too_late,
    wish_of,
)
from twinbridge.core.alarm import Alarm
from twinbridge.core.messages import Audit, Desire, DesiredState, Outcome
from twinbridge.core.model import SECOND, DesiredSpec, DeviceSpec, Value, same_value, shown
from twinbridge.core.twin import check_desired, expired
from twinbridge.errors import (
    Conflict,
    Interlocked,
    InvalidDesired,
    StaleVersion,
    StoreUnavailable,
)
from twinbridge.ports import Actor, DesiredChanged, StoredDesired, TwinStore

log = structlog.get_logger()

PATIENCE = 1.0
"""Seconds between tries while the disk refuses."""

_LOST_PULSE = "not known whether it was written before the restart; a pulse is not repeated"


class DesiredTwins:
    """The desired side of every twin. `send` hands a value to the machines' side."""

    def __init__(
        self,
        store: TwinStore,
        clock: Clock,
        alarms: AlarmTable,
        events: EventLog,
        send: Callable[[Desire], None],
        epoch: str = "",
    ) -> None:
        self._store = store
        self._clock = clock
        self._alarms = alarms
        self._events = events
        self._send = send
        self._epoch = epoch
        self._entries: defaultdict[str, dict[str, StoredDesired]] = defaultdict(dict)
        self._versions: defaultdict[str, int] = defaultdict(int)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._deadlines: dict[Key, int] = {}
        """Monotonic ns at which what is pending expires."""
        self._unsaved: dict[Key, None] = {}
        self._specs: dict[str, DeviceSpec] = {}
        self._overrides = Overrides()
        self._releases = Releases()
        self._known: dict[str, int] = {}
        """The generation of each Device whose wishes were taken up last."""
        self._hearing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._bell = Doorbell()
        self.behind = 0
        """ns by which our wall clock is known to be behind that of a resource's `validUntil`."""

    # What stands.

    def version(self, device: str) -> int:
        return self._versions.get(device, 0)

    def entry(self, device: str, name: str) -> StoredDesired | None:
        entry = self._entries[device].get(name) if device in self._entries else None
        return None if entry is None or entry.state == WITHDRAWN else entry

    def view(self, device: str, name: str) -> Json | None:
        entry = self.entry(device, name)
        return None if entry is None else desired_view(entry)

    # A request.

    async def accept(
        self,
        spec: DeviceSpec,
        patch: Mapping[str, DesiredSpec | None],
        actor: Actor,
        matches: Callable[[], bool],
    ) -> int:
        """Take up a whole patch or nothing of it; returns the version of the desired state.

        Raises InvalidDesired, Interlocked, StaleVersion when `matches` says that the caller
        looked at an older state, or StoreUnavailable.
        """
        async with self._locks[spec.name]:
            try:
                if not matches():
                    raise StaleVersion(f"{spec.name}: it has changed since; read it again")
                entries = self._checked(spec, patch, actor)
            except (InvalidDesired, Conflict) as error:
                await self._note_refusal(spec.name, patch, actor, str(error))
                raise
            if entries:
                records = [self._record(entry, actor) for entry in entries]
                await self._store.save_desired(*entries, audit=records)
            for entry in entries:
                self._replace(entry)
            version = self.version(spec.name)
        if actor.origin != DEVICE_ORIGIN:
            for entry in entries:
                if entry.state == WITHDRAWN:
                    await self._hand_back(entry.device, entry.property)
        return version

    def _checked(
        self, spec: DeviceSpec, patch: Mapping[str, DesiredSpec | None], actor: Actor
    ) -> list[StoredDesired]:
        """What can never be right is told before what only a trip forbids now."""
        version = self.version(spec.name) + 1
        wished = (self._wished(spec, n, w, version, actor) for n, w in patch.items())
        entries = [entry for entry in wished if entry is not None]
        for entry in entries:
            self._refuse_if_decided(spec, entry)
            if entry.state != WITHDRAWN:
                self._alarms.refuse_if_held(spec.name, entry.property, entry.value)
        return entries

    def _refuse_if_decided(self, spec: DeviceSpec, entry: StoredDesired) -> None:
        """Raise Conflict where only the resource may say what is desired."""
        decided = not spec.local_wins and wish_of(spec, entry.property) is not None
        if decided and entry.origin != DEVICE_ORIGIN:
            raise Conflict(
                f"{spec.name}/{entry.property}: its resource says what is desired of it, and lets"
                " nobody override that (spec.overrides.policy: Hub); change the resource"
            )

    def _wished(
        self, spec: DeviceSpec, name: str, wish: DesiredSpec | None, version: int, actor: Actor
    ) -> StoredDesired | None:
        """The entry that a wish becomes; None for the withdrawal of what is not desired."""
        now = self._clock.wall()
        point = spec.point(name)
        if point is None:
            known = ", ".join(p.spec.name for p in spec.points if p.spec.access.writable)
            raise InvalidDesired(
                f"{spec.name}/{name}: no such property", field=name, allowed=f"one of: {known}"
            )
        old = self._entries[spec.name].get(name)
        # What the resource said stays noted, so that it is not taken up a second time.
        noted = old.spec if old else ""
        if wish is None:
            if old is None or old.state == WITHDRAWN:
                return None
            said = f"withdrawn by {actor.name}"
            noted = "" if actor.origin == DEVICE_ORIGIN else noted
            return replace(
                old,
                version=version,
                origin=actor.origin,
                state=WITHDRAWN,
                message=said,
                changed=now,
                spec=noted,
            )
        value = check_desired(point.spec, wish.value)
        said = wish_text(wish) if actor.origin == DEVICE_ORIGIN else noted
        entry = new_entry(spec.name, wish, version, actor.origin, now)
        if old is not None:
            entry = replace(entry, held=old.held, released=old.released)
        until = deadline(wish, now)
        if said and actor.origin != DEVICE_ORIGIN:
            until = min(until or now + spec.longest_override, now + spec.longest_override)
        return replace(entry, value=value, valid_until=until, spec=said)

    def _replace(self, entry: StoredDesired) -> None:
        """Let a new entry take the place of the old one, and send it."""
        key = (entry.device, entry.property)
        old = self.entry(*key)
        if old is not None and old.state == DesiredState.PENDING and entry.state != WITHDRAWN:
            told = replace(old, state=DesiredState.OVERRIDDEN.value, changed=entry.changed)
            self._events.append(DesiredChanged(*key, desired_view(told)))
        self._versions[entry.device] = max(self.version(entry.device), entry.version)
        self._put(entry)
        if entry.state == DesiredState.PENDING:
            if entry.valid_until is not None:
                left = entry.valid_until - entry.accepted
                self._deadlines[key] = self._clock.mono() + left
                self._bell.ring()
            self._send(to_desire(entry, self._clock.mono(), self._epoch))
        elif entry.state == WITHDRAWN and old is not None and old.state == DesiredState.PENDING:
            # The machines' side may still hold it: an expired newer one takes its place there.
            self._send(to_desire(replace(entry, valid_until=entry.changed - 1), 0, self._epoch))

    def _put(self, entry: StoredDesired) -> None:
        key = (entry.device, entry.property)
        self._entries[entry.device][entry.property] = entry
        self._deadlines.pop(key, None)
        self._overrides.note(entry, self._clock)
        self._bell.ring()
        self._events.append(DesiredChanged(*key, self.view(*key)))

    # What the Device resource asks for, and what a start finds.

    def restore(self, entries: Iterable[StoredDesired]) -> None:
        """The alarms have been, before: a trip that was reset in the last moment is as of now."""
        for stored in entries:
            key, entry = (stored.device, stored.property), stored
            if entry.held is not None and not entry.released and not self._alarms.is_held(*key):
                entry = self._releases.note(entry, self._clock)
                self._keep_later(entry)
            self._entries[entry.device][entry.property] = entry
            self._versions[entry.device] = max(self.version(entry.device), entry.version)
            self._overrides.note(entry, self._clock)

    async def resume(self, spec: DeviceSpec, unheard: int = 0) -> None:
        """A device came, or its definition changed: take up its own wishes, send what waits."""
        self._specs[spec.name] = spec
        for alarm in self._alarms.trips_of(spec.name):
            self.hold(alarm)
        self.resend(spec)
        await self.take_wishes(spec, unheard)

    async def take_wishes(self, spec: DeviceSpec, unheard: int = 0) -> None:
        """Take up what the resource desires now, and withdraw what it desires no longer.

        A wish that is new may have been given up to `unheard` ns ago.
        """
        self._specs[spec.name] = spec
        async with self._hearing[spec.name]:
            said = Heard(unheard, self._known.get(spec.name, 0))
            for name, entry in list(self._entries[spec.name].items()):
                if entry.spec and wish_of(spec, name) is None:
                    await self._withdraw_wish(spec, entry)
            for wish in spec.desired:
                await self._take_up(spec, wish, said)
            self._known[spec.name] = spec.generation

    async def told(self, device: str, began: int, generation: int) -> None:
        """The hub took a status that was written from `began` on, monotonic ns, and answered with
        the Device's generation: what came after that was given after what was before `began`.
        """
        async with self._hearing[device]:
            for name, entry in list(self._entries[device].items()):
                if entry.held is not None and entry.released:
                    self._releases.answered((device, name), began, generation)
                    await self._reconsider(entry)

    async def _reconsider(self, entry: StoredDesired) -> None:
        """Take up after all what turns out to be later than the reset of a trip."""
        key = (entry.device, entry.property)
        proven, wish = self._releases.proven(key, self._clock), self.wish(*key)
        if proven is None or wish is None or entry.spec != wish_text(wish):
            return
        if entry.origin != DEVICE_ORIGIN:
            self._put(heard(entry, wish, older=False))
            self._keep_later(self._entries[entry.device][entry.property])
        elif entry.message == MAYBE_BEFORE_RESET:
            self._entries[entry.device][entry.property] = replace(entry, spec="")
            await self._take_up(self._specs[entry.device], wish, proven)

    def resend(self, spec: DeviceSpec) -> None:
        """The machines' side has started anew: send what waits, but no pulse a second time."""
        for entry in list(self._entries[spec.name].values()):
            if entry.state == DesiredState.PENDING:
                self._resume_pending(spec, entry)

    async def _take_up(self, spec: DeviceSpec, wish: DesiredSpec, said: Heard) -> None:
        """Once per text of the entry: a later value of another origin is not written over."""
        now = self._clock.wall()
        old = self._entries[spec.name].get(wish.property)
        if old is not None and old.spec == wish_text(wish):
            return
        here = in_our_time(wish, self.behind)
        older = self._releases.may_follow(old, here, said, self._clock)
        if old is not None and spec.local_wins and overrides(old, now):
            # It was given to what stands now; that it comes back of itself is not what it says.
            self._put(heard(old, wish, older=older))
            self._keep_later(self._entries[spec.name][wish.property])
            return
        actor = Actor(f"Device/{spec.name}", DEVICE_ORIGIN)
        late = too_late(here, now, said.unheard)
        # What the trip wrote may always be written; while it stands, `accept` says what it holds.
        doubt = older and old and old.released and not same_value(wish.value, old.held)
        if late or doubt:
            why = late or MAYBE_BEFORE_RESET
            await self._note_refusal(spec.name, {wish.property: wish}, actor, why)
            state = DesiredState.EXPIRED if late else DesiredState.BLOCKED
            self._note_unfit(spec.name, wish, state, why)
            return
        left = here
        if wish.valid_for is not None:
            left = replace(here, valid_for=wish.valid_for - said.unheard)
        try:
            await self.accept(spec, {wish.property: left}, actor, lambda: True)
        except (InvalidDesired, Interlocked) as error:
            held = isinstance(error, Interlocked)
            state = DesiredState.BLOCKED if held else DesiredState.REJECTED
            self._note_unfit(spec.name, wish, state, str(error))
        except StoreUnavailable as error:
            why = str(error)
            log.error("desired value not taken up", device=spec.name, why=why)  # noqa: TRY400 - a full disk is no bug, its trace says nothing
        else:
            self._note_taken(spec.name, wish, older=older)

    def _note_taken(self, device: str, wish: DesiredSpec, *, older: bool) -> None:
        """The text as it stands in the resource, also where less of its time was left."""
        entry = self._entries[device].get(wish.property)
        if entry is None or entry.origin != DEVICE_ORIGIN:
            return
        new = heard(entry, wish, older=older)
        if new != entry:
            self._entries[device][wish.property] = new
            self._keep_later(new)

    async def _withdraw_wish(self, spec: DeviceSpec, entry: StoredDesired) -> None:
        """The resource no longer desires it; what was written stays written."""
        if entry.origin != DEVICE_ORIGIN or entry.state == WITHDRAWN:
            self._put(replace(entry, spec=""))
            self._keep_later(self._entries[entry.device][entry.property])
            return
        actor = Actor(f"Device/{spec.name}", DEVICE_ORIGIN)
        try:
            await self.accept(spec, {entry.property: None}, actor, lambda: True)
        except InvalidDesired:
            pass  # the property is gone, too
        except StoreUnavailable as error:
            log.error("desired value not withdrawn", device=spec.name, why=str(error))  # noqa: TRY400 - a full disk is no bug, its trace says nothing

    # Overrides: values desired here in place of the resource's.

    def wish(self, device: str, name: str) -> DesiredSpec | None:
        """What the resource itself desires."""
        spec = self._specs.get(device)
        return None if spec is None else wish_of(spec, name)

    async def _hand_back(self, device: str, name: str) -> None:
        """An override is over by somebody's word: what the resource desires is in force again."""
        wish, buried = self.wish(device, name), self._entries[device].get(name)
        if wish is not None and buried is not None and buried.spec:
            self._entries[device][name] = replace(buried, spec="")
            await self._take_up(self._specs[device], wish, Heard(FOREVER))

    async def _end_overrides(self) -> None:
        """By themselves they end only where the property says that values are written again."""
        for device, name in self._overrides.over(self._clock.mono()):
            spec, entry = self._specs.get(device), self.entry(device, name)
            point = spec.point(name) if spec else None
            if entry is None or point is None:
                continue
            self._events.append(DesiredChanged(device, name, self.view(device, name)))
            if point.spec.reapply:
                await self._hand_back(device, name)

    def _note_unfit(self, device: str, wish: DesiredSpec, state: DesiredState, why: str) -> None:
        """Keep it with its text, so that it is shown, and not tried again as it is."""
        old = self._entries[device].get(wish.property)
        entry = replace(
            new_entry(device, wish, self.version(device) + 1, DEVICE_ORIGIN, self._clock.wall()),
            state=state.value,
            message=why,
            valid_until=wish.valid_until,
            spec=wish_text(wish),
            held=old.held if old else None,
            released=old.released if old else 0,
        )
        self._versions[device] = entry.version
        self._put(entry)
        self._keep_later(entry)

    def _resume_pending(self, spec: DeviceSpec, entry: StoredDesired) -> None:
        point = spec.point(entry.property)
        if point is None:
            self._become(entry, DesiredState.REJECTED, "the device has no such property any more")
            return
        try:
            check_desired(point.spec, entry.value)
            self._alarms.refuse_if_held(entry.device, entry.property, entry.value)
        except InvalidDesired as error:
            self._become(entry, DesiredState.REJECTED, str(error))
        except Interlocked as error:
            self._become(entry, DesiredState.BLOCKED, str(error))
        else:
            self._resend(entry, pulse=point.spec.pulse)

    def _resend(self, entry: StoredDesired, *, pulse: bool) -> None:
        now = self._clock.wall()
        key = (entry.device, entry.property)
        if pulse:
            self._become(entry, DesiredState.REJECTED, _LOST_PULSE)
        elif entry.valid_until is None:
            self._send(to_desire(entry, 0, self._epoch))
        elif expired(entry.accepted, entry.valid_until, 0, now, 0):
            self._become(entry, DesiredState.EXPIRED, "it expired before it could be written")
        else:
            self._deadlines.setdefault(key, self._clock.mono() + entry.valid_until - now)
            self._bell.ring()
            self._send(to_desire(entry, 0, self._epoch))

    def reapply(self, spec: DeviceSpec) -> None:
        """The device is back: write again what its properties want written again."""
        for entry in list(self._entries[spec.name].values()):
            point = spec.point(entry.property)
            lasting = entry.state == DesiredState.APPLIED and entry.valid_until is None
            if point is not None and point.spec.reapply and lasting:
                # Another version: a command that comes again would have no second effect.
                version = self._versions[spec.name] = self.version(spec.name) + 1
                again = replace(entry, version=version, accepted=self._clock.wall())
                self._become(again, DesiredState.PENDING, "written again: the device is back")
                self._resume_pending(spec, self._entries[spec.name][entry.property])

    async def forget(self, device: str, *, replaced: bool = False) -> None:
        """The device is gone from the definitions, and with it what was desired of it.

        Where another one of its name takes its place, what trips held is kept.
        """
        async with self._locks[device]:
            tables: list[dict[Key, Any]] = [self._deadlines, self._unsaved, self._overrides.ends]
            for table in tables:
                for key in [k for k in table if k[0] == device]:
                    del table[key]
            self._known.pop(device, None)
            self._specs.pop(device, None)
            self._versions.pop(device, None)
            entries = self._entries.pop(device, {})
            for name, entry in entries.items():
                self._releases.forget((device, name), generations=replaced)
                if replaced and entry.held is not None:
                    buried = grave(device, name, entry.held, 0)
                    self._entries[device][name] = replace(buried, released=entry.released)
                    self._keep_later(self._entries[device][name])
            if entries:
                await self._store.forget_desired(device)

    # What became of it.

    def settle(self, outcome: Outcome) -> None:
        """Note an outcome; one of an older version, or of a withdrawn value, says nothing."""
        entry = self.entry(outcome.device, outcome.property)
        if entry is None or (entry.version, self._epoch) != (outcome.version, outcome.epoch):
            return
        # What was written a moment before it would have expired counts as what it is: applied.
        if entry.state != outcome.state.value or entry.message != outcome.message:
            self._become(entry, outcome.state, outcome.message, outcome.at)
        for alarm in self._alarms.trips_of(outcome.device):
            self.hold(alarm)

    def refused(self, desire: Desire, state: DesiredState, message: str) -> None:
        """The machines' side refused to take it."""
        at = self._clock.wall()
        self.settle(
            Outcome(
                desire.device,
                desire.property,
                desire.version,
                state,
                message,
                at,
                self._epoch,
            )
        )

    def hold(self, alarm: Alarm) -> None:
        """A trip came: what it holds is no longer desired, also not after its reset."""
        for device, name, value in alarm.holds:
            self._mark(device, name, value)
            entry = self.entry(device, name)
            if entry is None:
                continue
            try:
                self._alarms.refuse_if_held(device, name, entry.value)
            except Interlocked as error:
                if entry.state == DesiredState.PENDING:
                    self._become(entry, DesiredState.BLOCKED, str(error))
                elif entry.state == DesiredState.APPLIED:
                    said = f"the trip {alarm.rule} wrote {shown(value)} (alarm {alarm.id})"
                    self._become(entry, DesiredState.OVERRIDDEN, said)

    def release(self, alarm: Alarm) -> None:
        """A trip was reset: what was desired before that stays discarded, also what comes late."""
        for device, name, _ in alarm.holds:
            entry = self._entries[device].get(name)
            if entry is not None and entry.held is not None:
                self._entries[device][name] = self._releases.note(entry, self._clock)
                self._keep_later(self._entries[device][name])

    def _mark(self, device: str, name: str, held: Value) -> None:
        if device not in self._specs:
            return
        entry = self._entries[device].get(name)
        if entry is None:
            entry = grave(device, name, held, self.version(device))
        elif (entry.held, entry.released) == (held, 0):
            return
        self._entries[device][name] = replace(entry, held=held, released=0)
        self._keep_later(self._entries[device][name])

    def _become(self, entry: StoredDesired, state: DesiredState, message: str, at: int = 0) -> None:
        changed = at or self._clock.wall()
        new = replace(entry, state=state.value, message=message, changed=changed)
        self._put(new)
        self._keep_later(new)

    # Keeping, and expiring.

    def _keep_later(self, entry: StoredDesired) -> None:
        self._unsaved[entry.device, entry.property] = None
        self._bell.ring()

    async def run(self) -> None:
        """Expire what is due, and put on disk what became of desired values."""
        while True:
            self._expire_due()
            await self._end_overrides()
            kept = await self.keep()
            await self._bell.wait(self._until_next() if kept else PATIENCE)

    def _until_next(self) -> float | None:
        """Seconds."""
        due = [*self._deadlines.values(), *self._overrides.ends.values()]
        return max(0, min(due) - self._clock.mono()) / SECOND if due else None

    def _expire_due(self) -> None:
        now = self._clock.mono()
        for key in [k for k, due in self._deadlines.items() if due <= now]:
            del self._deadlines[key]
            entry = self.entry(*key)
            if entry is not None and entry.state == DesiredState.PENDING:
                self._become(entry, DesiredState.EXPIRED, "it was not written in time")

    async def keep(self) -> bool:
        """Put what changed on disk; False while the disk does not take it."""
        while self._unsaved:
            device = next(iter(self._unsaved))[0]
            async with self._locks[device]:
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

    # The journal.

    def _record(self, entry: StoredDesired, actor: Actor) -> Audit:
        old = self.entry(entry.device, entry.property)
        return record(entry, old, actor, self._clock)

    async def _note_refusal(
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
