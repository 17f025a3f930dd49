"""What is desired of the devices of one edge node: accepted, kept, sent, and what became of it.

A desired value is on disk before anyone is told that it is accepted. One PATCH is one version
of the device's desired state; versions only grow, also across restarts and withdrawals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from twinbridge.api.wire import Json
from twinbridge.app.alarm_table import AlarmTable
from twinbridge.app.clock import Clock
from twinbridge.app.desired_entry import (
    DEVICE_ORIGIN,
    WITHDRAWN,
    deadline,
    new_entry,
    record,
    to_desire,
    wish_text,
)
from twinbridge.app.desired_table import DesiredTable
from twinbridge.app.events import EventLog
from twinbridge.app.resource_wishes import ResourceWishes
from twinbridge.app.wishes import wish_of
from twinbridge.core.alarm import Alarm
from twinbridge.core.messages import Audit, Desire, DesiredState, Outcome
from twinbridge.core.model import DesiredSpec, DeviceSpec, shown
from twinbridge.core.twin import check_desired, expired
from twinbridge.errors import Conflict, Interlocked, InvalidDesired, StaleVersion
from twinbridge.ports import Actor, StoredDesired, TwinStore

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
        self._send = send
        self._epoch = epoch
        self._table = DesiredTable(store, clock, events)
        self.wishes = ResourceWishes(self._table, clock, alarms, self.accept)

    # What stands.

    def version(self, device: str) -> int:
        return self._table.version(device)

    def entry(self, device: str, name: str) -> StoredDesired | None:
        return self._table.entry(device, name)

    def view(self, device: str, name: str) -> Json | None:
        return self._table.view(device, name)

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
        async with self._table.locks[spec.name]:
            try:
                if not matches():
                    raise StaleVersion(f"{spec.name}: it has changed since; read it again")
                entries = self._checked(spec, patch, actor)
            except (InvalidDesired, Conflict) as error:
                await self._table.note_refusal(spec.name, patch, actor, str(error))
                raise
            if entries:
                records = [self._record(entry, actor) for entry in entries]
                await self._store.save_desired(*entries, audit=records)
            for entry in entries:
                self._replace(entry)
            version = self._table.version(spec.name)
        if actor.origin != DEVICE_ORIGIN:
            for entry in entries:
                if entry.state == WITHDRAWN:
                    await self.wishes.hand_back(entry.device, entry.property)
        return version

    def _checked(
        self, spec: DeviceSpec, patch: Mapping[str, DesiredSpec | None], actor: Actor
    ) -> list[StoredDesired]:
        """What can never be right is told before what only a trip forbids now."""
        version = self._table.version(spec.name) + 1
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
        old = self._table.stored(spec.name, name)
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
        old = self._table.entry(entry.device, entry.property)
        waited = old is not None and old.state == DesiredState.PENDING
        if old is not None and waited and entry.state != WITHDRAWN:
            self._table.tell_replaced(old, entry.changed)
        self._table.put(entry)
        if entry.state == DesiredState.PENDING:
            if entry.valid_until is not None:
                self._table.expire_in(entry, entry.valid_until - entry.accepted)
            self._send(to_desire(entry, self._clock.mono(), self._epoch))
        elif entry.state == WITHDRAWN and waited:
            # The machines' side may still hold it: an expired newer one takes its place there.
            self._send(to_desire(replace(entry, valid_until=entry.changed - 1), 0, self._epoch))

    def _record(self, entry: StoredDesired, actor: Actor) -> Audit:
        old = self._table.entry(entry.device, entry.property)
        return record(entry, old, actor, self._clock)

    # What a start finds, and what comes and goes.

    def restore(self, entries: Iterable[StoredDesired]) -> None:
        for entry in entries:
            self.wishes.restore(entry)

    async def resume(self, spec: DeviceSpec, unheard: int = 0) -> None:
        """A device came, or its definition changed: take up its own wishes, send what waits."""
        self.wishes.know(spec)
        for alarm in self._alarms.trips_of(spec.name):
            self.hold(alarm)
        self.resend(spec)
        await self.wishes.take(spec, unheard)

    def resend(self, spec: DeviceSpec) -> None:
        """The machines' side has started anew: send what waits, but no pulse a second time."""
        for entry in self._table.of(spec.name):
            if entry.state == DesiredState.PENDING:
                self._resume_pending(spec, entry)

    def _resume_pending(self, spec: DeviceSpec, entry: StoredDesired) -> None:
        point = spec.point(entry.property)
        if point is None:
            self._table.become(
                entry, DesiredState.REJECTED, "the device has no such property any more"
            )
            return
        try:
            check_desired(point.spec, entry.value)
            self._alarms.refuse_if_held(entry.device, entry.property, entry.value)
        except InvalidDesired as error:
            self._table.become(entry, DesiredState.REJECTED, str(error))
        except Interlocked as error:
            self._table.become(entry, DesiredState.BLOCKED, str(error))
        else:
            self._resend(entry, pulse=point.spec.pulse)

    def _resend(self, entry: StoredDesired, *, pulse: bool) -> None:
        now = self._clock.wall()
        if pulse:
            self._table.become(entry, DesiredState.REJECTED, _LOST_PULSE)
        elif entry.valid_until is None:
            self._send(to_desire(entry, 0, self._epoch))
        elif expired(entry.accepted, entry.valid_until, 0, now, 0):
            self._table.become(entry, DesiredState.EXPIRED, "it expired before it could be written")
        else:
            self._table.expire_in(entry, entry.valid_until - now)
            self._send(to_desire(entry, 0, self._epoch))

    def reapply(self, spec: DeviceSpec) -> None:
        """The device is back: write again what its properties want written again."""
        for entry in self._table.of(spec.name):
            point = spec.point(entry.property)
            lasting = entry.state == DesiredState.APPLIED and entry.valid_until is None
            if point is not None and point.spec.reapply and lasting:
                # Another version: a command that comes again would have no second effect.
                version = self._table.version(spec.name) + 1
                again = replace(entry, version=version, accepted=self._clock.wall())
                said = "written again: the device is back"
                self._table.become(again, DesiredState.PENDING, said)
                pending = self._table.entry(spec.name, entry.property)
                if pending is not None:
                    self._resume_pending(spec, pending)

    async def forget(self, device: str, *, replaced: bool = False) -> None:
        """The device is gone from the definitions, and with it what was desired of it.

        `replaced`: another one of its name takes its place.
        """
        async with self._table.locks[device]:
            entries = self._table.forget(device)
            self.wishes.forget(device, entries, replaced=replaced)
            if entries:
                await self._store.forget_desired(device)

    # What became of it.

    def settle(self, outcome: Outcome) -> None:
        """Note an outcome; one of an older version, or of a withdrawn value, says nothing."""
        entry = self._table.entry(outcome.device, outcome.property)
        if entry is None or (entry.version, self._epoch) != (outcome.version, outcome.epoch):
            return
        # What was written a moment before it would have expired counts as what it is: applied.
        if entry.state != outcome.state.value or entry.message != outcome.message:
            self._table.become(entry, outcome.state, outcome.message, outcome.at)
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
            self.wishes.hold(device, name, value)
            entry = self._table.entry(device, name)
            if entry is None:
                continue
            try:
                self._alarms.refuse_if_held(device, name, entry.value)
            except Interlocked as error:
                if entry.state == DesiredState.PENDING:
                    self._table.become(entry, DesiredState.BLOCKED, str(error))
                elif entry.state == DesiredState.APPLIED:
                    said = f"the trip {alarm.rule} wrote {shown(value)} (alarm {alarm.id})"
                    self._table.become(entry, DesiredState.OVERRIDDEN, said)

    # Keeping, and expiring.

    async def run(self) -> None:
        """Expire what is due, and put on disk what became of desired values."""
        while True:
            self._table.expire_due()
            await self.wishes.end_overrides()
            kept = await self._table.keep() and await self.wishes.take_again()
            await self._table.bell.wait(self._table.until_next() if kept else PATIENCE)

    async def keep(self) -> bool:
        """Put what changed on disk; False while the disk does not take it."""
        return await self._table.keep()
