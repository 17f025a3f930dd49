"""Everything that touches machines in one process: workers, rules, trips; and its reload."""

from __future__ import annotations

import asyncio
from collections import ChainMap
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import cast

import structlog
from pydantic import BaseModel

from twinbridge.app.alarms import AlarmDesk
from twinbridge.app.clock import Clock
from twinbridge.app.device import Device, Station, Watcher
from twinbridge.app.foreign import ForeignDevices
from twinbridge.app.interlock import Interlock
from twinbridge.app.journal import Journal
from twinbridge.app.metrics import CONNECTED, DEVICES
from twinbridge.app.pipeline import Pipeline
from twinbridge.app.rule_runner import RuleRunner, Seen
from twinbridge.app.supervise import supervise
from twinbridge.app.worker import Worker
from twinbridge.app.writes import Served, Writes
from twinbridge.core.messages import (
    Acknowledge,
    Desire,
    Event,
    Request,
    ResetTrip,
    SetMode,
    Shelve,
    TellAll,
)
from twinbridge.core.model import DeviceSpec, PropertyRef
from twinbridge.core.rule import Mode, RuleInstance
from twinbridge.core.rules import needs_every_sample
from twinbridge.errors import UnknownName
from twinbridge.ports import Bus, Driver, StoredState, TwinStore

log = structlog.get_logger()

CAUTIONS_EVERY = 5.0
"""Seconds between questions to the links about trouble to come."""


