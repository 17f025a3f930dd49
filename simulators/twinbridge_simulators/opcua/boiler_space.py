"""The boiler's own address space: analog items, methods, an event. Its places are pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from twinbridge.core.model import ValueType
from twinbridge_opcua.address import BrowsePath
from twinbridge_opcua.nodes import NodeName
from twinbridge_simulators.machines.boiler import Boiler
from twinbridge_simulators.opcua.variables import Element, Nodes, Variable, place_key

URI = "http://twinbridge.io/simulators/boiler"
EMERGENCY_SHUTDOWN, SET_BURNER, RESET = "EmergencyShutdown", "SetBurner", "Reset"
HIGH_PRESSURE_EVENT = "HighPressureEventType"


class Item(NamedTuple):
    """One variable: its browse name, the boiler's value, unit (UN/ECE code, text) and range."""

    browse_name: str
    value: str
    type: ValueType = ValueType.FLOAT
    writable: bool = False
    unit: tuple[str, str] | None = None
    low: float = 0.0
    high: float = 0.0


CELSIUS, BAR, PER_CENT = ("CEL", "°C"), ("BAR", "bar"), ("P1", "%")
ITEMS = (
    Item("Temperature", "temperature", unit=CELSIUS, low=0, high=250),
    Item("Pressure", "pressure", unit=BAR, low=0, high=18),
    Item("WaterLevel", "water-level", unit=PER_CENT, low=0, high=100),
    Item("Valve", "valve", unit=PER_CENT, low=0, high=100),
    Item("ValveSetpoint", "valve-setpoint", writable=True, unit=PER_CENT, low=0, high=100),
    Item("Setpoint", "setpoint", writable=True, unit=CELSIUS, low=20, high=180),
    Item("Burner", "burner", ValueType.BOOL),
    Item("BurnerEnabled", "enabled", ValueType.BOOL, writable=True),
    Item("ShutDown", "shut-down", ValueType.BOOL),
)


def node_of(boiler: str, browse_name: str) -> NodeName:
    """`nsu=…;s=Boiler.Temperature`."""
    return NodeName(URI, "s", f"{boiler}.{browse_name}")


def places(name: str) -> Iterator[tuple[Item, NodeName]]:
    return ((item, node_of(name, item.browse_name)) for item in ITEMS)


def add_boiler(nodes: Nodes, name: str, boiler: Boiler) -> None:
    """Its variables, each to be found by its node id and by its browse path."""
    for item, place in places(name):
        element = Element(boiler, item.value, item.type)
        nodes.variables[place_key(place)] = Variable(place, item.writable, {None: element})
        path = BrowsePath((name, item.browse_name), URI)
        nodes.aliases[place_key(path)] = place_key(place)
    for method in (EMERGENCY_SHUTDOWN, SET_BURNER, RESET):
        nodes.fixed_methods.add(str(node_of(name, method)))
