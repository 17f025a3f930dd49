"""A small OPC UA server that runs in the test, and a watcher that does what the worker does."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from asyncua import Server, ua

from twinbridge.core.model import (
    MILLISECOND,
    Access,
    Point,
    PropertyRef,
    PropertySpec,
    Value,
    ValueType,
)
from twinbridge.errors import DeviceError
from twinbridge.ports import PushLink, Reading, ReadRequest, ReadResult
from twinbridge_opcua import driver
from twinbridge_opcua.config import OpcUaAddress, OpcUaConnection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence

    from asyncua.common.node import Node

URI = "http://acme.com/boiler"
PATIENCE = 20.0
"""Seconds after which something that should happen has failed to."""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


_NODES: dict[str, tuple[object, ua.VariantType]] = {
    "Temperature": (20.5, ua.VariantType.Double),
    "Pressure": (3, ua.VariantType.Int16),
    "Running": (True, ua.VariantType.Boolean),
    "Name": ("north", ua.VariantType.String),
    "Setpoint": (60.0, ua.VariantType.Float),
    "Stages": ([1, 2, 3], ua.VariantType.Int32),
    "State": (1, ua.VariantType.UInt32),
}


class Boiler:
    """Its nodes are `nsu=URI;s=Boiler.NAME`, below the object `Boiler`."""

    def __init__(self, port: int, *, other_namespaces: int = 0) -> None:
        self.port = port
        self.server = Server()
        self.index = 0
        self.nodes: dict[str, Node] = {}
        self.called: list[tuple[object, ...]] = []
        self._others = other_namespaces
        self._boiler: Node | None = None

    async def open(self) -> None:
        await self.server.init()
        self.server.set_endpoint(f"opc.tcp://127.0.0.1:{self.port}/boiler")
        for number in range(self._others):
            await self.server.register_namespace(f"http://acme.com/other/{number}")
        self.index = await self.server.register_namespace(URI)
        self._boiler = await self.server.nodes.objects.add_object(
            ua.NodeId("Boiler", self.index), ua.QualifiedName("Boiler", self.index)
        )
        for name, (value, kind) in _NODES.items():
            await self.add(name, value, kind)
        await self.server.start()

    async def add(self, name: str, value: object, kind: ua.VariantType) -> Node:
        assert self._boiler is not None
        node = await self._boiler.add_variable(
            ua.NodeId(f"Boiler.{name}", self.index),
            ua.QualifiedName(name, self.index),
            ua.Variant(value, kind),
        )
        await node.set_writable()
        self.nodes[name] = node
        return node

    async def restore(self) -> None:
        """As it was when it was opened, methods aside."""
        for name in [name for name in self.nodes if name not in _NODES]:
            await self.delete(name)
        for name, (value, kind) in _NODES.items():
            if name not in self.nodes:
                await self.add(name, value, kind)
            await self.set(name, value, kind)
        self.called.clear()

    async def add_method(self, name: str, *inputs: ua.VariantType) -> None:
        assert self._boiler is not None

        async def called(_parent: object, *given: ua.Variant) -> list[ua.Variant]:
            self.called.append(tuple(variant.Value for variant in given))
            return []

        await self._boiler.add_method(
            ua.NodeId(f"Boiler.{name}", self.index),
            ua.QualifiedName(name, self.index),
            called,
            list(inputs),
            [],
        )

    async def set(self, name: str, value: object, kind: ua.VariantType | None = None) -> None:
        node = self.nodes[name]
        kind = kind or await node.read_data_type_as_variant_type()
        await node.write_value(ua.DataValue(ua.Variant(value, kind)))

    async def tell(self, name: str, told: ua.DataValue) -> None:
        """With a status and times of the test's choice, as a PLC would give them."""
        await self.server.write_attribute_value(self.nodes[name].nodeid, told)

    async def value(self, name: str) -> Any:
        return await self.nodes[name].read_value()

    async def delete(self, name: str) -> None:
        await self.server.delete_nodes([self.nodes.pop(name)])

    async def close(self) -> None:
        # Its clock, which writes a node each second, may have failed on a client that went.
        with suppress(ua.UaStatusCodeError):
            await self.server.stop()


