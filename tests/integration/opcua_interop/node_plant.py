"""npm's node-opcua as a process, and a consumer of what the driver pushes."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from opcua_certificates import Pair

from twinbridge.core.model import (
    MILLISECOND,
    Access,
    Point,
    PropertyRef,
    PropertySpec,
    Value,
    ValueType,
)
from twinbridge_opcua import driver
from twinbridge_opcua.config import OpcUaAddress, OpcUaConnection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from twinbridge.ports import PushLink, Reading

HERE = Path(__file__).parent
URI = "urn:test:plant"
APPLICATION = "urn:test:node-plant"
PATIENCE = 30.0


def require_node() -> None:
    if shutil.which("node") is None or not (HERE / "node_modules" / "node-opcua").is_dir():
        pytest.fail("node-opcua is missing; scripts/test runs npm install in this folder")


def _install(folder: Path, own: Pair) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "cert.pem").write_bytes(own.pem)
    (folder / "key.pem").write_bytes(own.key_pem)


@asynccontextmanager
async def node_server(folder: Path, own: Pair, port: str = "0") -> AsyncIterator[str]:
    """Gives its port; killed without leave at the end."""
    _install(folder, own)
    process = await asyncio.create_subprocess_exec(
        *("node", "--no-warnings", str(HERE / "server.mjs"), str(folder), port),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while not (line := await process.stdout.readline()).strip().isdigit():
                assert line, "node-opcua did not start"
        yield line.decode().strip()
    finally:
        process.kill()
        await process.wait()


def connection(port: str, **more: Any) -> OpcUaConnection:
    written = {"url": f"opc.tcp://127.0.0.1:{port}", "publishingInterval": "100ms", **more}
    if "security" not in more:
        written["allowInsecure"] = True
    return OpcUaConnection.model_validate(written)


def point(
    to: OpcUaConnection, name: str, type_: ValueType, *, access: Access = Access.READ_ONLY
) -> Point:
    spec = PropertySpec(name=name, type=type_, access=access)
    address = OpcUaAddress.model_validate({"node": f"nsu={URI};s=Plant.{name}"})
    return Point(
        PropertyRef("plant", name), spec, driver.bind(spec, to, address), 100 * MILLISECOND
    )


class Watch:
    """The last reading of each property."""

    def __init__(self) -> None:
        self.last: dict[str, Reading] = {}
        self._heard = asyncio.Event()

    async def consume(self, link: PushLink) -> None:
        async for batch in link.samples():
            for push in batch:
                assert not isinstance(push.result, Exception), push.result
                for reading in push.result.readings:
                    self.last[reading.point.spec.name] = reading
            self._heard.set()

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not true():
                self._heard.clear()
                await self._heard.wait()

    def value(self, name: str) -> Value | None:
        return self.last[name].value if name in self.last else None


@asynccontextmanager
async def followed(link: PushLink, points: Sequence[Point]) -> AsyncIterator[Watch]:
    """Consumed by a task, as the worker does it."""
    watch = Watch()
    link.follow([request for request in link.plan(points) if request.pushed])
    async with asyncio.TaskGroup() as tasks:
        consuming = tasks.create_task(watch.consume(link), name="samples")
        yield watch
        consuming.cancel()
