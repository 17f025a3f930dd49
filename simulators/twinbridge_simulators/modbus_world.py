"""The Modbus machines of a simulation, and the servers that they share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from random import Random
from types import TracebackType
from typing import Self

from twinbridge.core.model import DeviceSpec
from twinbridge.errors import InvalidInput
from twinbridge_modbus.address import BoundAddress
from twinbridge_modbus.config import ModbusConnection
from twinbridge_simulators.faults import SERVER_FAULTS, Fault, FaultKind
from twinbridge_simulators.framing import Framing
from twinbridge_simulators.machines.base import BankMachine
from twinbridge_simulators.machines.catalog import MODBUS, modbus_machine, parse_options
from twinbridge_simulators.machines.generic import GenericMachine
from twinbridge_simulators.machines.signals import GenericOptions
from twinbridge_simulators.modbus_server import ModbusServer
from twinbridge_simulators.registers import Table
from twinbridge_simulators.world import Place

FRAMINGS = {"tcp": Framing.TCP, "rtuOverTcp": Framing.RTU}
FAULTS = frozenset(
    {
        FaultKind.EXCEPTION,
        FaultKind.SLOW,
        FaultKind.LATE,
        FaultKind.SILENT,
        FaultKind.GARBAGE,
        FaultKind.CLOSE,
        FaultKind.WRONG_TRANSACTION,
        FaultKind.WRONG_UNIT,
        FaultKind.TRUNCATED,
        FaultKind.STUCK,
        *SERVER_FAULTS,
    }
)


class ModbusWorld:
    """Fills `twinbridge_simulators.world.World`."""

    wire_faults = FAULTS

    def __init__(self) -> None:
        self.servers: list[ModbusServer] = []
        self._server_of: dict[str, ModbusServer] = {}
        self._specs: dict[str, DeviceSpec] = {}
        self._units: dict[str, int] = {}
        self._machines: dict[str, BankMachine] = {}
        self._open = AsyncExitStack()

    def add(self, spec: DeviceSpec, notes: Mapping[str, str], random: Random) -> BankMachine:
        connection = spec.connection
        if not isinstance(connection, ModbusConnection):
            raise TypeError(f"Device/{spec.name} is no Modbus device")
        server = self._server(connection)
        self._server_of[spec.name] = server
        self._specs[spec.name] = spec
        self._units[spec.name] = connection.unit
        made = self._machine_for(spec, notes, random)
        self._machines[spec.name] = made
        server.units[connection.unit] = made.bank
        return made

    def _machine_for(
        self, spec: DeviceSpec, notes: Mapping[str, str], random: Random
    ) -> BankMachine:
        """Two Devices on one unit are two views of one machine; only one may choose it."""
        options = parse_options(MODBUS, notes)
        standing = self._standing(spec.name)
        if isinstance(options, GenericOptions):
            if standing and not isinstance(standing, GenericMachine):
                return standing
            bank = standing.bank if standing else None
            return GenericMachine(spec.points, options, bank=bank, random=random)
        if standing:
            unit, server = self._units[spec.name], self._server_of[spec.name]
            raise InvalidInput(f"unit {unit} at {server.host}:{server.port} is already simulated")
        return modbus_machine(options)

    def _standing(self, device: str) -> BankMachine | None:
        """The machine that another Device has put at this one's server and unit."""
        place = self._server_of[device], self._units[device]
        for name, made in self._machines.items():
            if (self._server_of[name], self._units[name]) == place:
                return made
        return None

    def _server(self, connection: ModbusConnection) -> ModbusServer:
        """The server at the connection's address; devices behind one address share it."""
        framing = FRAMINGS.get(connection.transport)
        if framing is None or connection.host is None:
            raise InvalidInput(
                f"transport {connection.transport} cannot be simulated; "
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
            self._open = opening.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._open.__aexit__(kind, error, trace)

    def server(self, name: str) -> ModbusServer:
        return self._server_of[name]

    def place(self, name: str) -> Place:
        server = self._server_of[name]
        return Place(server.host, server.port)

    def strike(self, name: str, fault: Fault) -> Fault | None:
        """A fault strikes the unit of its machine, unless it concerns the port."""
        fault = self._placed(name, fault)
        if fault.kind is FaultKind.STUCK:
            self._machines[name].bank.freeze(fault.table, fault.address)
        else:
            self._server_of[name].inject(fault)
        return fault

    def _placed(self, name: str, fault: Fault) -> Fault:
        unit = None if fault.kind in SERVER_FAULTS else self._units[name]
        where: dict[str, object] = {"unit": unit}
        if fault.of is not None:
            address = self._address(name, fault.of)
            where |= {"table": Table(address.table), "address": address.address}
        return fault.model_copy(update=where)

    def _address(self, name: str, wanted: str) -> BoundAddress:
        spec = self._specs[name]
        point = spec.point(wanted)
        if point is None or not isinstance(point.address, BoundAddress):
            known = ", ".join(p.spec.name for p in spec.points)
            raise InvalidInput(f"{name} has no property {wanted!r}; allowed are {known}")
        return point.address

    def end(self, name: str, fault: Fault) -> None:
        if fault.kind is FaultKind.STUCK:
            self._machines[name].bank.thaw()
        else:
            self._server_of[name].clear(fault)

    async def show(self) -> None:
        """The banks hold what the machines show."""

    def lines(self) -> Iterator[str]:
        for server in self.servers:
            names = [name for name, its in self._server_of.items() if its is server]
            yield f"modbus {server.host}:{server.port}: {', '.join(names)}"
