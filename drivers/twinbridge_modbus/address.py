"""A bound address: where a property lives on the wire, compiled, with its device's limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from pydantic import BaseModel
from typing_extensions import override

from twinbridge.core.model import PropertySpec
from twinbridge.errors import InvalidDefinition
from twinbridge_modbus.codec import Codec, compile_codec, complaints
from twinbridge_modbus.config import ModbusAddress, ModbusConnection, Table

CACHED = 4096
"""How many properties of models are kept compiled, for all the devices that share them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one device bears. `sensitive` holds (table, first, end) with the end outside."""

    max_registers: int
    max_bits: int
    max_gap: int
    sensitive: tuple[tuple[Table, int, int], ...]
    timeout: float
    mask_write: bool
    rtu: bool

    @classmethod
    def of(cls, connection: ModbusConnection) -> Limits:
        return cls(
            max_registers=connection.max_block,
            max_bits=connection.max_bits,
            max_gap=connection.max_gap,
            sensitive=tuple(
                (r.table, r.address, r.address + r.count) for r in connection.read_sensitive
            ),
            timeout=connection.timeout / 1e9,
            mask_write=connection.mask_write,
            rtu=connection.transport in ("serial", "rtuOverTcp"),
        )

    def most(self, table: Table) -> int:
        return self.max_bits if table in ("coil", "discrete") else self.max_registers


@dataclass(frozen=True, slots=True)
class BoundAddress:
    """Unit, table and zero-based wire address of a property; `count` registers or one bit."""

    unit: int
    table: Table
    address: int
    count: int
    codec: Codec
    limits: Limits
    model: ModbusAddress
    factor: tuple[Table, int] | None = None
    """Table and address of the scale-factor register."""

    @property
    def end(self) -> int:
        return self.address + self.count


class _Same:
    """Stands for the very object in a cache's key: models hold lists and have no hash."""

    __slots__ = ("model",)

    def __init__(self, model: BaseModel) -> None:
        self.model = model

    @override
    def __hash__(self) -> int:
        return id(self.model)

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.model is other.model


def address_complaints(spec: PropertySpec, address: ModbusAddress) -> Sequence[str]:
    """What is wrong between a property and its address. A model's devices share the answer."""
    return _complaints(spec, _Same(address))


@lru_cache(CACHED)
def _complaints(spec: PropertySpec, address: _Same) -> Sequence[str]:
    return tuple(complaints(spec, cast("ModbusAddress", address.model)))


@lru_cache(CACHED)
def _codec(spec: PropertySpec, address: _Same) -> Codec:
    return compile_codec(spec, cast("ModbusAddress", address.model))


@lru_cache(CACHED)
def _limits(connection: _Same) -> Limits:
    return Limits.of(cast("ModbusConnection", connection.model))


def bind_address(
    spec: PropertySpec, connection: ModbusConnection, address: ModbusAddress
) -> BoundAddress:
    """Raises InvalidDefinition for an address that `check` would have refused."""
    try:
        codec = _codec(spec, _Same(address))
    except ValueError as error:
        raise InvalidDefinition(f"{spec.name}: {error}") from error
    table, first = address.place
    limits = _limits(_Same(connection))
    if codec.count > limits.most(table):
        raise InvalidDefinition(
            f"{spec.name}: the value has {codec.count} registers, "
            f"but maxBlock allows {limits.most(table)} a request"
        )
    factor = address.scale_factor
    place = (factor.table or _register_table(table), factor.address) if factor else None
    return BoundAddress(connection.unit, table, first, codec.count, codec, limits, address, place)


def _register_table(table: Table) -> Table:
    return table if table in ("input", "holding") else "holding"


def contradiction(first: BoundAddress, second: BoundAddress) -> str | None:
    """Why two addresses of one endpoint cannot both be right, or None."""
    if first.unit != second.unit:
        return None
    return _split_group(first, second) or _clash(first, second)


def _split_group(first: BoundAddress, second: BoundAddress) -> str | None:
    group = first.model.atomic_group
    if group is None or group != second.model.atomic_group:
        return None
    if first.table != second.table:
        return f"atomicGroup {group} is in two tables: {first.table} and {second.table}"
    span = max(first.end, second.end) - min(first.address, second.address)
    most = min(first.limits.most(first.table), second.limits.most(second.table))
    if span > most:
        return f"atomicGroup {group} spans {span} addresses; one request reads at most {most}"
    return None


def _clash(first: BoundAddress, second: BoundAddress) -> str | None:
    apart = first.end <= second.address or second.end <= first.address
    if first.table != second.table or apart or first.table in ("coil", "discrete"):
        return None
    one, other = _shape(first), _shape(second)
    same_place = (first.address, first.count) == (second.address, second.count)
    parts = first.codec.partial or second.codec.partial
    if same_place and (one == other or (parts and _integers(one, other))):
        return None
    return (
        f"{first.table} {first.address} is read as {_said(first)} "
        f"and {second.table} {second.address} as {_said(second)}, which overlap"
    )


def _shape(bound: BoundAddress) -> tuple[str, str]:
    return bound.model.encoding or "uint16", bound.model.effective_order


def _integers(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Bits may be taken from any integer view of their registers, in the same order."""
    plain = ("bool", "int16", "uint16", "int32", "uint32", "int64", "uint64")
    return one[0] in plain and other[0] in plain and one[1] == other[1]


def _said(bound: BoundAddress) -> str:
    return " ".join(_shape(bound))