@asynccontextmanager
async def boiler(port: int | None = None, *, other_namespaces: int = 0) -> AsyncIterator[Boiler]:
    running = Boiler(port or free_port(), other_namespaces=other_namespaces)
    await running.open()
    try:
        yield running
    finally:
        await running.close()


class Stage:
    """One server for all tests of the folder, since making one takes seconds."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._boiler = Boiler(free_port())

    def open(self) -> None:
        self._runner.run(self._boiler.open())

    def run(self, test: Callable[[Boiler], Coroutine[Any, Any, None]]) -> None:
        async def restored() -> None:
            await self._boiler.restore()
            await test(self._boiler)

        self._runner.run(restored())

    def close(self) -> None:
        self._runner.run(self._boiler.close())
        self._runner.close()


def connection(port: int, **more: Any) -> OpcUaConnection:
    """To an unprotected server on this machine, with quick publications."""
    url = f"opc.tcp://127.0.0.1:{port}/boiler"
    quick = {"publishingInterval": "100ms", "allowInsecure": True}
    return OpcUaConnection.model_validate({"url": url, **quick, **more})


def point(
    to: OpcUaConnection,
    name: str,
    kind: ValueType = ValueType.FLOAT,
    *,
    prop: str = "",
    access: Access = Access.READ_ONLY,
    urgent: bool = False,
    interval: int = 100 * MILLISECOND,
    **address: Any,
) -> Point:
    """A property of the same name as its node, which may be given otherwise in `address`."""
    place = {"node": f"nsu={URI};s=Boiler.{name}"}
    elsewhere = "path" in address or "node" in address or access is Access.WRITE_ONLY
    model = OpcUaAddress.model_validate(address if elsewhere else place | address)
    spec = PropertySpec(prop or name, kind, access)
    where = driver.bind(spec, to, model)
    return Point(PropertyRef("boiler", spec.name), spec, where, interval, urgent)


class Watch:
    """Follows points of an open link, plans anew when asked to, and keeps what it was told."""

    def __init__(self, link: PushLink, points: Sequence[Point]) -> None:
        self.link = link
        self.points = list(points)
        self.last: dict[str, Reading] = {}
        self.told: list[tuple[str, Value | None]] = []
        self.answers = 0
        self.requests: Sequence[ReadRequest] = ()
        self.failed: DeviceError | None = None
        self._changed = asyncio.Event()

    def follow(self) -> None:
        self.requests = self.link.plan(self.points)
        self.link.follow([request for request in self.requests if request.pushed])

    @property
    def polled(self) -> list[str]:
        requests = [r for r in self.requests if not r.pushed]
        return [p.spec.name for request in requests for p in request.points]

    async def listen(self) -> None:
        try:
            async for batch in self.link.samples():
                for request, result in batch:
                    assert isinstance(result, ReadResult)
                    if request in self.requests:
                        self._take(result)
                self._changed.set()
        except DeviceError as error:
            self.failed = error
            self._changed.set()

    def _take(self, result: ReadResult) -> None:
        self.answers += 1
        for reading in result.readings:
            self.last[reading.point.spec.name] = reading
            self.told.append((reading.point.spec.name, reading.value))
        if result.replan:
            self.follow()

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not happened():
                await self._changed.wait()
                self._changed.clear()

    async def until_value(self, name: str, value: Value) -> Reading:
        await self.until(lambda: name in self.last and self.last[name].value == value)
        return self.last[name]

    async def until_bad(self, name: str) -> Reading:
        await self.until(lambda: name in self.last and self.last[name].value is None)
        return self.last[name]


@asynccontextmanager
async def watching(link: PushLink, points: Sequence[Point]) -> AsyncIterator[Watch]:
    watch = Watch(link, points)
    watch.follow()
    listening = asyncio.create_task(watch.listen())
    try:
        yield watch
    finally:
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
