"""The whole path from the driver to the bus, on one stage, with what was said on it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from pydantic import BaseModel

from twinbridge.adapters.bus_memory import MemoryBus
from twinbridge.api.base import API_VERSION
from twinbridge.api.plant import Plant, compile_plant
from twinbridge.api.yaml_source import Document
from twinbridge.app.clock import SystemClock
from twinbridge.app.machines import Machines
from twinbridge.core.alarm import Alarm
from twinbridge.core.messages import AlarmChanged, Desire, DesiredState, Event, Outcome
from twinbridge.core.model import NOT_READ, Sample, Value, same_value
from twinbridge.core.rule import RuleInstance
from twinbridge.ports import Driver, Link, PushLink
from twinbridge.testing.driver_contract.stage import Cell, DriverStage
from twinbridge.testing.fakes import FakeStore
from twinbridge.testing.proxy import FaultProxy

WAIT_SECONDS = 15.0
MODEL = "one-of-everything"


def device_name(station: int) -> str:
    return f"machine-{station}"


def definitions(
    stage: DriverStage,
    port: int,
    *,
    stations: int = 1,
    cells: Sequence[Cell] | None = None,
    interval: str = "",
) -> list[Document]:
    """The resources of the stage: one DeviceModel and a Device for each station."""
    protocol = stage.driver.name
    properties = [
        {
            "name": cell.name,
            "type": cell.type,
            "access": "ReadWrite" if cell.writable else "ReadOnly",
            protocol: dict(cell.block),
        }
        for cell in (stage.cells if cells is None else cells)
    ]
    model = _resource("DeviceModel", MODEL, {"properties": properties})
    devices = [
        _resource(
            "Device",
            device_name(station),
            {
                "modelRef": {"name": MODEL},
                "nodeName": "edge",
                "connection": {protocol: dict(stage.connection(port, station))},
                "poll": {"interval": interval or stage.traits.interval},
            },
        )
        for station in range(stations)
    ]
    return [Document("contract", content) for content in (model, *devices)]


def compiled(stage: DriverStage, port: int, *, stations: int = 1, interval: str = "") -> Plant:
    """Raises AssertionError with what is wrong with the stage's own definitions."""
    documents = definitions(stage, port, stations=stations, interval=interval)
    plant = compile_plant(documents, {stage.driver.name: stage.driver})
    assert plant.sound, f"the stage's definitions are refused: {plant.problems}"
    return plant


def connection_to(stage: DriverStage, port: int, station: int = 0) -> BaseModel:
    return stage.driver.connection_model.model_validate(stage.connection(port, station))


def same(a: Value | None, b: Value | None) -> bool:
    """Equal in type and value, to the last bit."""
    return type(a) is type(b) and same_value(a, b)


async def until(seen: Callable[[], object], what: str, seconds: float | None = None) -> None:
    """Poll until it is so; fail with `what` after `seconds`."""
    end = time.monotonic() + (seconds or WAIT_SECONDS)
    while not seen():
        if time.monotonic() > end:
            raise AssertionError(f"never came: {what}")
        await asyncio.sleep(0.005)