class Machines:
    """Owns the links of this process. Use `async with`; then `apply` definitions.

    `drivers` by protocol name. A device whose protocol has no driver is refused by `apply`'s
    caller (the definitions are checked before).
    """

    def __init__(
        self, drivers: Mapping[str, Driver], store: TwinStore, bus: Bus, clock: Clock
    ) -> None:
        self._drivers = drivers
        self._bus = bus
        self._clock = clock
        self._pipeline = Pipeline(bus, clock)
        self._interlock = Interlock()
        self._journal = Journal(store, bus, clock)
        self._devices: dict[str, Device] = {}
        self._foreign = ForeignDevices(clock)
        self._seen: Mapping[str, Seen] = ChainMap(
            cast("dict[str, Seen]", self._devices),
            cast("dict[str, Seen]", self._foreign.devices),
        )
        self._closing: set[asyncio.Task[None]] = set()
        self._stations: dict[tuple[str, str], Station] = {}
        self._workers: dict[str, Worker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._runners: dict[str, RuleRunner] = {}
        self._watchers: dict[PropertyRef, list[Watcher]] = {}
        self._rates: dict[PropertyRef, list[Watcher]] = {}
        self._modes: dict[str, Mode] = {}
        self._group: asyncio.TaskGroup | None = None
        self._writes = Writes(
            self._served, self._stands, self._interlock, self._journal, bus, clock
        )
        self._desk = AlarmDesk(
            self._devices,
            self._interlock,
            self._journal,
            clock,
            press=self._writes.press,
            act=self._writes.act,
            guard=self._guard,
        )
        bus.serve(self.handle)

    async def run(self, ready: asyncio.Event) -> None:
        """Serve until cancelled; `ready` is set once `apply` may be called."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._supervised("journal", self._journal.run), name="journal")
                group.create_task(
                    self._supervised("contacts", self._tell_contacts), name="contacts"
                )
                group.create_task(
                    self._supervised("cautions", self._tell_cautions), name="cautions"
                )
                ready.set()
        finally:
            self._group = None
            for runner in self._runners.values():
                runner.stop()

    async def drain(self) -> None:
        """Keep what the journal still holds. Raises StoreUnavailable."""
        await self._journal.drain()

    @property
    def devices(self) -> Mapping[str, Device]:
        return self._devices

    @property
    def untried(self) -> list[str]:
        """Endpoints whose link was not opened yet, nor failed to; from any thread."""
        return [e for e, worker in list(self._workers.items()) if not worker.tried]

    def start(
        self, stored: StoredState, devices: Mapping[str, DeviceSpec], rules: Iterable[RuleInstance]
    ) -> None:
        """The first `apply`, with what stood on disk: modes, latches, alarms, past commands."""
        self._writes.remember(stored.outcomes)
        self._modes = {rule: Mode(mode) for rule, mode in stored.modes.items()}
        instances = self._with_modes(rules)
        self._take_devices(devices)
        if stored.readable:
            self._desk.restore(stored.alarms)
        else:
            for instance in instances:
                if instance.mode is Mode.ARMED:
                    self._desk.latch_unreadable(instance)
        self._take_rules(instances)
        self._index_rules()
        for device in self._devices.values():
            self._bind(device)
        self._serve()
        self._desk.press_resumed()

    def apply(self, devices: Mapping[str, DeviceSpec], rules: Iterable[RuleInstance]) -> None:
        """Take up new definitions. What did not change goes on undisturbed."""
        self._take_devices(devices)
        self._desk.rebind()
        self._take_rules(self._with_modes(rules))
        self._index_rules()
        for device in self._devices.values():
            self._bind(device)
        self._serve()
        self._desk.press_resumed()

    async def handle(self, request: Request) -> None:
        """What the agent asks. Raises UnknownName, Conflict, InvalidInput, StoreUnavailable."""
        match request:
            case Desire():
                self._writes.desire(request)
            case ResetTrip():
                await self._desk.reset(request, self._runners)
            case Acknowledge():
                await self._desk.acknowledge(request)
            case Shelve():
                await self._desk.shelve(request)
            case SetMode():
                await self._set_mode(request)
            case TellAll():
                self._tell_all(request.devices)

    def hear(self, events: Sequence[Event]) -> None:
        """What other processes tell of devices that rules of this one read."""
        self._foreign.hear(events)

    def withhold(self, why: str) -> None:
        """Begin no ordinary write from now on, as another process may be the writer; '' ends it.

        Trips go on. A desired value is refused as Unreachable, what rules want waits.
        """
        if why != self._interlock.withheld:
            log.warning("ordinary writes are withheld" if why else "writes go on", why=why)
            self._writes.withhold(why)
            for worker in self._workers.values():
                worker.recheck()

    async def closed(self) -> None:
        """Until the links of what is no longer served are closed."""
        if self._closing:
            await asyncio.wait(self._closing)

    def _tell_all(self, names: Sequence[str]) -> None:
        """Say again what was said before: whoever listens may have missed it."""
        found = (self._devices.get(name) for name in names) if names else self._devices.values()
        self._pipeline.tell_all(device for device in found if device is not None)
        self._desk.tell_all()

    # Definitions

    def _take_devices(self, specs: Mapping[str, DeviceSpec]) -> None:
        for name, device in list(self._devices.items()):
            if name not in specs or specs[name].digest != device.spec.digest:
                del self._devices[name]
                if device.connected:
                    CONNECTED.dec()
        for name, spec in specs.items():
            if name not in self._devices:
                self._devices[name] = Device.of(spec, self._station(spec))
        DEVICES.set(len(self._devices))

    def _station(self, spec: DeviceSpec) -> Station:
        driver = self._drivers[spec.protocol]
        key = (self._endpoint(spec), driver.unit(_connection(spec)))
        return self._stations.setdefault(key, Station(key[1]))

    def _endpoint(self, spec: DeviceSpec) -> str:
        return self._drivers[spec.protocol].endpoint(_connection(spec))

    def _take_rules(self, instances: Iterable[RuleInstance]) -> None:
        wanted = {i.id: i for i in instances}
        for key, runner in list(self._runners.items()):
            if runner.instance != wanted.get(key):
                runner.stop()
                self._desk.clear(key)
                del self._runners[key]
        for key, instance in wanted.items():
            if key not in self._runners:
                self._runners[key] = RuleRunner(
                    instance, self._seen, self._clock, self._desk.on_effects
                )
                self._runners[key].start(latched=self._desk.tripped(key))
            else:
                self._runners[key].go_on()

    def _with_modes(self, instances: Iterable[RuleInstance]) -> list[RuleInstance]:
        """A mode set by a person outlives restarts and outranks the resource's; it is said."""
        found = []
        for instance in instances:
            mode = self._modes.get(instance.rule, instance.mode)
            if mode is not instance.mode:
                said = f"{instance.mode} in its resource"
                log.warning("rule has a mode set by hand", rule=instance.id, mode=mode, but=said)
            found.append(replace(instance, mode=mode))
        return found

    def _index_rules(self) -> None:
        watchers: dict[PropertyRef, list[Watcher]] = {}
        rates: dict[PropertyRef, list[Watcher]] = {}
        for runner in self._runners.values():
            for ref in runner.refs:
                watchers.setdefault(ref, []).append(runner)
                if needs_every_sample(runner.instance):
                    rates.setdefault(ref, []).append(runner)
        self._watchers, self._rates = watchers, rates
        self._foreign.watch(
            {ref: found for ref, found in watchers.items() if ref.device not in self._devices}
        )

    def _guard(self, names: Iterable[str]) -> None:
        """A trip has come or gone: bind the watchers of these devices anew.

        The writes that it now forbids are answered at once. Runs after what is ready to run, so
        that it never stands between a trip and its write.
        """
        asyncio.get_running_loop().call_soon(self._guard_now, frozenset(names))

    def _guard_now(self, names: Iterable[str]) -> None:
        for name in names:
            if (served := self._served(name)) is not None:
                device, worker = served
                self._bind(device)
                worker.recheck()

    def _bind(self, device: Device) -> None:
        found = {ref: list(self._watchers.get(ref, ())) for ref in _refs(device)}
        for trip in self._desk.trips:
            for ref in trip.watched:
                if ref in found:
                    found[ref].append(trip)
        device.watch(
            {ref.property: tuple(seen) for ref, seen in found.items() if seen},
            {r.property: tuple(self._rates[r]) for r in found if r in self._rates},
        )

    # Links

    def _serve(self) -> None:
        """One worker and task for each endpoint that has devices."""
        served: dict[str, list[Device]] = {}
        for device in self._devices.values():
            served.setdefault(self._endpoint(device.spec), []).append(device)
        orphans = []
        for endpoint in [e for e in self._workers if e not in served]:
            self._close(self._tasks.pop(endpoint))
            orphans.append(self._workers.pop(endpoint).serve([]))
        for endpoint, devices in served.items():
            worker = self._workers.get(endpoint)
            if worker and any(d.spec.connection == worker.connection for d in devices):
                orphans.append(worker.serve(devices))
            else:
                if worker:
                    orphans.append(worker.serve([]))
                self._open_worker(endpoint, devices)
        for stops, commands in orphans:
            self._writes.forward(stops, commands)

    def _close(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _open_worker(self, endpoint: str, devices: list[Device]) -> None:
        """Start a worker; one that served the endpoint with another connection goes first."""
        if (old := self._tasks.pop(endpoint, None)) is not None:
            old.cancel()
        spec = devices[0].spec
        driver = self._drivers[spec.protocol]
        worker = Worker(
            endpoint,
            _connection(spec),
            driver.open,
            pipeline=self._pipeline,
            interlock=self._interlock,
            clock=self._clock,
        )
        worker.serve(devices)
        self._workers[endpoint] = worker
        assert self._group is not None, "run() first"  # noqa: S101 - a caller's mistake, not input
        self._tasks[endpoint] = self._group.create_task(
            self._work(worker, old), name=f"link {endpoint}"
        )

    async def _work(self, worker: Worker, old: asyncio.Task[None] | None) -> None:
        """One writer per device: the old link is closed before the new one opens."""
        if old is not None:
            await asyncio.wait([old])
        await supervise(f"link {worker.endpoint}", worker.run, worker.lose_all)

    async def _supervised(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        await supervise(name, run, lambda _: None)

    async def _tell_contacts(self) -> None:
        while True:
            self._pipeline.tell_contacts(self._devices.values())
            await asyncio.sleep(1.0)

    async def _tell_cautions(self) -> None:
        """A link's trouble to come is an alarm of the first device behind it."""
        while True:
            for worker in self._workers.values():
                device = next(iter(worker.devices), None)
                cautions = worker.cautions()
                if device is not None and cautions is not None:
                    self._desk.caution(device.name, cautions)
            await asyncio.sleep(CAUTIONS_EVERY)

    def _served(self, name: str) -> Served | None:
        device = self._devices.get(name)
        worker = self._workers.get(self._endpoint(device.spec)) if device else None
        return (device, worker) if device and worker else None

    def _stands(self, instance: RuleInstance) -> bool:
        runner = self._runners.get(instance.id)
        return (
            runner is not None
            and runner.instance == instance
            and runner.instance.mode is Mode.ARMED
        )

    async def _set_mode(self, request: SetMode) -> None:
        """Arm, disarm or dry-run a rule; kept before it takes effect."""
        runners = [r for r in self._runners.values() if r.instance.rule == request.rule]
        if not runners:
            raise UnknownName(f"no rule {request.rule!r} is served here")
        old = runners[0].instance.mode
        audit = self._journal.entry(
            "mode", request.rule, request.who, old=str(old), new=str(request.mode)
        )
        await self._journal.save_mode(request.rule, str(request.mode), audit)
        self._modes[request.rule] = request.mode
        for runner in runners:
            runner.set_mode(request.mode)


def _connection(spec: DeviceSpec) -> BaseModel:
    """The core keeps a connection as an opaque object; here it is the driver's own model."""
    if not isinstance(spec.connection, BaseModel):
        raise TypeError(f"{spec.name}: its connection has not been validated by its driver")
    return spec.connection


def _refs(device: Device) -> Iterable[PropertyRef]:
    return (PropertyRef(device.name, name) for name in device.points)
