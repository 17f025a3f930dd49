"""A server that others wrote: npm's node-opcua."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from node_plant import (
    APPLICATION,
    PATIENCE,
    connection,
    followed,
    node_server,
    point,
    require_node,
)
from opcua_certificates import Pair, pair

from twinbridge.core.model import Access, Point, Quality, Reason, Value, ValueType
from twinbridge.errors import LinkLost
from twinbridge_opcua import driver
from twinbridge_opcua.browsing.browse import browse
from twinbridge_opcua.browsing.survey import Scope
from twinbridge_opcua.config import OpcUaConnection

if TYPE_CHECKING:
    from pathlib import Path

    from twinbridge.ports import PushLink

VALUES: dict[str, tuple[ValueType, Value]] = {
    "Bool": (ValueType.BOOL, True),
    "Int16": (ValueType.INT, -12345),
    "UInt32": (ValueType.INT, 4_000_000_000),
    "Int64": (ValueType.INT, 2**53 + 1),
    "Double": (ValueType.FLOAT, 71.5),
    "String": (ValueType.STRING, "größe ✓"),
}


@pytest.fixture(autouse=True)
def _node() -> None:
    require_node()


@pytest.fixture(scope="module")
def own() -> Pair:
    return pair("node-plant", uri=APPLICATION)


def points_of(to: OpcUaConnection) -> list[Point]:
    fixed = [point(to, name, type_) for name, (type_, _) in VALUES.items()]
    setpoint = point(to, "Setpoint", ValueType.FLOAT, access=Access.READ_WRITE)
    return [
        *fixed,
        setpoint,
        point(to, "Counter", ValueType.INT),
        point(to, "Gone", ValueType.FLOAT),
    ]


async def exercised(to: OpcUaConnection) -> None:
    """Every type arrives, changes are told, a write is read back."""
    points = points_of(to)
    async with driver.open(to) as link, followed(link, points) as watch:
        await watch.until(lambda: len(watch.last) == len(points))
        assert {name: watch.value(name) for name in VALUES} == {
            n: v for n, (_, v) in VALUES.items()
        }
        gone = watch.last["Gone"]
        assert (gone.quality, gone.reason) == (Quality.BAD, Reason.DEVICE_FAULT)
        assert "BadDeviceFailure" in gone.message
        count = watch.value("Counter")
        await watch.until(lambda: watch.value("Counter") != count)
        setpoint = next(p for p in points if p.spec.name == "Setpoint")
        for value in (37.5, -12.0):
            await link.write(setpoint, value)
            assert await read_back(link, points, "Setpoint") == value
            await watch.until(lambda value=value: watch.value("Setpoint") == value)  # type: ignore[misc]  # bound at once


async def read_back(link: PushLink, points: list[Point], name: str) -> Value | None:
    for request in link.plan(points):
        for reading in (await link.read(request)).readings:
            if reading.point.spec.name == name:
                return reading.value
    raise AssertionError(name)


def test_node_opcua_is_read_written_and_followed(tmp_path: Path, own: Pair) -> None:
    async def scenario() -> None:
        async with node_server(tmp_path, own) as port:
            await exercised(connection(port))

    asyncio.run(scenario())


def secured(port: str, folder: Path, own: Pair, **more: Any) -> OpcUaConnection:
    trusted = folder / "ours" / "trusted"
    trusted.mkdir(parents=True, exist_ok=True)
    (trusted / "plant.pem").write_bytes(own.pem)
    security = {"policy": "Basic256Sha256", "mode": "SignAndEncrypt"}
    return connection(port, security=security, pki=str(folder / "ours"), **more)


def test_the_same_over_an_encrypted_channel_with_a_user(tmp_path: Path, own: Pair) -> None:
    async def scenario() -> None:
        password = tmp_path / "password"
        password.write_text("pa55\n")
        user = {"name": "operator", "passwordFile": str(password)}
        async with node_server(tmp_path / "node", own) as port:
            await exercised(secured(port, tmp_path, own))
            await exercised(secured(port, tmp_path, own, user=user))
            password.write_text("wrong\n")
            with pytest.raises(LinkLost, match="refuses the user 'operator'"):
                await driver.open(secured(port, tmp_path, own, user=user)).__aenter__()

    asyncio.run(scenario())


async def until_it_is_lost(
    to: OpcUaConnection, points: list[Point], server: AsyncExitStack
) -> None:
    async with driver.open(to) as link, followed(link, points) as watch:
        await watch.until(lambda: watch.value("Counter") is not None)
        await server.aclose()  # kills it
        await asyncio.sleep(PATIENCE)  # cut short by the link, which says that it is lost


@pytest.mark.parametrize("way", ["open", "secured"])
def test_a_server_that_is_killed_and_started_again_is_taken_up_again(
    tmp_path: Path, own: Pair, way: str
) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as server:
            port = await server.enter_async_context(node_server(tmp_path / "node", own))
            to = secured(port, tmp_path, own) if way == "secured" else connection(port)
            with pytest.raises(ExceptionGroup) as caught:
                await until_it_is_lost(to, points_of(to), server)
            assert caught.group_contains(LinkLost)
        with pytest.raises(LinkLost):
            await driver.open(to).__aenter__()
        async with node_server(tmp_path / "node", own, port):
            await exercised(to)

    asyncio.run(scenario())


def test_pages_of_a_long_answer_are_fetched_to_the_end(
    tmp_path: Path, own: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinbridge_opcua.browsing.survey.PAGE", 3)

    async def scenario() -> None:
        async with node_server(tmp_path, own) as port:
            start = await browse(connection(port), Scope("Plant"))
            names = {branch.name for branch in start.children}
            assert names == {*VALUES, "Setpoint", "Counter", "Gone", "Add"}
            setpoint = next(branch for branch in start.children if branch.name == "Setpoint")
            assert setpoint.variable is not None
            assert (setpoint.variable.minimum, setpoint.variable.ucum) == (-50.0, "Cel")
            assert start.hidden == ""
            few = await browse(connection(port), Scope("Plant", limit=4))
            assert len(few.children) == 4
            assert few.hidden.startswith("at least")

    asyncio.run(scenario())
