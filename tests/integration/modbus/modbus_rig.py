"""What the Modbus integration tests share: points, links, and waiting for a server to listen."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from twinbridge.core.model import Access, Point, PropertyRef, PropertySpec, Value, ValueType
from twinbridge.ports import Link, Reading
from twinbridge_modbus import driver

BOUND = 30.0


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test that can never hang."""

    async def bounded() -> None:
        async with asyncio.timeout(BOUND):
            await test

    asyncio.run(bounded())


def connection(port: int | None = None, **fields: Any) -> dict[str, Any]:
    """A connection to a server of this machine, with a short timeout."""
    place = {"host": "127.0.0.1", "port": port} if port is not None else {}
    return {**place, "timeout": "300ms", **fields}


def opened(fields: dict[str, Any]) -> AbstractAsyncContextManager[Link]:
    return driver.open(driver.connection_model.model_validate(fields))


def point(
    name: str,
    kind: str,
    wire: dict[str, Any],
    *,
    access: Access = Access.READ_WRITE,
    pulse: bool = False,
    **address: Any,
) -> Point:
    spec = PropertySpec(name, ValueType(kind), access, pulse=pulse)
    place = {"table": "holding", **address}
    model = driver.address_model.model_validate(place)
    bound = driver.bind(spec, driver.connection_model.model_validate(wire), model)
    return Point(PropertyRef("plc", name), spec, bound, 1)


def word(name: str, address: int, wire: dict[str, Any], **more: Any) -> Point:
    return point(name, "int", wire, address=address, encoding="uint16", **more)


async def scan(link: Link, points: Sequence[Point]) -> dict[str, Reading]:
    """Plan and read everything once."""
    found: list[Reading] = []
    for request in link.plan(points):
        found += (await link.read(request)).readings
    return {reading.point.spec.name: reading for reading in found}


async def values(link: Link, points: Sequence[Point]) -> dict[str, Value | None]:
    return {name: reading.value for name, reading in (await scan(link, points)).items()}


async def listening(port: int) -> None:
    """Until something accepts on the port."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return
