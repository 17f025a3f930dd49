"""An OPC UA server with one node of every type, for `DriverContract`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from asyncua import Server, ua

from twinbridge.core.model import Value
from twinbridge.ports import Driver
from twinbridge.testing.driver_contract import Cell, Mistake, Traits
from twinbridge_opcua import driver
from twinbridge_simulators.opcua.gate import Gate
from twinbridge_simulators.opcua.terms import data_value

URI = "http://twinbridge.io/contract"
FLOAT32_MAX, FLOAT32_LEAST = 3.4028234663852886e38, 1.401298464324817e-45
FLOAT64_MAX, FLOAT64_LEAST = 1.7976931348623157e308, 5e-324
STATES = {0: "stopped", 1: "running"}
LAST_MOMENT = "2999-12-31T23:59:59.999999+00:00"
_TYPE = ua.VariantType


def cell(name: str, kind: str, *values: Value, writable: bool = True, **more: object) -> Cell:
    return Cell(name, kind, {"node": f"nsu={URI};s={name}", **more}, values, writable)


def of(variant: ua.VariantType, made: Cell) -> tuple[Cell, ua.VariantType]:
    return made, variant


CELLS = (
    of(_TYPE.Float, cell("temperature", "float", 20.0, 91.5, FLOAT32_MAX, FLOAT32_LEAST)),
    of(_TYPE.UInt16, cell("speed", "int", 10, 0, 2**16 - 1)),
    of(_TYPE.Boolean, cell("run", "bool", False, True)),
    of(_TYPE.Boolean, cell("door", "bool", False, True, writable=False)),
    of(_TYPE.SByte, cell("sbyte", "int", 1, -(2**7), 2**7 - 1)),
    of(_TYPE.Byte, cell("byte", "int", 1, 0, 2**8 - 1)),
    of(_TYPE.Int16, cell("int16", "int", 1, -(2**15), 2**15 - 1)),
    of(_TYPE.Int32, cell("int32", "int", 1, -(2**31), 2**31 - 1)),
    of(_TYPE.UInt32, cell("uint32", "int", 1, 0, 2**32 - 1)),
    of(_TYPE.Int64, cell("int64", "int", 1, -(2**63), 2**63 - 1)),
    of(_TYPE.UInt64, cell("uint64", "int", 1, 0, 2**64 - 1)),
    of(_TYPE.Double, cell("double", "float", 0.1, -FLOAT64_MAX, FLOAT64_MAX, FLOAT64_LEAST)),
    of(_TYPE.String, cell("label", "string", "motor 1", "", "ä°µ€" * 500)),
    of(_TYPE.Int16, cell("scaled", "float", 1.5, -3276.8, 3276.7, scale=0.1)),
    of(_TYPE.UInt32, cell("state", "string", "stopped", "running", labels=STATES)),
    of(_TYPE.LocalizedText, cell("text", "string", "Kessel", "", "ä°µ€" * 500)),
    of(_TYPE.DateTime, cell("when", "string", "2026-01-31T08:00:00+00:00", LAST_MOMENT)),
    of(_TYPE.Guid, cell("guid", "string", str(UUID(int=1)), str(UUID(int=2**128 - 1)))),
    of(_TYPE.ByteString, cell("bytes", "string", "00ff", "", "5a" * 1000)),
    # This server takes no heed of index ranges, so an element of an array is only read.
    of(_TYPE.Int32, cell("element", "int", 1, -(2**31), 2**31 - 1, index=1, writable=False)),
)
Raw = Callable[[Any], Any]
RAW: dict[str, tuple[Raw, Raw]] = {
    "scaled": (lambda value: round(value * 10), lambda raw: round(raw * 0.1, 1)),
    "state": ({text: number for number, text in STATES.items()}.__getitem__, STATES.__getitem__),
    "text": (ua.LocalizedText, lambda raw: raw.Text or ""),
    "when": (datetime.fromisoformat, datetime.isoformat),
    "guid": (UUID, str),
    "bytes": (bytes.fromhex, bytes.hex),
    "element": (lambda value: [0, value, 0], lambda raw: raw[1]),
}
"""What a node has for a value of its property, and the way back; the same, if left out."""
_SAME: tuple[Raw, Raw] = (lambda value: value, lambda raw: raw)


class Machine:
    """A server, made once, since that takes seconds; what it has, and what goes wrong with it."""

    def __init__(self) -> None:
        self.server = Server()
        self.has: dict[str, Value] = {}
        self.status: dict[str, int] = {}
        self.refused: set[str] = set()
        self.ignored: set[str] = set()
        self.writes: list[tuple[str, Value]] = []
        self._kinds = {made.name: variant for made, variant in CELLS}
        self._namespace = 0
        self._plain: Any = None

    @property
    def port(self) -> int:
        assert self.server.bserver is not None
        return int(self.server.bserver.port)

    async def open(self) -> None:
        for noisy in ("asyncua.server", "asyncua.crypto"):
            logging.getLogger(noisy).setLevel(logging.CRITICAL)
        server = self.server
        await server.init()
        server.set_endpoint("opc.tcp://127.0.0.1:0")
        server.socket_address = ("127.0.0.1", 0)
        server.set_match_discovery_client_ip(False)
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        server.iserver.disabled_clock = True  # it is slow to stop
        self._namespace = await server.register_namespace(URI)
        self._plain = server.iserver.aspace.write_attribute_value
        server.iserver.aspace.write_attribute_value = self._written
        for made, variant in CELLS:
            value = ua.Variant(RAW.get(made.name, _SAME)[0](made.values[0]), variant)
            node = await server.nodes.objects.add_variable(self._node(made.name), made.name, value)
            if made.writable:
                await node.set_writable()
        await server.start()

    async def reset(self) -> None:
        self.status.clear()
        self.refused.clear()
        self.ignored.clear()
        self.writes = []
        for made, _ in CELLS:
            await self.set(made.name, made.values[0])

    async def set(self, name: str, value: Value) -> None:
        self.has[name] = value
        await self.show(name)

    async def show(self, name: str) -> None:
        raw = ua.Variant(RAW.get(name, _SAME)[0](self.has[name]), self._kinds[name])
        shown = data_value(raw, datetime.now(UTC), self.status.get(name, 0))
        await self._plain(self._node(name), ua.AttributeIds.Value, shown)

    def _node(self, name: str) -> ua.NodeId:
        return ua.NodeId(name, self._namespace)

    async def _written(
        self, node: ua.NodeId, attribute: ua.AttributeIds, value: ua.DataValue
    ) -> ua.StatusCode:
        """What a client writes; a setter of the server could not refuse one of several."""
        name = node.Identifier
        if attribute != ua.AttributeIds.Value or name not in self.has or value.Value is None:
            found: ua.StatusCode = await self._plain(node, attribute, value)
            return found
        if value.Value.VariantType is not self._kinds[name]:
            return ua.StatusCode(ua.StatusCodes.BadTypeMismatch)
        if name in self.refused:
            return ua.StatusCode(ua.StatusCodes.BadOutOfRange)
        written = RAW.get(name, _SAME)[1](value.Value.Value)
        self.writes.append((name, written))
        if name not in self.ignored:
            await self.set(name, written)
        return ua.StatusCode()


class OpcUaStage:
    """`async with` opens a gate before the machine; its port can be closed."""

    driver: Driver = driver
    traits = Traits(
        client_libraries=("asyncua", "cryptography"),
        notices=6.0,
        nan="temperature",
        doubts=True,
        machine_tasks=("InternalSession.", "InternalSubscription."),
    )
    cells: Sequence[Cell] = tuple(made for made, _ in CELLS)
    mistakes = (
        Mistake("int", {"node": "ns=3;s=Speed"}, "nsu="),
        Mistake("string", {"node": f"nsu={URI};s=a", "scale": 2.0}, "scale"),
        Mistake("int", {}, "node"),
    )

    def __init__(self, machine: Machine, mode: str = "subscribe") -> None:
        self._machine = machine
        self._mode = mode
        self._gate = Gate("127.0.0.1", 0)
        self._gate.target = machine.port

    async def __aenter__(self) -> Self:
        await self._machine.reset()
        await self._gate.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._gate.__aexit__(kind, error, trace)

    @property
    def port(self) -> int:
        return self._gate.port

    def connection(self, port: int, station: int) -> Mapping[str, object]:
        del station
        return {
            "url": f"opc.tcp://127.0.0.1:{port}",
            "allowInsecure": True,
            "timeout": "1s",
            "publishingInterval": "20ms",
            "mode": self._mode,
        }

    async def start(self) -> None:
        self._gate.open_again()

    async def stop(self) -> None:
        self._gate.close()

    async def set(self, name: str, value: Value, station: int = 0) -> None:
        await self._machine.set(name, value)

    async def value(self, name: str, station: int = 0) -> Value:
        return self._machine.has[name]

    def writes(self, station: int = 0) -> Sequence[tuple[str, Value]]:
        return self._machine.writes

    async def refuse(self, name: str) -> None:
        self._machine.refused.add(name)

    async def ignore(self, name: str) -> None:
        self._machine.ignored.add(name)

    async def fail(self, name: str) -> None:
        await self._mark(name, ua.StatusCodes.BadSensorFailure)

    async def doubt(self, name: str) -> None:
        await self._mark(name, ua.StatusCodes.UncertainLastUsableValue)

    async def mute(self, station: int) -> None:
        raise NotImplementedError("one server is one machine")

    async def slow(self, seconds: float) -> None:
        self._gate.silence(on=True)

    async def heal(self) -> None:
        self._gate.silence(on=False)
        self._machine.refused.clear()
        self._machine.ignored.clear()
        marked = list(self._machine.status)
        self._machine.status.clear()
        for name in marked:
            await self._machine.show(name)

    async def _mark(self, name: str, status: int) -> None:
        self._machine.status[name] = status
        await self._machine.show(name)
