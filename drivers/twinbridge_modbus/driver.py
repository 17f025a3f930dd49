"""The driver as the command finds it. Importing it loads no client library."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from pydantic import BaseModel

from twinbridge.core.model import Point, PropertySpec
from twinbridge.ports import Link, PlannedRead
from twinbridge_modbus.address import (
    BoundAddress,
    address_complaints,
    bind_address,
    contradiction,
)
from twinbridge_modbus.config import ModbusAddress, ModbusConnection
from twinbridge_modbus.plan import plan_blocks


class ModbusDriver:
    """Fills `twinbridge.ports.Driver`."""

    name = "modbus"
    connection_model: type[BaseModel] = ModbusConnection
    address_model: type[BaseModel] = ModbusAddress

    def check(self, spec: PropertySpec, address: BaseModel) -> Iterable[str]:
        return address_complaints(spec, _address(address))

    def overlap(self, first: object, second: object) -> str | None:
        if not isinstance(first, BoundAddress) or not isinstance(second, BoundAddress):
            raise TypeError("overlap compares bound Modbus addresses")
        return contradiction(first, second)

    def bind(self, spec: PropertySpec, connection: BaseModel, address: BaseModel) -> object:
        return bind_address(spec, _connection(connection), _address(address))

    def endpoint(self, connection: BaseModel) -> str:
        """`modbus-tcp://10.0.0.5:502`; with several connections the units are dealt out: `…#1`."""
        modbus = _connection(connection)
        if modbus.serial is not None:
            return f"modbus-serial://{modbus.serial.device}"
        scheme = {"rtuOverTcp": "modbus-rtu"}.get(modbus.transport, f"modbus-{modbus.transport}")
        host = f"[{modbus.host}]" if modbus.host and ":" in modbus.host else modbus.host
        whole = f"{scheme}://{host}:{modbus.effective_port}"
        if modbus.max_connections == 1:
            return whole
        return f"{whole}#{modbus.unit % modbus.max_connections}"

    def unit(self, connection: BaseModel) -> str:
        return str(_connection(connection).unit)

    def outline(self, points: Sequence[Point]) -> Sequence[PlannedRead]:
        return [
            PlannedRead(
                f"unit {b.unit} {b.table} {b.address}..{b.end - 1}",
                b.points,
                b.request_bytes,
                b.response_bytes,
            )
            for b in plan_blocks(points)
        ]

    def request_timeout(self, connection: BaseModel) -> int:
        """After a silence the socket is replaced first; a paced link also waits its pause."""
        modbus = _connection(connection)
        return 2 * modbus.timeout + modbus.delay_after_connect + modbus.inter_request_delay

    def capacity(self, connection: BaseModel) -> float | None:
        """A serial character is a start bit, 8 data bits, parity or not, and the stop bits."""
        line = _connection(connection).serial
        if line is None:
            return None
        return line.baudrate / (9 + (line.parity != "none") + line.stopbits)

    @asynccontextmanager
    async def open(self, connection: BaseModel) -> AsyncIterator[Link]:
        """Raises LinkLost when the endpoint cannot be reached within the connection's timeout."""
        from twinbridge_modbus.link import open_link  # noqa: PLC0415 - loads the client library

        async with open_link(_connection(connection), self.endpoint(connection)) as link:
            yield link


def _connection(model: BaseModel) -> ModbusConnection:
    if not isinstance(model, ModbusConnection):
        raise TypeError(f"{type(model).__name__} is no Modbus connection")
    return model


def _address(model: BaseModel) -> ModbusAddress:
    if not isinstance(model, ModbusAddress):
        raise TypeError(f"{type(model).__name__} is no Modbus address")
    return model


driver = ModbusDriver()
