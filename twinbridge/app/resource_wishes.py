"""What Device resources desire: taken up once, against what people desire here and trips held."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TypeAlias

import structlog

from twinbridge.app.alarm_table import AlarmTable
from twinbridge.app.clock import Clock
from twinbridge.app.desired_entry import (
    DEVICE_ORIGIN,
    WITHDRAWN,
    grave,
    heard,
    new_entry,
    wish_text,
)
from twinbridge.app.desired_table import DesiredTable
from twinbridge.app.wishes import (
    FOREVER,
    MAYBE_BEFORE_RESET,
    Heard,
    Releases,
    in_our_time,
    overrides,
    too_late,
    wish_of,
)
from twinbridge.core.alarm import Alarm
from twinbridge.core.messages import DesiredState
from twinbridge.core.model import DesiredSpec, DeviceSpec, Value, same_value
from twinbridge.errors import Interlocked, InvalidDesired, StoreUnavailable
from twinbridge.ports import Actor, StoredDesired

log = structlog.get_logger()

Accept: TypeAlias = Callable[
    [DeviceSpec, Mapping[str, DesiredSpec | None], Actor, Callable[[], bool]], Awaitable[int]
]


class ResourceWishes:
    """`accept` takes up a patch, as `DesiredTwins.accept`."""

    def __init__(
        self, table: DesiredTable, clock: Clock, alarms: AlarmTable, accept: Accept
    ) -> None:
        self._table = table
        self._clock = clock
        self._alarms = alarms
        self._accept = accept
        self._specs: dict[str, DeviceSpec] = {}
        self._known: dict[str, int] = {}
        """The generation of each Device whose wishes were taken up last."""
        self._hearing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._releases = Releases()
        self._untaken: dict[str, tuple[int, int]] = {}
        """Of a Device that says what the disk did not take: since when, monotonic ns, it may have
        said it, and the generation before."""
        self.behind = 0
        """ns by which our wall clock is known to be behind that of a resource's `validUntil`."""

    def know(self, spec: DeviceSpec) -> None:
        """The definition of a device that came, or changed."""
        self._specs[spec.name] = spec

    def unchanged(self, spec: DeviceSpec) -> None:
        """A newer definition that desires the same."""
        self.know(spec)
        self._known[spec.name] = spec.generation

    def forget(self, device: str, entries: list[StoredDesired], *, replaced: bool) -> None:
        """Where another one of its name takes its place, what trips held is kept."""
        for table in (self._specs, self._known, self._untaken):
            table.pop(device, None)
        for entry in entries:
            self._releases.forget((device, entry.property), generations=replaced)
            if replaced and entry.held is not None:
                buried = grave(device, entry.property, entry.held, 0)
                self._table.note(replace(buried, released=entry.released))

    def wish(self, device: str, name: str) -> DesiredSpec | None:
        """What the resource itself desires."""
        spec = self._specs.get(device)
        return None if spec is None else wish_of(spec, name)

    # What it says.

    async def take(self, spec: DeviceSpec, unheard: int = 0) -> None:
        """Take up what the resource desires now, and withdraw what it desires no longer.

        A wish that is new may have been given up to `unheard` ns ago.
        """
        self.know(spec)
        async with self._hearing[spec.name]:
            await self._take(spec, unheard)

    async def take_again(self) -> bool:
        """What the disk did not take; False while it still does not."""
        for device in list(self._untaken):
            async with self._hearing[device]:
                spec = self._specs.get(device)
                if spec is not None and device in self._untaken:
                    await self._take(spec)
        return not self._untaken

    async def _take(self, spec: DeviceSpec, unheard: int = 0) -> None:
        said = self._since_it_was_said(spec.name, unheard)
        with self._again_later(spec.name, said):
            for entry in self._table.of(spec.name):
                if entry.spec and wish_of(spec, entry.property) is None:
                    await self._withdraw(spec, entry)
            for wish in spec.desired:
                await self._take_up(spec, wish, said)
            self._known[spec.name] = spec.generation
            self._untaken.pop(spec.name, None)

    def _since_it_was_said(self, device: str, unheard: int) -> Heard:
        before = self._known.get(device, 0)
        if device in self._untaken:
            since, known = self._untaken[device]
            return Heard(max(unheard, self._clock.mono() - since), min(before, known))
        return Heard(unheard, before)

    @contextmanager
    def _again_later(self, device: str, said: Heard) -> Iterator[None]:
        """What the disk does not take does not become newer by waiting for it."""
        try:
            yield
        except StoreUnavailable as error:
            since, before = self._clock.mono() - said.unheard, said.before
            if device in self._untaken:
                since = min(since, self._untaken[device][0])
                before = min(before, self._untaken[device][1])
            else:
                log.warning("what is desired waits for the disk", device=device, why=str(error))
                self._table.bell.ring()  # once: who tries again has its own patience
            self._untaken[device] = since, before

    async def _take_up(self, spec: DeviceSpec, wish: DesiredSpec, said: Heard) -> None:
        """Once per text of the entry: a later value of another origin is not written over.

        Raises StoreUnavailable.
        """
        now = self._clock.wall()
        old = self._table.stored(spec.name, wish.property)
        if old is not None and old.spec == wish_text(wish):
            return
        here = in_our_time(wish, self.behind)
        older = self._releases.may_follow(old, here, said, self._clock)
        if old is not None and spec.local_wins and overrides(old, now):
            # It was given to what stands now; that it comes back of itself is not what it says.
            self._table.change(heard(old, wish, older=older))
            return
        late = too_late(here, now, said.unheard)
        # What the trip wrote may always be written; while it stands, `accept` says what it holds.
        doubt = older and old and old.released and not same_value(wish.value, old.held)
        if late or doubt:
            why = late or MAYBE_BEFORE_RESET
            actor = _resource(spec)
            await self._table.note_refusal(spec.name, {wish.property: wish}, actor, why)
            state = DesiredState.EXPIRED if late else DesiredState.BLOCKED
            self._note_unfit(spec.name, wish, state, why)
            return
        left = here
        if wish.valid_for is not None:
            left = replace(here, valid_for=wish.valid_for - said.unheard)
        await self._give(spec, wish, left, older=older)

    async def _give(
        self, spec: DeviceSpec, wish: DesiredSpec, left: DesiredSpec, *, older: bool
    ) -> None:
        """`left` is the wish with what is left of its time. Raises StoreUnavailable."""
        try:
            await self._accept(spec, {wish.property: left}, _resource(spec), lambda: True)
        except (InvalidDesired, Interlocked) as error:
            held = isinstance(error, Interlocked)
            state = DesiredState.BLOCKED if held else DesiredState.REJECTED
            self._note_unfit(spec.name, wish, state, str(error))
        else:
            entry = self._table.stored(spec.name, wish.property)
            if entry is not None and entry.origin == DEVICE_ORIGIN:
                # The text as it stands in the resource, also where less of its time was left.
                new = heard(entry, wish, older=older)
                if new != entry:
                    self._table.note(new)

    def _note_unfit(self, device: str, wish: DesiredSpec, state: DesiredState, why: str) -> None:
        """Keep it with its text, so that it is shown, and not tried again as it is."""
        old = self._table.stored(device, wish.property)
        version = self._table.version(device) + 1
        entry = new_entry(device, wish, version, DEVICE_ORIGIN, self._clock.wall())
        self._table.change(
            replace(
                entry,
                state=state.value,
                message=why,
                valid_until=wish.valid_until,
                spec=wish_text(wish),
                held=old.held if old else None,
                released=old.released if old else 0,
            )
        )

    async def _withdraw(self, spec: DeviceSpec, entry: StoredDesired) -> None:
        """The resource no longer desires it; what was written stays written.

        Raises StoreUnavailable.
        """
        if entry.origin != DEVICE_ORIGIN or entry.state == WITHDRAWN:
            self._table.change(replace(entry, spec=""))
            return
        with suppress(InvalidDesired):  # the property is gone, too
            await self._accept(spec, {entry.property: None}, _resource(spec), lambda: True)

    # Overrides: values desired here in place of the resource's.

    async def hand_back(self, device: str, name: str) -> None:
        """An override is over by somebody's word: what the resource desires is in force again."""
        wish, buried = self.wish(device, name), self._table.stored(device, name)
        if wish is not None and buried is not None and buried.spec:
            self._table.set(replace(buried, spec=""))
            said = Heard(FOREVER)
            with self._again_later(device, said):
                await self._take_up(self._specs[device], wish, said)

    async def end_overrides(self) -> None:
        """By themselves they end only where the property says that values are written again."""
        for device, name in self._table.overrides.over(self._clock.mono()):
            spec, entry = self._specs.get(device), self._table.entry(device, name)
            point = spec.point(name) if spec else None
            if entry is None or point is None:
                continue
            self._table.tell(device, name)
            if point.spec.reapply:
                await self.hand_back(device, name)

    # Trips: what was desired before a reset stays discarded, also what comes late.

    def restore(self, entry: StoredDesired) -> None:
        """The alarms have been, before: a trip that was reset in the last moment is as of now."""
        self._table.restore(entry)
        standing = self._alarms.is_held(entry.device, entry.property)
        if entry.held is not None and not entry.released and not standing:
            self._table.note(self._releases.note(entry, self._clock))

    def hold(self, device: str, name: str, held: Value) -> None:
        """A trip stands that wrote `held`."""
        if device not in self._specs:
            return
        entry = self._table.stored(device, name)
        if entry is None:
            entry = grave(device, name, held, self._table.version(device))
        elif (entry.held, entry.released) == (held, 0):
            return
        self._table.note(replace(entry, held=held, released=0))

    def release(self, alarm: Alarm) -> None:
        """A trip was reset."""
        for device, name, _ in alarm.holds:
            entry = self._table.stored(device, name)
            if entry is not None and entry.held is not None:
                self._table.note(self._releases.note(entry, self._clock))

    async def told(self, device: str, began: int, generation: int) -> None:
        """The hub took a status that was written from `began` on, monotonic ns, and answered with
        the Device's generation: what came after that was given after what was before `began`.
        """
        async with self._hearing[device]:
            for entry in self._table.of(device):
                if entry.held is not None and entry.released:
                    self._releases.answered((device, entry.property), began, generation)
                    await self._reconsider(entry)

    async def _reconsider(self, entry: StoredDesired) -> None:
        """Take up after all what turns out to be later than the reset of a trip."""
        key = (entry.device, entry.property)
        proven, wish = self._releases.proven(key, self._clock), self.wish(*key)
        if proven is None or wish is None or entry.spec != wish_text(wish):
            return
        if entry.origin != DEVICE_ORIGIN:
            self._table.change(heard(entry, wish, older=False))
        elif entry.message == MAYBE_BEFORE_RESET:
            self._table.set(replace(entry, spec=""))
            with self._again_later(entry.device, proven):
                await self._take_up(self._specs[entry.device], wish, proven)


def _resource(spec: DeviceSpec) -> Actor:
    return Actor(f"Device/{spec.name}", DEVICE_ORIGIN)
