"""Puts the nodes of a site into an asyncua server."""

from __future__ import annotations

from asyncua import ua
from asyncua.common.node import Node
from asyncua.server.event_generator import EventGenerator
from asyncua.server.server import Server
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from twinbridge.errors import InvalidInput
from twinbridge_opcua.address import BrowsePath
from twinbridge_opcua.nodes import BASE, NodeName
from twinbridge_simulators.machines.boiler import Boiler
from twinbridge_simulators.opcua.boiler_space import (
    EMERGENCY_SHUTDOWN,
    HIGH_PRESSURE_EVENT,
    ITEMS,
    RESET,
    SET_BURNER,
    URI,
    Item,
    node_of,
)
from twinbridge_simulators.opcua.terms import TYPES, named, numbered, standard, status
from twinbridge_simulators.opcua.variables import Call, Variable

UN_CEFACT = "http://www.opcfoundation.org/UA/units/un/cefact"
SEVERITY = 800


class Space:
    """The nodes as they are in one running server; namespaces are numbered as it pleases."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._index: dict[str, int] = {BASE: 0}

    async def index(self, uri: str) -> int:
        if uri not in self._index:
            self._index[uri] = await self._server.register_namespace(uri)
        return self._index[uri]

    async def node_id(self, name: NodeName) -> ua.NodeId:
        return numbered(name, await self.index(name.uri))

    async def add_variable(self, variable: Variable, raw: object) -> ua.NodeId:
        """The node of a variable, with the folders that lead to it."""
        place = variable.place
        if isinstance(place, BrowsePath):
            index = await self.index(place.uri)
            parent = await self._folder(place.names[:-1], index)
            node_id = named("/".join(place.names), index)
            name = place.names[-1]
        else:
            node_id = await self.node_id(place)
            parent, name = await self._parent_of(place)
        kind = TYPES[variable.kind]
        node = await parent.add_variable(
            node_id, ua.QualifiedName(name, node_id.NamespaceIndex), ua.Variant(raw, kind)
        )
        if variable.writable:
            await node.set_writable()
        item = _boiler_item(place)
        if item is not None and item.unit is not None:
            await _make_analog(node, item, str(node_id.Identifier))
        return node.nodeid

    async def _parent_of(self, place: NodeName) -> tuple[Node, str]:
        """A boiler's variables are in the boiler, others in the Objects folder."""
        objects = self._server.nodes.objects
        if _boiler_item(place) is None:
            return objects, str(place.name)
        boiler, _dot, name = str(place.name).partition(".")
        return self._server.get_node(named(boiler, await self.index(URI))), name

    async def _folder(self, names: tuple[str, ...], index: int) -> Node:
        """The object at a path, made if it is not there."""
        node: Node = self._server.nodes.objects
        for depth, name in enumerate(names, start=1):
            node_id = named("/".join(names[:depth]), index)
            if node_id not in self._server.iserver.aspace:
                node = await node.add_object(node_id, ua.QualifiedName(name, index))
            else:
                node = self._server.get_node(node_id)
        return node

    async def add_call(self, call: Call) -> None:
        """A method of a Device's own, and its object if it is not there."""
        object_id, method_id = await self.node_id(call.object), await self.node_id(call.method)
        aspace = self._server.iserver.aspace
        if object_id not in aspace:
            name = ua.QualifiedName(str(call.object.name), object_id.NamespaceIndex)
            await self._server.nodes.objects.add_object(object_id, name)
        if method_id in aspace:
            return

        async def run(_object: ua.NodeId, *arguments: ua.Variant) -> ua.StatusCode:
            if len(arguments) < len(call.arguments):
                return status(StatusCodes.BadArgumentsMissing)
            value = True if call.argument is None else arguments[call.argument].Value
            try:
                call.element.write(value)
            except InvalidInput:
                return status(StatusCodes.BadInvalidArgument)
            return status(0)

        await self._server.get_node(object_id).add_method(
            method_id,
            ua.QualifiedName(str(call.method.name), method_id.NamespaceIndex),
            run,
            [TYPES[kind] for kind in call.arguments],
            [],
        )

    async def add_boiler(self, name: str, boiler: Boiler) -> HighPressure:
        """Its object with the methods, and its event; the variables are added like any others."""
        index = await self.index(URI)
        objects = self._server.nodes.objects
        node = await objects.add_object(named(name, index), ua.QualifiedName(name, index))

        async def shut_down(_object: ua.NodeId) -> ua.StatusCode:
            boiler.emergency_shutdown()
            return status(0)

        async def set_burner(_object: ua.NodeId, *arguments: ua.Variant) -> ua.StatusCode:
            if len(arguments) != 1:
                return status(StatusCodes.BadArgumentsMissing)
            try:
                boiler.set_burner(on=bool(arguments[0].Value))
            except InvalidInput:
                return status(StatusCodes.BadInvalidState)
            return status(0)

        async def reset(_object: ua.NodeId) -> ua.StatusCode:
            boiler.reset()
            return status(0)

        for method, run, inputs in (
            (EMERGENCY_SHUTDOWN, shut_down, []),
            (SET_BURNER, set_burner, [ua.VariantType.Boolean]),
            (RESET, reset, []),
        ):
            method_id = await self.node_id(node_of(name, method))
            await node.add_method(method_id, ua.QualifiedName(method, index), run, inputs, [])
        return await HighPressure.of(self._server, node, boiler, index)


