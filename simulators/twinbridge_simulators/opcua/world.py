"""The OPC UA machines of a simulation, and the servers that they share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from twinbridge.core.model import DeviceSpec
from twinbridge.errors import InvalidInput
from twinbridge_opcua.config import DEFAULT_PORT, OpcUaConnection
from twinbridge_simulators.faults import Fault, FaultKind
from twinbridge_simulators.machines.boiler import Boiler, BoilerOptions
from twinbridge_simulators.machines.catalog import OPCUA, parse_options
from twinbridge_simulators.machines.signals import GenericOptions
from twinbridge_simulators.machines.valued import GenericValues, ValueMachine
from twinbridge_simulators.opcua.boiler_space import add_boiler
from twinbridge_simulators.opcua.variables import Nodes
from twinbridge_simulators.world import Place

if TYPE_CHECKING:
    from twinbridge_simulators.opcua.server import OpcUaServer

FAULTS = frozenset(
    {
        FaultKind.SILENT,
        FaultKind.REFUSE,
        FaultKind.CLOSE,
        FaultKind.BAD_STATUS,
        FaultKind.STUCK,
        FaultKind.DELETE_NODE,
        FaultKind.RESTART,
    }
)
OF_SERVER = frozenset({FaultKind.SILENT, FaultKind.REFUSE, FaultKind.CLOSE, FaultKind.RESTART})


class Site:
    """What one server has: the nodes of its Devices, and its boilers by name."""

    def __init__(self, host: str, port: int, path: str) -> None:
        self.host = host
        self.port = port
        self.path = path
        self.devices: list[str] = []
        self.nodes = Nodes()
        self.boilers: dict[str, Boiler] = {}
        self.users: dict[str, str] = {}
        self.server: OpcUaServer | None = None


class OpcUaWorld:
    """Fills `twinbridge_simulators.world.World`."""

    wire_faults = FAULTS

    def __init__(self) -> None:
        self._sites: list[Site] = []
        self._site_of: dict[str, Site] = {}
        self._open = AsyncExitStack()

    def add(self, spec: DeviceSpec, notes: Mapping[str, str], random: Random) -> ValueMachine:
        connection = spec.connection
        if not isinstance(connection, OpcUaConnection):
            raise TypeError(f"Device/{spec.name} is no OPC UA device")
        options = parse_options(OPCUA, notes)
        site = self._site(connection)
        if isinstance(options, BoilerOptions):
            boiler = _boiler(site, options)
            rest = [point for point in spec.points if point.spec.name not in boiler.values]
            others = GenericValues(rest, GenericOptions(properties={}), random)
            machines: list[ValueMachine] = [boiler, others]
        elif isinstance(options, GenericOptions):
            machines = [GenericValues(spec.points, options, random)]
        else:
            raise TypeError(f"{type(options).__name__} are the options of no OPC UA machine")
        self._site_of[spec.name] = site
        site.devices.append(spec.name)
        site.nodes.add(spec, machines)
        return machines[0]

    def _site(self, connection: OpcUaConnection) -> Site:
        parts = urlsplit(connection.url)
        host, port = parts.hostname or "", parts.port or DEFAULT_PORT
        for site in self._sites:
            if (site.host, site.port) == (host, port):
                return site
        site = Site(host, port, parts.path)
        self._sites.append(site)
        return site

    async def __aenter__(self) -> Self:
        try:
            from twinbridge_simulators.opcua.server import (  # noqa: PLC0415 - loads the library
                OpcUaServer,
            )
        except ModuleNotFoundError as error:
            raise InvalidInput(
                f"an OPC UA server cannot be simulated without {error.name}: "
                "install twinbridge[opcua]"
            ) from error
        async with AsyncExitStack() as opening:
            for site in self._sites:
                site.server = await opening.enter_async_context(OpcUaServer(site))
            self._open = opening.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._open.__aexit__(kind, error, trace)

    def place(self, name: str) -> Place:
        site = self._site_of[name]
        return Place(site.host, site.server.gate.port if site.server else site.port)

    def strike(self, name: str, fault: Fault) -> Fault | None:
        server = self._server(name)
        if fault.kind in OF_SERVER:
            return fault if server.strike(fault) else None
        server.strike_nodes(fault, self._places(name, fault))
        return fault

    def end(self, name: str, fault: Fault) -> None:
        server = self._server(name)
        if fault.kind in OF_SERVER:
            server.end(fault)
        else:
            server.end_nodes(fault, self._places(name, fault))

    def _server(self, name: str) -> OpcUaServer:
        server = self._site_of[name].server
        if server is None:
            raise InvalidInput(f"{name} is not served yet; no fault can strike it")
        return server

    def _places(self, name: str, fault: Fault) -> list[str]:
        """The nodes that a fault concerns. Raises InvalidInput for an unknown property."""
        known = self._site_of[name].nodes.of_property
        mine = {wanted: place for (device, wanted), place in known.items() if device == name}
        if fault.of is None:
            return list(mine.values())
        if fault.of not in mine:
            raise InvalidInput(
                f"{name} has no property {fault.of!r}; allowed are {', '.join(mine)}"
            )
        return [mine[fault.of]]

    async def show(self) -> None:
        for site in self._sites:
            if site.server is not None:
                await site.server.show()

    def lines(self) -> Iterator[str]:
        for site in self._sites:
            port = site.server.gate.port if site.server else site.port
            yield f"opcua {site.host}:{port}: {', '.join(site.devices)}"


def _boiler(site: Site, options: BoilerOptions) -> Boiler:
    if options.name in site.boilers:
        raise InvalidInput(
            f"a boiler {options.name!r} is already simulated at {site.host}:{site.port}; "
            "give this one another name"
        )
    boiler = site.boilers[options.name] = Boiler(options)
    add_boiler(site.nodes, options.name, boiler)
    site.users.update(options.users)
    return boiler
