"""The driver as the command finds it. Importing it loads no client library."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from pydantic import BaseModel

from twinbridge.core.model import Point, PropertySpec
from twinbridge.ports import PlannedRead, PushLink
from twinbridge_opcua.address import BoundAddress, bind_address, bound, complaints
from twinbridge_opcua.config import OpcUaAddress, OpcUaConnection
from twinbridge_opcua.plan import AT_ONCE, arrange

_HEADER_BYTES = 60
_NODE_BYTES = 40
_VALUE_BYTES = 30
"""About: what a request, a node in it and a value in its answer take on the wire."""


class OpcUaDriver:
    """Fills `twinbridge.ports.Driver`."""

    name = "opcua"
    connection_model: type[BaseModel] = OpcUaConnection
    address_model: type[BaseModel] = OpcUaAddress

    def check(self, spec: PropertySpec, address: BaseModel) -> Iterable[str]:
        return complaints(spec, _address(address))

    def overlap(self, first: object, second: object) -> str | None:
        """Any number of properties may show one node."""
        if not isinstance(first, BoundAddress) or not isinstance(second, BoundAddress):
            raise TypeError("overlap compares bound OPC UA addresses")
        return None

    def bind(self, spec: PropertySpec, connection: BaseModel, address: BaseModel) -> object:
        return bind_address(spec, _connection(connection), _address(address))

    def endpoint(self, connection: BaseModel) -> str:
        """`opcua://10.0.0.5:4840/path`; one for each user and security."""
        opcua = _connection(connection)
        parts: list[str] = []
        if opcua.security is not None:
            parts += [opcua.security.policy, opcua.security.mode]
        if opcua.user is not None:
            parts.append(opcua.user.name)
        elif opcua.user_certificate is not None:
            parts.append(opcua.user_certificate.certificate)
        return f"opcua://{opcua.where}" + "".join(f"#{part}" for part in parts)

    def unit(self, connection: BaseModel) -> str:
        del connection
        return ""

    def outline(self, points: Sequence[Point]) -> Sequence[PlannedRead]:
        """What is subscribed counts as one answer per publication, with all of it changed."""
        return [
            PlannedRead(
                ("subscription of " if request.pushed else "read of ")
                + f"{len(request.points)} nodes, {bound(request.points[0]).place}",
                request.points,
                _HEADER_BYTES + (0 if request.pushed else _NODE_BYTES * len(request.points)),
                _HEADER_BYTES + _VALUE_BYTES * len(request.points),
            )
            for request in arrange(points, frozenset(), AT_ONCE)
        ]

    def request_timeout(self, connection: BaseModel) -> int:
        return _connection(connection).timeout

    def capacity(self, connection: BaseModel) -> float | None:
        del connection
        return None

    @asynccontextmanager
    async def open(self, connection: BaseModel) -> AsyncIterator[PushLink]:
        """Raises LinkLost when there is no session within a few timeouts."""
        from twinbridge_opcua.link import open_link  # noqa: PLC0415 - loads the client library

        async with open_link(_connection(connection), self.endpoint(connection)) as link:
            yield link


def _connection(model: BaseModel) -> OpcUaConnection:
    if not isinstance(model, OpcUaConnection):
        raise TypeError(f"{type(model).__name__} is no OPC UA connection")
    return model


def _address(model: BaseModel) -> OpcUaAddress:
    if not isinstance(model, OpcUaAddress):
        raise TypeError(f"{type(model).__name__} is no OPC UA address")
    return model


driver = OpcUaDriver()
