"""All simulated machines of a plant: built from its Devices, served where they say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from twinbridge.core.model import DeviceSpec
from twinbridge.errors import InvalidInput, UnknownName
from twinbridge_simulators.background import Background
from twinbridge_simulators.faults import MACHINE_FAULTS, Fault, FaultKind
from twinbridge_simulators.faults import fault as make_fault
from twinbridge_simulators.machines.base import Machine
from twinbridge_simulators.modbus_world import ModbusWorld
from twinbridge_simulators.mqtt.world import MqttWorld
from twinbridge_simulators.opcua.world import OpcUaWorld
from twinbridge_simulators.plant import Annotations, load_devices
from twinbridge_simulators.world import Place, World

WORLDS: Mapping[str, Callable[[], World]] = {
    "modbus": ModbusWorld,
    "opcua": OpcUaWorld,
    "mqtt": MqttWorld,
}
LONGEST_STEP = 1.0
"""Seconds; a process that was held up does not make the physics leap."""


class Simulation:
    """`async with` serves every machine and lets time pass.

    `seed` makes waveforms the same in every run. Raises InvalidInput for what cannot be
    simulated, Unreachable when a port cannot be had.
    """

    def __init__(
        self,
        devices: Sequence[DeviceSpec],
        annotations: Mapping[str, Annotations] | None = None,
        seed: int = 0,
    ) -> None:
        self._worlds: dict[str, World] = {}
        self._world_of: dict[str, World] = {}
        self._machines: dict[str, Machine] = {}
        self._faults: dict[str, list[Fault]] = {}
        self._open = AsyncExitStack()
        for spec in devices:
            self._add(spec, (annotations or {}).get(spec.name, {}), Random(f"{seed}/{spec.name}"))  # noqa: S311 - a simulation is to be repeatable
        if not devices:
            raise InvalidInput("there is no Device to simulate")

    @classmethod
    def from_paths(cls, paths: Sequence[str | Path], seed: int = 0) -> Self:
        """Raises InvalidDefinition when the resources are wrong."""
        devices, annotations = load_devices(paths)
        return cls(devices, annotations, seed)

    def _add(self, spec: DeviceSpec, annotations: Annotations, random: Random) -> None:
        world = self._world(spec)
        try:
            self._machines[spec.name] = world.add(spec, annotations, random)
        except InvalidInput as error:
            raise InvalidInput(f"Device/{spec.name}: {error}") from error
        self._world_of[spec.name] = world
        self._faults[spec.name] = []

    def _world(self, spec: DeviceSpec) -> World:
        make = WORLDS.get(spec.protocol)
        if make is None:
            allowed = ", ".join(WORLDS)
            raise InvalidInput(
                f"Device/{spec.name}: {spec.protocol} cannot be simulated; allowed are {allowed}"
            )
        if spec.protocol not in self._worlds:
            self._worlds[spec.protocol] = make()
        return self._worlds[spec.protocol]

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            for protocol in [name for name in WORLDS if name in self._worlds]:
                await opening.enter_async_context(self._worlds[protocol])
            background = await opening.enter_async_context(Background())
            background.start(self._let_time_pass(), "simulated time")
            self._open = opening.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._open.__aexit__(kind, error, trace)

    async def _let_time_pass(self) -> None:
        now = asyncio.get_running_loop().time
        machines = list({id(m): m for m in self._machines.values()}.values())
        stepped = dict.fromkeys(map(id, machines), now())
        pause = min(machine.interval for machine in machines)
        while True:
            await asyncio.sleep(pause)
            at = now()
            for each in machines:
                passed = at - stepped[id(each)]
                if passed >= each.interval * 0.99:
                    stepped[id(each)] = at
                    each.step(min(passed, LONGEST_STEP))
            for world in self._worlds.values():
                await world.show()

    @property
    def names(self) -> list[str]:
        return list(self._machines)

    def machine(self, name: str) -> Machine:
        """Raises UnknownName."""
        found = self._machines.get(name)
        if found is None:
            known = ", ".join(self._machines)
            raise UnknownName(f"no simulated machine {name!r}; there are {known}")
        return found

    def place(self, name: str) -> Place:
        """Where a machine is served. Raises UnknownName."""
        self.machine(name)
        return self._world_of[name].place(name)

    def faults(self, name: str) -> list[Fault]:
        """What was injected and not cleared, also if its `times` are used up."""
        self.machine(name)
        return list(self._faults[name])

    def fault(self, name: str, fault: Fault | FaultKind) -> None:
        """Let a fault strike a machine, or the port or broker that it is behind.

        Raises UnknownName, and InvalidInput for a fault that this machine cannot have.
        """
        made, world = self.machine(name), self._world_of[name]
        if isinstance(fault, FaultKind):
            fault = make_fault(fault)
        allowed = made.possible_faults | world.wire_faults
        if fault.kind not in allowed:
            kinds = ", ".join(sorted(allowed))
            raise InvalidInput(f"{name} cannot {fault.kind}; allowed are {kinds}")
        if fault.kind in MACHINE_FAULTS:
            made.faults.add(fault.kind)
            self._faults[name].append(fault)
        elif (standing := world.strike(name, fault)) is not None:
            self._faults[name].append(standing)

    def clear(self, name: str, kind: FaultKind | None = None) -> None:
        """End a machine's faults: all, or those of one kind. Raises UnknownName."""
        made = self.machine(name)
        ending = [f for f in self._faults[name] if kind in {None, f.kind}]
        self._faults[name] = [f for f in self._faults[name] if f not in ending]
        for fault in ending:
            made.faults.discard(fault.kind)
            if fault.kind not in MACHINE_FAULTS:
                self._world_of[name].end(name, fault)

    def lines(self) -> Iterator[str]:
        """What is served where, a line per server."""
        for world in self._worlds.values():
            yield from world.lines()
