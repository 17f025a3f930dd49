"""A node as the link wants it: checked against its property, with the connection's ways."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from twinbridge.core.model import Point, PropertySpec, ValueType
from twinbridge_opcua.config import OpcUaAddress, OpcUaConnection
from twinbridge_opcua.nodes import NodeName, parse_node, parse_path


@dataclass(frozen=True, slots=True)
class BrowsePath:
    """Names from the Objects folder on, all in one namespace."""

    names: tuple[str, ...]
    uri: str

    def __str__(self) -> str:
        return "/".join(self.names)


@dataclass(frozen=True, slots=True, eq=False)
class BoundAddress:
    """`place` is None for what is only written, by a method."""

    model: OpcUaAddress
    place: NodeName | BrowsePath | None
    subscribe: bool
    publishing: int
    queue: int


def bound(point: Point) -> BoundAddress:
    if not isinstance(point.address, BoundAddress):
        raise TypeError(f"{point.ref} belongs to another driver")
    return point.address


def bind_address(
    spec: PropertySpec, connection: OpcUaConnection, address: OpcUaAddress
) -> BoundAddress:
    """Raises ValueError where the property and its address do not fit."""
    for complaint in complaints(spec, address):
        raise ValueError(complaint)
    return BoundAddress(
        address,
        _place(address),
        connection.mode == "subscribe",
        connection.publishing_interval,
        connection.queue_size,
    )


def _place(address: OpcUaAddress) -> NodeName | BrowsePath | None:
    if address.node is not None:
        return parse_node(address.node)
    if address.path is not None:
        return BrowsePath(parse_path(address.path), address.namespace or "")
    return None


def complaints(spec: PropertySpec, address: OpcUaAddress) -> Iterable[str]:
    """What is wrong between a property and its address, a sentence each."""
    numeric = spec.type in (ValueType.INT, ValueType.FLOAT)
    if (address.scale is not None or address.offset) and not numeric:
        yield f"scale and offset are for numbers, and {spec.name} is a {spec.type}"
    if address.deadband is not None and not numeric:
        yield f"a deadband is for numbers, and {spec.name} is a {spec.type}"
    if address.labels is not None and spec.type is not ValueType.STRING:
        yield f"labels name numbers for a string, and {spec.name} is a {spec.type}"
    if address.labels is not None and len(set(address.labels.values())) < len(address.labels):
        yield "two labels are the same; one could not be written"
    if spec.access.readable and address.node is None and address.path is None:
        yield f"{spec.name} is {spec.access}, so it needs node or path; a method is only called"
    if address.method is not None and not spec.access.writable:
        yield f"{spec.name} is {spec.access}; a method is called when a property is written"
