"""What becomes of a link when the server or the way to it fails."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from opcua_boiler import (
    PATIENCE,
    Boiler,
    Stage,
    boiler,
    connection,
    free_port,
    point,
    watching,
)

from twinbridge.core.model import Access
from twinbridge.errors import DeviceError, LinkLost, NoResponse
from twinbridge.testing.proxy import FaultProxy
from twinbridge_opcua import driver

if TYPE_CHECKING:
    from twinbridge.core.model import Point
    from twinbridge.ports import PushLink


def own_tasks() -> set[asyncio.Task[object]]:
    """Tasks of the client's side; the server of the test has its own."""
    return {
        task
        for task in asyncio.all_tasks()
        if task is not asyncio.current_task() and not _of_the_server(task)
    }


def _of_the_server(task: asyncio.Task[object]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and "/asyncua/server/" in code.co_filename


async def until_gone(tasks: set[asyncio.Task[object]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while left := own_tasks() - tasks:
            await asyncio.wait(left, timeout=0.1)


async def until_lost(link: PushLink, points: list[Point]) -> DeviceError:
    """Read until the link says that it is lost."""
    async with asyncio.timeout(PATIENCE):
        while True:
            for request in link.plan(points):
                try:
                    await link.read(request)
                except LinkLost as lost:
                    return lost
                except NoResponse:
                    pass


def test_a_server_that_is_not_there_is_named() -> None:
    async def run() -> None:
        port = free_port()
        before = own_tasks()
        with pytest.raises(LinkLost, match=rf"opcua://127.0.0.1:{port}/boiler: .*refused"):
            async with driver.open(connection(port)):
                pass
        await until_gone(before)

    asyncio.run(run())


def test_a_server_that_accepts_and_says_nothing_is_given_up_on() -> None:
    async def run() -> None:
        before = own_tasks()
        with socket.create_server(("127.0.0.1", 0)) as silent:
            to = connection(silent.getsockname()[1], timeout="200ms")
            with pytest.raises(LinkLost, match="no answer in time"):
                async with driver.open(to):
                    pass
        await until_gone(before)

    asyncio.run(run())


def test_a_link_leaves_no_task_behind(stage: Stage) -> None:
    async def run(plant: Boiler) -> None:
        before = own_tasks()
        to = connection(plant.port)
        async with driver.open(to) as link, watching(link, [point(to, "Temperature")]) as watch:
            await watch.until_value("Temperature", 20.5)
        await until_gone(before)

    stage.run(run)


def test_a_cancelled_link_leaves_no_task_behind(stage: Stage) -> None:
    async def run(plant: Boiler) -> None:
        before = own_tasks()
        to = connection(plant.port)
        opened = asyncio.Event()

        async def serve() -> None:
            async with driver.open(to) as link, watching(link, [point(to, "Temperature")]) as watch:
                await watch.until_value("Temperature", 20.5)
                opened.set()
                await asyncio.Event().wait()

        serving = asyncio.create_task(serve())
        async with asyncio.timeout(PATIENCE):
            await opened.wait()
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving
        await until_gone(before)

    stage.run(run)


def test_a_reset_connection_ends_the_link(stage: Stage) -> None:
    async def run(plant: Boiler) -> None:
        before = own_tasks()
        async with FaultProxy("127.0.0.1", plant.port) as proxy:
            to = connection(proxy.port)
            async with driver.open(to) as link, watching(link, [point(to, "Temperature")]) as watch:
                await watch.until_value("Temperature", 20.5)
                proxy.cut()
                await watch.until(lambda: watch.failed is not None)
                assert isinstance(watch.failed, LinkLost)
                assert isinstance(await until_lost(link, watch.points), LinkLost)
        await until_gone(before)

    stage.run(run)


def test_a_pulled_cable_is_noticed_and_the_link_closes_all_the_same(stage: Stage) -> None:
    async def run(plant: Boiler) -> None:
        before = own_tasks()
        async with FaultProxy("127.0.0.1", plant.port) as proxy:
            to = connection(proxy.port, timeout="300ms")
            async with driver.open(to) as link, watching(link, [point(to, "Temperature")]) as watch:
                await watch.until_value("Temperature", 20.5)
                proxy.faults.half_open = True
                await watch.until(lambda: watch.failed is not None)
                assert isinstance(watch.failed, LinkLost)
        await until_gone(before)

    stage.run(run)


def test_a_request_without_an_answer_is_told_from_a_lost_link(stage: Stage) -> None:
    async def run(plant: Boiler) -> None:
        async with FaultProxy("127.0.0.1", plant.port) as proxy:
            to = connection(proxy.port, mode="poll", timeout="300ms")
            points = [point(to, "Temperature"), point(to, "Setpoint", access=Access.READ_WRITE)]
            async with driver.open(to) as link:
                (first, _) = link.plan(points)
                await link.read(first)
                proxy.faults.half_open = True
                with pytest.raises(NoResponse):
                    await link.read(first)
                with pytest.raises(DeviceError):
                    await link.write(points[1], 1.0)
                await until_lost(link, points)

    stage.run(run)


def test_a_server_that_starts_again_is_followed_again() -> None:
    async def run() -> None:
        port = free_port()
        to = connection(port)
        points = [point(to, "Temperature")]
        plant = Boiler(port)
        await plant.open()
        async with driver.open(to) as link, watching(link, points) as watch:
            await watch.until_value("Temperature", 20.5)
            await plant.close()
            await watch.until(lambda: watch.failed is not None)
        async with boiler(port) as again:
            await again.set("Temperature", 44.0)
            async with driver.open(to) as link, watching(link, points) as watch:
                await watch.until_value("Temperature", 44.0)

    asyncio.run(run())
