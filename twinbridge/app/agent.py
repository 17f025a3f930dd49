"""The agent: holds the twins of one edge node.

It takes what the machines' side says from the bus, and gives it what is desired. It never talks
to a machine itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from twinbridge.app.alarm_table import AlarmTable
from twinbridge.app.clock import Clock, SystemClock
from twinbridge.app.clock_watch import ClockWatch
from twinbridge.app.desired import DesiredTwins
from twinbridge.app.dispatch import Dispatch
from twinbridge.app.events import EventLog
from twinbridge.app.history import HistoryRecorder
from twinbridge.core.alarm import Alarm
from twinbridge.core.messages import (
    Acknowledge,
    AlarmChanged,
    Audit,
    Contact,
    Desire,
    DesiredState,
    Event,
    Outcome,
    ResetTrip,
    Samples,
    SetMode,
    Shelve,
)
from twinbridge.core.model import NOT_READ, DesiredSpec, DeviceSpec, Quality, Reason, Sample
from twinbridge.core.rule import Mode, RuleInstance
from twinbridge.core.twin import lose
from twinbridge.errors import StoreUnavailable, UnknownName
from twinbridge.ports import Actor, AgentBus, DefinitionsChanged, StoredState, TwinStore

log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class Twin:
    """A device as last heard of. `reported` holds immutable samples by property."""

    reported: dict[str, Sample] = field(default_factory=dict)
    connected: bool = False
    last_contact: int = 0
    message: str = "not contacted yet"


class Agent:
    """Make it before the machines' side starts: that tells only what changes.

    Then call `set_plant`, and run `run` as long as it lives.
    """

    def __init__(
        self,
        store: TwinStore,
        bus: AgentBus,
        node: str,
        clock: Clock | None = None,
        epoch: str = "",
    ) -> None:
        self.node = node
        self.store = store
        self.clock = clock or SystemClock()
        self.events = EventLog()
        self.alarms = AlarmTable()
        self.devices: dict[str, DeviceSpec] = {}
        self.rules: dict[str, list[RuleInstance]] = {}
        self._own_problems: dict[str, str] = {}
        self._told_problems: dict[str, Mapping[str, str]] = {}
        self.started = asyncio.Event()
        """Set once the agent listens to the bus."""
        self._bus = bus
        self._batches: AsyncIterator[Sequence[Event]] | None = bus.subscribe()
        self._twins: dict[str, Twin] = {}
        self._modes: dict[str, str] = {}
        self._accepting: set[asyncio.Future[int]] = set()
        self._restored = False
        self._dispatch = Dispatch(bus, self._refused)
        self.desired = DesiredTwins(
            store, self.clock, self.alarms, self.events, self._dispatch.send, epoch
        )
        self.also_record: Callable[[str, Sequence[tuple[str, Sample]]], None] | None = None
        """Gets what history records; never blocks and never raises."""
        self._history = HistoryRecorder(self._record, self.clock)
        self._made_anew: set[str] = set()
        self.given_since: int | None = None
        """Monotonic ns: what definitions newly desire was given then, or later; None: just now."""

    # Definitions.

    async def restore(self, state: StoredState) -> None:
        """Take up what was on disk; done by the first `set_plant` when nobody did it before."""
        self._restored = True
        self._modes.update(state.modes)
        for alarm in state.alarms:
            self.alarms.put(alarm)
        self.desired.restore(state.desired)
        for device, samples in state.reported.items():
            self._twins[device] = Twin({name: _unread(s) for name, s in samples.items()})

    async def set_plant(
        self,
        devices: Mapping[str, DeviceSpec],
        rules: Iterable[RuleInstance],
        problems: Mapping[str, str] | None = None,
    ) -> None:
        """The definitions as they now are. `problems`: what is wrong with which resource.

        Twins of devices that did not change stay as they are; desired values of devices that
        went away are forgotten.
        """
        if not self._restored:
            await self.restore(await self.store.load())
        old, self.devices = self.devices, dict(sorted(devices.items()))
        self._own_problems = dict(problems or {})
        self.rules = {}
        for instance in rules:
            self.rules.setdefault(instance.rule, []).append(instance)
        self._history.set_devices(self.devices.values())
        for spec in self.devices.values():
            self._fit(spec)  # before anything waits: whoever sees the device finds its twin
        gone = sorted(old.keys() - self.devices.keys())
        for name in gone:
            await self._forget(name)
        changed = []
        for name, spec in self.devices.items():
            if name not in old or old[name].digest != spec.digest or not spec.digest:
                changed.append(name)
                await self.desired.resume(spec, self.unheard)
            elif name in self._made_anew or old[name].desired != spec.desired:
                await self.desired.wishes.take(spec, self.unheard)
            else:
                self.desired.wishes.unchanged(spec)
        self._made_anew.clear()
        if gone or changed:
            self.events.append(DefinitionsChanged(tuple(changed), tuple(gone)))

    @property
    def unheard(self) -> int:
        """How old, in ns, may be what definitions newly desire: see `HubDefinitions.unheard`."""
        if self.given_since is None:
            return 0
        return max(1, self.clock.mono() - self.given_since)  # 0 is what was given here

    def _fit(self, spec: DeviceSpec) -> None:
        """A twin has exactly the properties of its definition that can be read."""
        twin = self._twins.setdefault(spec.name, Twin())
        readable = [p.spec.name for p in spec.points if p.spec.access.readable]
        twin.reported = {name: twin.reported.get(name, NOT_READ) for name in readable}

    async def take_wishes(self, spec: DeviceSpec, unheard: int) -> None:
        """Take up a definition that differs from the present one only in what it desires."""
        self.devices[spec.name] = spec
        await self.desired.wishes.take(spec, unheard)

    async def _forget(self, device: str) -> None:
        self._twins.pop(device, None)
        self._dispatch.forget(device)
        await self._forget_desired(device)

    async def make_anew(self, device: str) -> None:
        """Another one of the same name comes in its place, with the next definitions."""
        self._made_anew.add(device)
        await self._forget_desired(device, replaced=True)

    async def _forget_desired(self, device: str, *, replaced: bool = False) -> None:
        try:
            await self.desired.forget(device, replaced=replaced)
        except StoreUnavailable as error:
            log.warning("desired values of a removed device stay", device=device, why=str(error))

    # The bus.

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(), name="agent bus")
            tasks.create_task(self._dispatch.run(), name="agent dispatch")
            tasks.create_task(self.desired.run(), name="agent desired")
            tasks.create_task(self._history.run(), name="agent history")
            watch = ClockWatch(self.clock, self.store, self.node)
            tasks.create_task(watch.run(), name="agent clock")

    async def drain(self) -> None:
        """On a graceful stop, after `run` was cancelled: put on disk what is not yet there."""
        self.events.close()
        await self.desired.keep()

    async def _listen(self) -> None:
        batches, self._batches = self._batches or self._bus.subscribe(), None
        self.started.set()
        async for batch in batches:
            self.take(batch)

    def take(self, batch: Sequence[Event]) -> None:
        for event in batch:
            match event:
                case Samples():
                    self._take_samples(event)
                case Contact():
                    self._take_contact(event)
                case AlarmChanged(alarm):
                    self._take_alarm(alarm)
                case Outcome():
                    self.desired.settle(event)
                case Audit():
                    pass  # its writer has put it on disk already

    def _take_alarm(self, alarm: Alarm) -> None:
        """One that is told again as it was is no news."""
        stood = self.alarms.is_trip(alarm.id)
        if self.alarms.put(alarm):
            self.events.append(alarm)
            if alarm.tripped:
                self.desired.hold(alarm)
            elif stood:
                self.desired.wishes.release(alarm)

    def _take_samples(self, event: Samples) -> None:
        device, samples = event
        twin = self._twins.get(device)
        if twin is None:
            twin = self._twins[device] = Twin()
        twin.reported.update(samples)
        self.store.record_reported(device, samples)
        self._history.take(device, samples)
        self.events.append(event)

    def _record(self, device: str, samples: Sequence[tuple[str, Sample]]) -> None:
        self.store.record_history(device, samples)
        if self.also_record is not None:
            self.also_record(device, samples)

    def _take_contact(self, event: Contact) -> None:
        twin = self._twins.setdefault(event.device, Twin())
        changed = twin.connected is not event.connected or twin.message != event.message
        came_back = event.connected and not twin.connected
        twin.connected, twin.message = event.connected, event.message
        if event.connected:
            twin.last_contact = event.at
        if changed:
            self.events.append(event)
        if came_back and event.device in self.devices:
            self.desired.reapply(self.devices[event.device])

    def _refused(self, desire: Desire, state: DesiredState, message: str) -> None:
        self.desired.refused(desire, state, message)

    # Drivers in processes of their own.

    def lose(self, devices: Iterable[str], message: str) -> None:
        """Nothing is heard of these any more: their values are bad, with their last times."""
        at = self.clock.wall()
        for name in devices:
            twin = self._twins.get(name)
            if twin is None or name not in self.devices:
                continue
            self._take_contact(Contact(name, connected=False, at=at, message=message))
            lost = tuple(
                (prop, lose(sample, Reason.COMM_LOST, sample.seq, message))
                for prop, sample in twin.reported.items()
                if sample.quality is not Quality.BAD
            )
            if lost:
                self._take_samples(Samples(name, lost))

    def resend(self, devices: Iterable[str]) -> None:
        """A driver serves these from now on, and may know nothing: send it what is desired."""
        for name in devices:
            if name in self.devices:
                self.desired.resend(self.devices[name])

    @property
    def problems(self) -> dict[str, str]:
        """By resource, what is wrong with it: here, or where it is to run."""
        told = {what: why for found in self._told_problems.values() for what, why in found.items()}
        return told | self._own_problems

    def note_problems(self, source: str, problems: Mapping[str, str]) -> None:
        """What that driver says of resources, in place of what it said before."""
        self._told_problems[source] = problems

    # What people ask.

    def device(self, name: str) -> DeviceSpec:
        """Raises UnknownName."""
        try:
            return self.devices[name]
        except KeyError:
            raise UnknownName(f"no device is named {name!r} on {self.node}") from None

    def twin(self, name: str) -> Twin:
        return self._twins[name]

    def etag(self, name: str) -> str:
        """Of the desired state and the definition; reported values leave it as it is."""
        return f'"{self.desired.version(name)}-{self.devices[name].digest[:12]}"'

    async def desire(
        self,
        device: str,
        patch: Mapping[str, DesiredSpec | None],
        actor: Actor,
        if_match: Sequence[str] = (),
    ) -> int:
        """Take up desired values, all or none; returns the version of the desired state.

        Raises UnknownName, InvalidDesired (with the field), Interlocked, StaleVersion when
        `if_match` is given and lacks the present etag, StoreUnavailable.
        """
        spec = self.device(device)
        # To its end, also when who asked has gone: what is on disk is what is in force.
        accepting = asyncio.ensure_future(
            self.desired.accept(
                spec, patch, actor, lambda: not if_match or self.etag(device) in if_match
            )
        )
        self._accepting.add(accepting)
        accepting.add_done_callback(self._accepted)
        return await asyncio.shield(accepting)

    def _accepted(self, accepting: asyncio.Future[int]) -> None:
        self._accepting.discard(accepting)
        if not accepting.cancelled():
            accepting.exception()  # looked at, also when nobody waits for it any more

    def mode(self, instance: RuleInstance) -> str:
        return self._modes.get(instance.rule, instance.mode.value)

    async def set_mode(self, rule: str, mode: Mode, who: str) -> None:
        """The machines' side keeps and journals it. Raises UnknownName, Conflict."""
        if rule not in self.rules:
            raise UnknownName(f"no rule is named {rule!r} on {self.node}")
        await self._bus.request(SetMode(rule, mode, who))
        self._modes[rule] = mode.value

    async def acknowledge(self, alarm: str, who: str, comment: str) -> None:
        """Raises UnknownName, Conflict when the alarm is over."""
        await self._bus.request(Acknowledge(self.alarms.find(alarm).id, who, comment))

    async def shelve(self, alarm: str, until: int, who: str, reason: str) -> None:
        """Until UTC ns. Raises UnknownName, Conflict when the alarm is over."""
        await self._bus.request(Shelve(self.alarms.find(alarm).id, until, who, reason))

    async def reset(self, alarm: str, who: str, reason: str) -> None:
        """Raises UnknownName, ResetRefused, Conflict when the alarm is over."""
        await self._bus.request(ResetTrip(self.alarms.find(alarm).id, who, reason))


def _unread(sample: Sample) -> Sample:
    """A value from before the start: shown with its age, and bad until it is read again."""
    return sample._replace(quality=Quality.BAD, reason=Reason.NOT_READ)
