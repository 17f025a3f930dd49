"""A driver with something between it and the app: to take notes, or to break it on purpose."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from pydantic import BaseModel

from twinbridge.core.model import Point, Value
from twinbridge.ports import Driver, Link, Push, PushLink, ReadRequest, ReadResult


class WrappedLink:
    """Passes everything on. What a subclass does to `told` counts for answers and pushes alike."""

    def __init__(self, link: Link) -> None:
        self.inner = link

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the inner link has
        found = getattr(self.inner, name)
        return self._heard if name == "samples" else found

    def told(self, request: ReadRequest, result: ReadResult) -> ReadResult:
        del request
        return result

    def plan(self, points: Sequence[Point]) -> Sequence[ReadRequest]:
        return self.inner.plan(points)

    async def read(self, request: ReadRequest) -> ReadResult:
        return self.told(request, await self.inner.read(request))

    async def write(self, point: Point, value: Value) -> None:
        await self.inner.write(point, value)

    async def _heard(self) -> AsyncIterator[Sequence[Push]]:
        async for batch in cast("PushLink", self.inner).samples():
            yield [
                Push(request, self.told(request, result))
                if isinstance(result, ReadResult)
                else Push(request, result)
                for request, result in batch
            ]


class WrappedDriver:
    """A driver whose links are wrapped."""

    def __init__(self, driver: Driver, wrap: Callable[[Link], WrappedLink]) -> None:
        self._driver = driver
        self._wrap = wrap

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the driver has
        return getattr(self._driver, name)

    @asynccontextmanager
    async def open(self, connection: BaseModel) -> AsyncIterator[Link]:
        async with self._driver.open(connection) as link:
            yield self._wrap(link)


def wrapped(driver: Driver, wrap: Callable[[Link], WrappedLink]) -> Driver:
    return cast("Driver", WrappedDriver(driver, wrap))