class HighPressure:
    """The event that the pressure has come to its limit: told at the boiler and at the server."""

    def __init__(self, boiler: Boiler, generators: list[EventGenerator]) -> None:
        self._boiler = boiler
        self._generators = generators
        self._was_high = False

    @classmethod
    async def of(cls, server: Server, node: Node, boiler: Boiler, index: int) -> HighPressure:
        kind_id = named(HIGH_PRESSURE_EVENT, index)
        if kind_id in server.iserver.aspace:
            kind = server.get_node(kind_id)
        else:
            base = server.get_node(ObjectIds.BaseEventType)
            kind = await base.add_object_type(kind_id, ua.QualifiedName(HIGH_PRESSURE_EVENT, index))
            for name in ("Pressure", "Limit"):
                await kind.add_property(index, name, 0.0, ua.VariantType.Double)
        generators = []
        for emitting in (node, server.nodes.server):
            generator = await server.get_event_generator(kind, emitting_node=emitting.nodeid)
            generator.event.SourceNode = node.nodeid
            generator.event.SourceName = (await node.read_browse_name()).Name
            generator.event.Severity = SEVERITY
            generators.append(generator)
        return cls(boiler, generators)

    async def tell(self) -> None:
        """Once for each time that the pressure rises to the limit."""
        was, self._was_high = self._was_high, self._boiler.pressure_is_high
        if was or not self._was_high:
            return
        limit = self._boiler.options.highPressure
        for generator in self._generators:
            generator.event.Pressure = self._boiler.pressure
            generator.event.Limit = limit
            await generator.trigger(message=f"The pressure is above {limit:g} bar")


def _boiler_item(place: object) -> Item | None:
    if not isinstance(place, NodeName) or place.uri != URI:
        return None
    name = str(place.name).partition(".")[2]
    return next((item for item in ITEMS if item.browse_name == name), None)


async def _make_analog(node: Node, item: Item, of: str) -> None:
    """AnalogItemType with its EURange and EngineeringUnits (OPC UA Part 8, 5.3.2)."""
    plain, analog = ObjectIds.BaseDataVariableType, ObjectIds.AnalogItemType
    has_type = ObjectIds.HasTypeDefinition
    await node.delete_reference(plain, has_type, forward=True, bidirectional=False)
    await node.add_reference(analog, has_type, forward=True, bidirectional=False)
    await node.add_property(
        named(f"{of}.EURange", node.nodeid.NamespaceIndex),
        ua.QualifiedName("EURange", 0),
        ua.Range(item.low, item.high),
        datatype=standard(ObjectIds.Range),
    )
    if item.unit is not None:
        await node.add_property(
            named(f"{of}.EngineeringUnits", node.nodeid.NamespaceIndex),
            ua.QualifiedName("EngineeringUnits", 0),
            _unit(*item.unit),
            datatype=standard(ObjectIds.EUInformation),
        )


def _unit(code: str, shown: str) -> ua.EUInformation:
    """UN/ECE Recommendation 20 code, its characters packed (OPC UA Part 8, 5.6.4.3)."""
    return ua.EUInformation(
        NamespaceUri=UN_CEFACT,
        UnitId=int.from_bytes(code.encode(), "big"),
        DisplayName=ua.LocalizedText(shown),
        Description=ua.LocalizedText(shown),
    )
