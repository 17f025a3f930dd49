"""All simulated machines of a plant: built from its Devices, served on the ports they name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from twinbridge.core.model import DeviceSpec
from twinbridge.errors import InvalidInput, UnknownName
from twinbridge_modbus.config import ModbusConnection
from twinbridge_simulators.background import Background
from twinbridge_simulators.faults import MACHINE_FAULTS, SERVER_FAULTS, Fault, FaultKind
from twinbridge_simulators.faults import fault as make_fault
from twinbridge_simulators.framing import Framing
from twinbridge_simulators.machines.base import Machine
from twinbridge_simulators.machines.catalog import GENERIC, machine, parse_options
from twinbridge_simulators.machines.generic import GenericMachine, GenericOptions
from twinbridge_simulators.modbus_server import ModbusServer
from twinbridge_simulators.plant import Annotations, load_devices

MACHINE_ANNOTATION = "simulator.twinbridge.io/machine"
OPTIONS_ANNOTATION = "simulator.twinbridge.io/options"
FRAMINGS = {"tcp": Framing.TCP, "rtuOverTcp": Framing.RTU}
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
        self._machines: dict[str, Machine] = {}
        self._server_of: dict[str, ModbusServer] = {}
        self._units: dict[str, int] = {}
        self._faults: dict[str, list[Fault]] = {}
        self._open = AsyncExitStack()
        self.servers: list[ModbusServer] = []
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
        connection = spec.connection
        if not isinstance(connection, ModbusConnection):
            raise InvalidInput(f"Device/{spec.name}: only modbus can be simulated")
        server = self._server(spec.name, connection)
        self._server_of[spec.name] = server
        self._units[spec.name] = connection.unit
        try:
            made = self._machine_for(spec, annotations, random)
        except InvalidInput as error:
            raise InvalidInput(f"Device/{spec.name}: annotations: {error}") from error
        self._machines[spec.name] = made
        server.units[connection.unit] = made.bank
        self._faults[spec.name] = []

    def _machine_for(self, spec: DeviceSpec, annotations: Annotations, random: Random) -> Machine:
        """Two Devices on one unit are two views of one machine; only one may choose it."""
        options = parse_options(
            annotations.get(MACHINE_ANNOTATION, GENERIC), annotations.get(OPTIONS_ANNOTATION, "")
        )
        standing = self._standing(spec.name)
        if isinstance(options, GenericOptions):
            if standing and not isinstance(standing, GenericMachine):
                return standing
            bank = standing.bank if standing else None
            return GenericMachine(spec.points, options, bank=bank, random=random)
        if standing:
            unit, server = self._units[spec.name], self._server_of[spec.name]
            raise InvalidInput(f"unit {unit} at {server.host}:{server.port} is already simulated")
        return machine(options)

    def _standing(self, device: str) -> Machine | None:
        """The machine that another Device has put at this one's server and unit."""
        place = self._server_of[device], self._units[device]
        for name, made in self._machines.items():
            if (self._server_of[name], self._units[name]) == place:
                return made
        return None

    def _server(self, device: str, connection: ModbusConnection) -> ModbusServer:
        """The server at the connection's address; devices behind one address share it."""
        framing = FRAMINGS.get(connection.transport)
        if framing is None or connection.host is None:
            raise InvalidInput(
                f"Device/{device}: transport {connection.transport} cannot be simulated; "
                f"allowed are {', '.join(FRAMINGS)}"
            )
        for server in self.servers:
            if (server.host, server.port) == (connection.host, connection.effective_port):
                return server
        server = ModbusServer(connection.host, connection.effective_port, {}, framing)
        self.servers.append(server)
        return server

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            for server in self.servers:
                await opening.enter_async_context(server)
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

    def server(self, name: str) -> ModbusServer:
        """The server behind which a machine is. Raises UnknownName."""
        self.machine(name)
        return self._server_of[name]

    def faults(self, name: str) -> list[Fault]:
        """What was injected and not cleared, also if its `times` are used up."""
        self.machine(name)
        return list(self._faults[name])

    def fault(self, name: str, fault: Fault | FaultKind) -> None:
        """Let a fault strike a machine; REFUSE, ONE_CLIENT and HALF_OPEN strike its whole port.

        Raises UnknownName, and InvalidInput for a fault that this machine cannot have.
        """
        made = self.machine(name)
        if isinstance(fault, FaultKind):
            fault = make_fault(fault)
        if fault.kind in MACHINE_FAULTS - made.possible_faults:
            allowed = sorted(set(FaultKind) - (MACHINE_FAULTS - made.possible_faults))
            raise InvalidInput(f"{name} cannot {fault.kind}; allowed are {', '.join(allowed)}")
        placed = self._placed(name, fault)
        self._faults[name].append(placed)
        if placed.kind in MACHINE_FAULTS:
            made.faults.add(placed.kind)
        elif placed.kind is FaultKind.STUCK:
            made.bank.freeze(placed.table, placed.address)
        else:
            self._server_of[name].inject(placed)

    def _placed(self, name: str, fault: Fault) -> Fault:
        """A fault strikes the unit of its machine, unless it concerns the port."""
        unit = None if fault.kind in SERVER_FAULTS else self._units[name]
        return fault.model_copy(update={"unit": unit})

    def clear(self, name: str, kind: FaultKind | None = None) -> None:
        """End a machine's faults: all, or those of one kind. Raises UnknownName."""
        made = self.machine(name)
        ending = [f for f in self._faults[name] if kind in {None, f.kind}]
        self._faults[name] = [f for f in self._faults[name] if f not in ending]
        for fault in ending:
            made.faults.discard(fault.kind)
            if fault.kind is FaultKind.STUCK:
                made.bank.thaw()
            elif fault.kind not in MACHINE_FAULTS:
                self._server_of[name].clear(fault)

    def lines(self) -> Iterator[str]:
        """What is served where, a line per server."""
        for server in self.servers:
            names = [name for name, its in self._server_of.items() if its is server]
            yield f"modbus {server.host}:{server.port}: {', '.join(names)}"
