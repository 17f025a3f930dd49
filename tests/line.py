"""Machines of a line: real Modbus servers, a fault proxy before one, and the edge's own code.

Every register holds a number that tells its unit and address, so that a value that got mixed up
is seen at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from rig import Rig

from twinbridge.adapters.bus_memory import MemoryBus
from twinbridge.adapters.store_sqlite import open_store
from twinbridge.api.plant import Plant, load_plant
from twinbridge.app.clock import Clock, SystemClock
from twinbridge.app.machines import Machines
from twinbridge.cli.drivers import installed_drivers
from twinbridge.core.model import Quality, Value
from twinbridge.ports import StoredState
from twinbridge_simulators.registers import RegisterBank, Table

TEMPERATURE, RUN, SPEED = 30, 0, 40
MARKS = (0, 1, 5, 20)

MODEL = """\
apiVersion: devices.twinbridge.io/v1alpha1
kind: DeviceModel
metadata: {name: pump}
spec:
  properties:
  - {name: r0, type: int, modbus: {table: holding, address: 0, encoding: uint16}}
  - {name: r1, type: int, modbus: {table: holding, address: 1, encoding: uint16}}
  - {name: r5, type: int, modbus: {table: holding, address: 5, encoding: uint16}}
  - {name: r20, type: int, modbus: {table: holding, address: 20, encoding: uint16}}
  - {name: temperature, type: int, modbus: {table: holding, address: 30, encoding: uint16}}
  - name: speed
    type: int
    access: ReadWrite
    minimum: 0
    maximum: 100
    modbus: {table: holding, address: 40, encoding: uint16}
  - {name: run, type: bool, access: ReadWrite, modbus: {table: coil, address: 0}}
"""


def device(name: str, port: int, unit: int = 1, interval: str = "50ms", model: str = "pump") -> str:
    return f"""\
---
apiVersion: devices.twinbridge.io/v1alpha1
kind: Device
metadata: {{name: {name}}}
spec:
  modelRef: {{name: {model}}}
  nodeName: edge-1
  connection:
    modbus: {{host: 127.0.0.1, port: {port}, unit: {unit}, timeout: 150ms}}
  poll: {{interval: {interval}}}
"""


def hot_rule(name: str = "a", on: str = "") -> str:
    """Stops `name`'s pump at 85, or `on`'s when that is given."""
    target = f"device: {on}, " if on else ""
    return f"""\
---
apiVersion: devices.twinbridge.io/v1alpha1
kind: Rule
metadata: {{name: overheat}}
spec:
  nodeName: edge-1
  devices: {{name: {name}}}
  when: {{property: temperature, above: 85, deadband: 5, staleAfter: 5s, onBad: Ignore}}
  severity: critical
  message: Hot
  trip:
    write: [{{{target}property: run, value: false}}]
    verify: {{within: 500ms, retries: 1}}
  mode: Armed
"""


def bank(unit: int) -> RegisterBank:
    """A pump that runs, at 20 degrees."""
    made = RegisterBank()
    made.define(Table.HOLDING, 0, 64)
    for address in MARKS:
        made.put(Table.HOLDING, address, mark(unit, address))
    made.put(Table.HOLDING, TEMPERATURE, 20)
    made.put(Table.HOLDING, SPEED, 10)
    made.put(Table.COIL, RUN, 1)
    return made


def mark(unit: int, address: int) -> int:
    return unit * 1000 + address


def plant(folder: Path, *parts: str) -> Plant:
    """Load resources; nothing may be wrong with them."""
    folder.mkdir(exist_ok=True)
    (folder / "plant.yaml").write_text(MODEL + "".join(parts))
    loaded = load_plant([folder], installed_drivers())
    assert loaded.sound, loaded.problems
    return loaded


class Line(Rig):
    """The rig, with what tests of faults ask of it."""

    def good(self, name: str) -> bool:
        samples = self.machines.devices[name].samples.values()
        return all(s.good for s in samples)

    def lost(self, name: str) -> bool:
        samples = self.machines.devices[name].samples.values()
        return all(s.quality is Quality.BAD for s in samples)

    async def is_good(self, *names: str) -> None:
        await self.within(lambda: all(map(self.good, names)), f"{names} good")

    async def is_lost(self, name: str) -> None:
        await self.within(lambda: self.lost(name), f"{name} lost")

    async def within(self, seen: object, what: str, seconds: float = 10.0) -> None:
        """Poll until it is so; fail after `seconds`."""
        assert callable(seen)
        try:
            async with asyncio.timeout(seconds):
                while not seen():  # noqa: ASYNC110 - a machine sets no Event
                    await asyncio.sleep(0.01)
        except TimeoutError:
            states = {n: d.samples for n, d in self.machines.devices.items()}
            raise AssertionError(f"never came: {what}; {states}") from None

    def told(self, name: str) -> dict[str, set[Value | None]]:
        """Every value that was ever told of each property."""
        device = self.machines.devices[name]
        return {n: set(self.seen(name, n)) - {None} for n in device.points}

    def assert_nothing_mixed_up(self, units: Mapping[str, int]) -> None:
        for name, unit in units.items():
            told = self.told(name)
            for address in MARKS:
                assert told[f"r{address}"] <= {mark(unit, address)}, (name, told)

    def bad_told(self, name: str) -> Iterable[object]:
        """Samples of a device that were told and were not good, after its first good ones."""
        device = [
            s
            for e in self.events
            if getattr(e, "device", "") == name
            for _, s in getattr(e, "samples", ())
        ]
        first = next((i for i, s in enumerate(device) if s.good), len(device))
        return [s for s in device[first:] if not s.good]


@asynccontextmanager
async def serving(loaded: Plant, state: Path, clock: Clock | None = None) -> AsyncIterator[Line]:
    """The machines' side of an edge, with the real driver and the real store."""
    bus = MemoryBus()
    async with open_store(state) as store:
        machines = Machines(installed_drivers(), store, bus, clock or SystemClock())
        line = Line(machines, bus, store)
        listening = bus.subscribe()

        async def listen() -> None:
            async for batch in listening:
                line.events += batch

        stored: StoredState = await store.load()
        ready = asyncio.Event()
        tasks = [asyncio.create_task(listen()), asyncio.create_task(machines.run(ready))]
        await ready.wait()
        machines.start(stored, loaded.devices, loaded.instances)
        try:
            yield line
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await machines.drain()
