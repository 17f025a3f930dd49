"""One simulated OPC UA server: open and secured endpoints, nodes that show machines, faults."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Self, TypeAlias

from asyncua import ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.internal_server import InternalServer
from asyncua.server.server import Server
from asyncua.server.user_managers import UserManager
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes
from typing_extensions import override

from twinbridge.errors import InvalidInput
from twinbridge_simulators.background import Background
from twinbridge_simulators.faults import Fault, FaultKind
from twinbridge_simulators.opcua.certificate import self_signed
from twinbridge_simulators.opcua.gate import Gate
from twinbridge_simulators.opcua.space import HighPressure, Space
from twinbridge_simulators.opcua.terms import TYPES, data_value, stamped, standard, status
from twinbridge_simulators.opcua.variables import Variable
from twinbridge_simulators.opcua.world import Site

Write: TypeAlias = Callable[[ua.NodeId, AttributeIds, ua.DataValue], Awaitable[ua.StatusCode]]
Shown: TypeAlias = tuple[object, int]
"""A raw value and the status code that it is shown with."""

LIMITS = {
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead: 200,
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerWrite: 100,
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerMethodCall: 20,
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse: 100,
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall: 200,
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerTranslateBrowsePathsToNodeIds: 100,  # noqa: E501 - the name
}
SOON_CLOSED = 1.0
"""Seconds that connections may take to end."""


class OpcUaServer:
    """`async with` serves a site. Raises Unreachable when its port cannot be had."""

    def __init__(self, site: Site) -> None:
        self.gate = Gate(site.host, site.port)
        self._site = site
        self._uri = f"urn:twinbridge:simulator:{site.host}:{site.port}"
        self._identity = self_signed(self._uri, site.host)
        self._background = Background()
        self._server: Server | None = None
        self._plain_write: Write
        self._space: Space
        self._events: list[HighPressure] = []
        self._ids: dict[str, ua.NodeId] = {}
        self._variable_of: dict[ua.NodeId, str] = {}
        self._shown: dict[str, Shown] = {}
        self._stuck: set[str] = set()
        self._status: dict[str, int] = {}
        self._deleted: set[str] = set()
        self._starts = 0

    async def __aenter__(self) -> Self:
        for noisy in ("asyncua.server", "asyncua.crypto"):
            logging.getLogger(noisy).setLevel(logging.CRITICAL)
        await self.gate.__aenter__()
        try:
            await self._start()
        except BaseException:
            await self.gate.__aexit__(None, None, None)
            raise
        await self._background.__aenter__()
        self._background.start(self._clock(), "simulated server's clock")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.gate.__aexit__(None, None, None)
        try:
            await self._background.__aexit__(kind, error, trace)
        finally:
            await self._stop()

    async def _start(self) -> None:
        """Each start numbers the namespaces in another way."""
        users = _Users(self._site.users)
        server = Server(InternalServer(user_manager=users))
        await server.init()
        await server.set_application_uri(self._uri)
        server.set_server_name("TwinBridge simulator")
        server.set_endpoint(f"opc.tcp://{_host(self.gate.host)}:{self.gate.port}{self._site.path}")
        server.socket_address = ("127.0.0.1", 0)
        server.set_match_discovery_client_ip(False)
        server.iserver.disabled_clock = True  # it is slow to stop; see `_clock`
        server.iserver.certificate, server.iserver.private_key = self._identity
        if self._site.users:
            server.set_identity_tokens([ua.UserNameIdentityToken])
        for node, limit in LIMITS.items():
            await server.get_node(node).write_value(ua.Variant(limit, ua.VariantType.UInt32))
        for number in range(self._starts):
            await server.register_namespace(f"urn:twinbridge:simulator:other:{number}")
        self._starts += 1
        await self._fill(server)
        await server.start()
        if server.bserver is None:
            raise RuntimeError("the server has no port")
        self.gate.target = server.bserver.port
        self._server = server

    async def _fill(self, server: Server) -> None:
        aspace = server.iserver.aspace
        self._plain_write = aspace.write_attribute_value
        aspace.write_attribute_value = self._client_writes  # type: ignore[method-assign, assignment]  # a setter could refuse only the whole request
        self._space = Space(server)
        self._ids, self._variable_of, self._shown = {}, {}, {}
        self._events = [
            await self._space.add_boiler(name, boiler)
            for name, boiler in self._site.boilers.items()
        ]
        for key in self._site.nodes.variables:
            await self._add(key)
        for call in self._site.nodes.calls.values():
            await self._space.add_call(call)

    async def _add(self, key: str) -> None:
        variable = self._site.nodes.variables[key]
        raw = variable.raw
        self._ids[key] = node = await self._space.add_variable(variable, raw)
        self._variable_of[node] = key
        await self._write(key, variable, raw)

    async def _stop(self) -> None:
        server, self._server = self._server, None
        if server is None or server.bserver is None:
            return
        for session in tuple(server.iserver._external_sessions.values()):  # noqa: SLF001 - it would leave their tasks behind
            await session.close_session()
        for transport in tuple(server.iserver.asyncio_transports):
            transport.abort()
        with suppress(TimeoutError):
            async with asyncio.timeout(SOON_CLOSED):
                while server.bserver.clients or server.iserver.asyncio_transports:  # noqa: ASYNC110 - it sets no Event
                    await asyncio.sleep(0)
        await server.stop()

    async def _clock(self) -> None:
        """CurrentTime, which clients watch, once a second."""
        node = standard(ObjectIds.Server_ServerStatus_CurrentTime)
        while True:
            if self._server is not None:
                now = datetime.now(UTC)
                value = data_value(ua.Variant(now, ua.VariantType.DateTime), now)
                await self._plain_write(node, AttributeIds.Value, value)
            await asyncio.sleep(1)

    async def show(self) -> None:
        """Bring the nodes up to date with the machines and the faults."""
        if self._server is None:
            return
        await self._delete_and_add(self._server)
        for key, variable in self._site.nodes.variables.items():
            if key in self._stuck or key not in self._ids:
                continue
            raw = variable.raw
            if (raw, self._status.get(key, 0)) != self._shown.get(key):
                await self._write(key, variable, raw)
        for event in self._events:
            await event.tell()

    async def _write(self, key: str, variable: Variable, raw: object) -> None:
        code = self._status.get(key, 0)
        value = data_value(ua.Variant(raw, TYPES[variable.kind]), datetime.now(UTC), code)
        self._shown[key] = raw, code
        await self._plain_write(self._ids[key], AttributeIds.Value, value)

    async def _delete_and_add(self, server: Server) -> None:
        for key in self._deleted & self._ids.keys():
            node = self._ids.pop(key)
            del self._variable_of[node]
            await server.delete_nodes([server.get_node(node)], recursive=True)
        for key in self._site.nodes.variables.keys() - self._deleted - self._ids.keys():
            await self._add(key)

    async def _client_writes(
        self, node: ua.NodeId, attribute: AttributeIds, value: ua.DataValue
    ) -> ua.StatusCode:
        """What a client writes goes to the machine first, which may refuse it."""
        key = self._variable_of.get(node)
        if key is None or attribute != AttributeIds.Value or value.Value is None:
            return await self._plain_write(node, attribute, value)
        variable = self._site.nodes.variables[key]
        if value.Value.VariantType != TYPES[variable.kind]:
            return status(StatusCodes.BadTypeMismatch)
        try:
            variable.write(value.Value.Value)
        except InvalidInput:
            return status(StatusCodes.BadOutOfRange)
        if key in self._stuck:
            return status(0)
        self._shown[key] = value.Value.Value, 0
        return await self._plain_write(node, attribute, stamped(value, datetime.now(UTC)))

    def strike(self, fault: Fault) -> bool:
        """A fault of the whole server; whether it stands."""
        match fault.kind:
            case FaultKind.SILENT:
                self.gate.silence(on=True)
            case FaultKind.REFUSE:
                self.gate.close()
            case FaultKind.CLOSE:
                self.gate.drop()
            case _:
                self.gate.close()
                self._background.start(self._restart(fault.seconds), "simulated restart")
        return fault.kind in {FaultKind.SILENT, FaultKind.REFUSE}

    def end(self, fault: Fault) -> None:
        if fault.kind is FaultKind.SILENT:
            self.gate.silence(on=False)
        else:
            self.gate.open_again()

    async def _restart(self, pause: float) -> None:
        await self._stop()
        await asyncio.sleep(pause)
        await self._start()
        self.gate.open_again()

    def strike_nodes(self, fault: Fault, places: Sequence[str]) -> None:
        """A fault of some nodes."""
        if fault.kind is FaultKind.STUCK:
            self._stuck.update(places)
        elif fault.kind is FaultKind.DELETE_NODE:
            self._deleted.update(places)
        else:
            self._status.update(dict.fromkeys(places, _status(fault.status)))

    def end_nodes(self, fault: Fault, places: Sequence[str]) -> None:
        self._stuck.difference_update(places if fault.kind is FaultKind.STUCK else ())
        self._deleted.difference_update(places if fault.kind is FaultKind.DELETE_NODE else ())
        for place in places if fault.kind is FaultKind.BAD_STATUS else ():
            self._status.pop(place, None)


class _Users(UserManager):
    """Anybody, or those that have a password."""

    def __init__(self, passwords: dict[str, str]) -> None:
        self._passwords = passwords

    @override
    def get_user(
        self,
        iserver: InternalServer,
        username: str | None = None,
        password: str | None = None,
        certificate: object = None,
    ) -> User | None:
        if self._passwords and (
            username not in self._passwords or self._passwords[username] != password
        ):
            return None
        return User(role=UserRole.User, name=username)


def _status(name: str) -> int:
    """Raises InvalidInput."""
    code = getattr(StatusCodes, name, None)
    if not isinstance(code, int):
        raise InvalidInput(
            f"status {name!r} is none of OPC UA, such as BadDeviceFailure or "
            "UncertainLastUsableValue"
        )
    return code


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