def open_sockets() -> int:
    """File descriptors of this process that are sockets."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that of the listing itself is gone by now
            found += str(descriptor.readlink()).startswith("socket:")
    return found


@dataclass
class Scene:
    """Machines that are served through the driver, and all that they said."""

    stage: DriverStage
    machines: Machines
    proxy: FaultProxy
    events: list[Event] = field(default_factory=list)
    versions: int = 0

    def sample(self, name: str, station: int = 0) -> Sample:
        device = self.machines.devices.get(device_name(station))
        return device.samples[name] if device else NOT_READ

    def samples(self, station: int = 0) -> dict[str, Sample]:
        return dict(self.machines.devices[device_name(station)].samples)

    def good(self, station: int = 0) -> bool:
        return all(sample.good for sample in self.samples(station).values())

    def lost(self, station: int = 0) -> bool:
        return all(s.reason == "comm_lost" for s in self.samples(station).values())

    def outcome(self, version: int) -> Outcome | None:
        told = [e for e in self.events if isinstance(e, Outcome)]
        return next((e for e in told if e.version == version), None)

    def alarm(self) -> Alarm | None:
        told = [e.alarm for e in self.events if isinstance(e, AlarmChanged)]
        return told[-1] if told else None

    def describe(self, station: int = 0) -> str:
        shown = [
            f"{name}={s.value!r} {s.quality}{f' ({s.reason}: {s.detail})' if s.reason else ''}"
            for name, s in self.samples(station).items()
        ]
        return f"{', '.join(shown)}; said last: {self.events[-3:]}"

    async def until(
        self, seen: Callable[[], object], what: str, seconds: float | None = None
    ) -> None:
        try:
            await until(seen, what, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.describe()}") from None

    async def until_good(self, station: int = 0) -> None:
        await self.until(lambda: self.good(station), f"machine {station} all good")

    async def until_reported(self, name: str, value: Value, station: int = 0) -> None:
        def seen() -> bool:
            sample = self.sample(name, station)
            return sample.good and same(sample.value, value)

        await self.until(seen, f"{name} of machine {station} is {value!r}")

    async def desire(self, name: str, value: Value, *, valid_for: float | None = None) -> int:
        """Returns the version, by which `outcome` is found."""
        self.versions += 1
        now = time.time_ns()
        until = None if valid_for is None else now + int(valid_for * 1e9)
        desire = Desire(
            device_name(0), name, value, self.versions, "contract", now, until, time.monotonic_ns()
        )
        await self.machines.handle(desire)
        return self.versions

    async def outcome_of(self, name: str, value: Value) -> Outcome:
        """Desire it and wait for what becomes of it."""
        version = await self.desire(name, value)
        await self.until(lambda: self.outcome(version), f"an answer to {name} = {value!r}")
        found = self.outcome(version)
        assert found is not None
        return found

    async def apply(self, name: str, value: Value) -> None:
        found = await self.outcome_of(name, value)
        assert found.state is DesiredState.APPLIED, f"{name} = {value!r}: {found}"


@asynccontextmanager
async def hearing(link: Link) -> AsyncIterator[None]:
    """Take what a link that speaks by itself says, as the app does, and drop it."""

    async def hear() -> None:
        if hasattr(link, "samples"):
            async for _ in cast("PushLink", link).samples():
                pass

    try:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(hear(), name="contract hears")
            yield
            task.cancel()
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


@asynccontextmanager
async def playing(
    stage: DriverStage,
    rules: Iterable[RuleInstance] = (),
    *,
    stations: int = 1,
    driver: Driver | None = None,
    settled: bool = True,
    interval: str = "",
) -> AsyncIterator[Scene]:
    """Serve the stage's machines through a FaultProxy; `settled`: once all their values are good.

    `driver` takes the place of the stage's own, e.g. one that takes notes; `interval` that of its
    traits.
    """
    bus = MemoryBus()
    store = FakeStore()
    drivers: Mapping[str, Driver] = {stage.driver.name: driver or stage.driver}
    machines = Machines(drivers, store, bus, SystemClock())
    async with FaultProxy("127.0.0.1", stage.port) as proxy:
        scene = Scene(stage, machines, proxy)
        plant = compiled(stage, proxy.port, stations=stations, interval=interval)
        async with _served(scene, bus):
            machines.start(await store.load(), plant.devices, rules)
            if settled:
                for station in range(stations):
                    await scene.until_good(station)
            yield scene


@asynccontextmanager
async def _served(scene: Scene, bus: MemoryBus) -> AsyncIterator[None]:
    """What fails within the block is raised as it is, not as a group."""
    listening = bus.subscribe()

    async def listen() -> None:
        async for batch in listening:
            scene.events += batch

    ready = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as tasks:
            served = [
                tasks.create_task(listen(), name="contract listens"),
                tasks.create_task(scene.machines.run(ready), name="contract machines"),
            ]
            await ready.wait()
            try:
                yield
            finally:
                for task in served:
                    task.cancel()
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


def _resource(kind: str, name: str, spec: Mapping[str, object]) -> dict[str, object]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
