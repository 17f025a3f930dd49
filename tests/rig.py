"""The machines' side on fake machines, with what it said, for tests of `twinbridge.app`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from twinbridge.adapters.bus_memory import MemoryBus
from twinbridge.app.clock import Clock, SystemClock
from twinbridge.app.machines import Machines
from twinbridge.core.alarm import Alarm, TripState
from twinbridge.core.messages import AlarmChanged, Desire, Event, Outcome, Samples
from twinbridge.core.model import (
    MILLISECOND,
    SECOND,
    Access,
    DeviceSpec,
    Point,
    PropertyRef,
    PropertySpec,
    Value,
    ValueType,
)
from twinbridge.core.rule import Compare, Mode, OnBad, Op, RuleInstance, Severity, Trip, Write
from twinbridge.ports import Driver, TwinStore
from twinbridge.testing.fake_driver import BoundAddress, FakeConnection, FakeDriver, FakePlc
from twinbridge.testing.fakes import FakeStore


def a_property(name: str, kind: ValueType, access: Access, **more: object) -> PropertySpec:
    return PropertySpec(name, kind, access, **more)  # type: ignore[arg-type]  # a test's shorthand


PUMP = (
    a_property("temperature", ValueType.FLOAT, Access.READ_ONLY),
    a_property("run", ValueType.BOOL, Access.READ_WRITE),
    a_property("speed", ValueType.INT, Access.READ_WRITE),
)


def a_device(
    name: str = "pump",
    properties: Iterable[PropertySpec] = PUMP,
    *,
    plc: str = "plc",
    unit: str = "",
    interval: int = 10 * MILLISECOND,
    digest: str = "1",
) -> DeviceSpec:
    points = tuple(
        Point(PropertyRef(name, p.name), p, BoundAddress(f"{unit}{p.name}", unit), interval)
        for p in properties
    )
    return DeviceSpec(
        name, "pump", "edge", "fake", FakeConnection(plc=plc, unit=unit), points, digest=digest
    )


def overheat(device: str = "pump", **more: object) -> RuleInstance:
    """Trips `run` off at 85."""
    fields: dict[str, object] = {
        "rule": "overheat",
        "device": device,
        "condition": Compare(
            PropertyRef(device, "temperature"), Op.ABOVE, limit=85, deadband=5, stale_after=SECOND
        ),
        "on_bad": OnBad.IGNORE,
        "severity": Severity.CRITICAL,
        "mode": Mode.ARMED,
        "trip": Trip((Write(PropertyRef(device, "run"), value=False),), 100 * MILLISECOND),
    }
    return RuleInstance(**{**fields, **more})  # type: ignore[arg-type]  # a test's shorthand


def a_plc(unit: str = "") -> FakePlc:
    return FakePlc({f"{unit}temperature": 20.0, f"{unit}run": True, f"{unit}speed": 10})


@dataclass
class Rig:
    machines: Machines
    bus: MemoryBus
    store: TwinStore
    events: list[Event] = field(default_factory=list)

    async def until(self, seen: Callable[[], object], what: str = "") -> None:
        """Wait until it is true; fail after 5 s with what was said meanwhile."""
        for _ in range(1000):
            if seen():
                return
            await asyncio.sleep(0.005)
        raise AssertionError(f"never came: {what or seen}; said: {self.events[-5:]}")

    def alarm(self, rule: str = "overheat") -> Alarm | None:
        """The alarm of a rule as last told."""
        told = [e.alarm for e in self.events if isinstance(e, AlarmChanged)]
        return next((a for a in reversed(told) if a.rule == rule), None)

    def trip_is(self, state: TripState) -> Callable[[], bool]:
        return lambda: (alarm := self.alarm()) is not None and alarm.trip is state

    def trip_is_of(self, rule: str, state: TripState) -> Callable[[], bool]:
        return lambda: (alarm := self.alarm(rule)) is not None and alarm.trip is state

    def outcomes(self) -> list[Outcome]:
        return [e for e in self.events if isinstance(e, Outcome)]

    def seen(self, device: str, name: str) -> list[Value | None]:
        """Every value of a property that was told, in order."""
        return [
            s.value
            for e in self.events
            if isinstance(e, Samples) and e.device == device
            for n, s in e.samples
            if n == name
        ]

    async def desire(self, name: str, value: Value, *, version: int = 1, **more: int) -> None:
        await self.machines.handle(Desire("pump", name, value, version, "test", 0, **more))


@asynccontextmanager
async def running(
    plcs: Mapping[str, FakePlc],
    devices: Iterable[DeviceSpec] = (),
    rules: Iterable[RuleInstance] = (),
    store: TwinStore | None = None,
    clock: Clock | None = None,
    drivers: Mapping[str, Driver] | None = None,
) -> AsyncIterator[Rig]:
    """Machines that are served until the block ends: the fake ones, or those behind `drivers`."""
    bus = MemoryBus()
    store = store or FakeStore()
    served = drivers or {"fake": FakeDriver(plcs)}
    machines = Machines(served, store, bus, clock or SystemClock())
    rig = Rig(machines, bus, store)
    listening = bus.subscribe()

    async def listen() -> None:
        async for batch in listening:
            rig.events += batch

    ready = asyncio.Event()
    tasks = [asyncio.create_task(listen()), asyncio.create_task(machines.run(ready))]
    await ready.wait()
    machines.start(await store.load(), {d.name: d for d in devices or [a_device()]}, rules)
    try:
        yield rig
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
