"""What the nodes of a server show: which machine's value, and as what. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from twinbridge.core.model import DeviceSpec, Point, Value, ValueType
from twinbridge.errors import InvalidInput
from twinbridge_opcua.address import BoundAddress, BrowsePath, bound
from twinbridge_opcua.config import OpcUaAddress
from twinbridge_opcua.nodes import BASE, NodeName, parse_node
from twinbridge_simulators.machines.valued import ValueMachine

Place: TypeAlias = NodeName | BrowsePath
INT32 = 2**31


@dataclass(slots=True)
class Element:
    """A value of a machine, at an index of an array or as the whole node."""

    machine: ValueMachine
    name: str
    type: ValueType
    model: OpcUaAddress = field(default_factory=lambda: OpcUaAddress(node="i=0"))

    @property
    def raw(self) -> Value:
        """As the node has it: the number that a label names, or unscaled."""
        value = self.machine.values[self.name]
        if self.model.labels:
            numbers = {label: number for number, label in self.model.labels.items()}
            return numbers.get(str(value), next(iter(self.model.labels)))
        if isinstance(value, bool | str):
            return value
        unscaled = (value - self.model.offset) / (self.model.scale or 1.0)
        return round(unscaled) if self.kind is ValueType.INT else float(unscaled)

    @property
    def kind(self) -> ValueType:
        """Of the node. A scaled number is a whole one on the wire if the property is."""
        return ValueType.INT if self.model.labels else self.type

    def write(self, raw: Value) -> None:
        """Raises InvalidInput when the machine does not take it."""
        labels = self.model.labels
        if labels:
            if raw not in labels:
                allowed = ", ".join(map(str, labels))
                raise InvalidInput(f"{self.name}: {raw!r}; allowed are {allowed}")
            self.machine.write(self.name, labels[int(raw)])
        elif isinstance(raw, bool | str):
            self.machine.write(self.name, raw)
        else:
            value = raw * (self.model.scale or 1.0) + self.model.offset
            self.machine.write(self.name, round(value) if self.type is ValueType.INT else value)


@dataclass(slots=True)
class Variable:
    """A node with a value. `elements` by index; None is the only key of one that is no array."""

    place: Place
    writable: bool
    elements: dict[int | None, Element]

    @property
    def raw(self) -> Value | list[Value]:
        if None in self.elements:
            return self.elements[None].raw
        size = max(index for index in self.elements if index is not None) + 1
        first = next(iter(self.elements.values())).raw
        empty: Value = type(first)()
        return [self.elements[i].raw if i in self.elements else empty for i in range(size)]

    @property
    def kind(self) -> ValueType:
        return next(iter(self.elements.values())).kind

    def write(self, raw: object) -> None:
        """Raises InvalidInput for what the machine does not take."""
        if None in self.elements:
            self.elements[None].write(_value(raw))
            return
        if not isinstance(raw, list):
            raise InvalidInput("it is an array")
        for index, element in self.elements.items():
            if index is not None and index < len(raw) and _value(raw[index]) != element.raw:
                element.write(_value(raw[index]))


@dataclass(frozen=True, slots=True)
class Call:
    """A method that writes a value. `argument`: which of its arguments it is, None: true."""

    object: NodeName
    method: NodeName
    element: Element
    arguments: tuple[ValueType, ...]
    argument: int | None


@dataclass(slots=True)
class Nodes:
    """The nodes of one server by their places as text, and where each property is."""

    variables: dict[str, Variable] = field(default_factory=dict)
    calls: dict[str, Call] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    """Browse paths of nodes that have ids of their own."""
    fixed_methods: set[str] = field(default_factory=set)
    """Methods that a machine itself brings."""
    of_property: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, spec: DeviceSpec, machines: Sequence[ValueMachine]) -> None:
        """The nodes that the Device names and that are not there yet.

        A property is the value of that name of the first machine that has it.
        """
        for point in spec.points:
            address = bound(point)
            machine = next((m for m in machines if point.spec.name in m.values), None)
            if address.place is not None:
                key = self.key(address.place)
                self.of_property[spec.name, point.spec.name] = key
                if machine is not None:
                    self._add_variable(key, point, address, machine)
            if address.model.method is not None and machine is not None:
                self._add_call(point, address.model, machine)

    def key(self, place: Place) -> str:
        named = place_key(place)
        return self.aliases.get(named, named)

    def _add_variable(
        self, key: str, point: Point, address: BoundAddress, machine: ValueMachine
    ) -> None:
        if address.place is None or address.place.uri == BASE:
            return  # every server has those of its own
        element = Element(machine, point.spec.name, point.spec.type, address.model)
        standing = self.variables.get(key)
        writable = point.spec.access.writable and address.model.method is None
        if standing is None:
            self.variables[key] = Variable(address.place, writable, {address.model.index: element})
        elif address.model.index is not None and None not in standing.elements:
            standing.elements.setdefault(address.model.index, element)
            standing.writable = standing.writable or writable

    def _add_call(self, point: Point, model: OpcUaAddress, machine: ValueMachine) -> None:
        if model.method is None or str(parse_node(model.method.method)) in self.fixed_methods:
            return
        given = model.method.arguments
        wanted = given.index("$value") if "$value" in given else None
        types = tuple(
            point.spec.type if place == wanted else _type(literal)
            for place, literal in enumerate(given)
        )
        plain = OpcUaAddress(node="i=0")
        element = Element(machine, point.spec.name, point.spec.type, plain)
        call = Call(
            parse_node(model.method.object), parse_node(model.method.method), element, types, wanted
        )
        self.calls.setdefault(str(call.method), call)


def place_key(place: Place) -> str:
    return f"{place.uri}/{place}" if isinstance(place, BrowsePath) else str(place)


def uris(nodes: Nodes) -> Iterable[str]:
    """The namespaces that the nodes are in, in order, each once."""
    named = [v.place.uri for v in nodes.variables.values()]
    named += [uri for c in nodes.calls.values() for uri in (c.object.uri, c.method.uri)]
    return [uri for uri in dict.fromkeys(named) if uri != BASE]


def _value(raw: object) -> Value:
    if not isinstance(raw, bool | int | float | str):
        raise InvalidInput(f"{raw!r} is no value that it takes")
    return raw


def _type(literal: object) -> ValueType:
    kinds: Mapping[type, ValueType] = {
        bool: ValueType.BOOL,
        int: ValueType.INT,
        float: ValueType.FLOAT,
        str: ValueType.STRING,
    }
    return kinds[type(literal)]
