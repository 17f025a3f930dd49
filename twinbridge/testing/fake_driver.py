"""A driver whose machines live in memory, for tests of everything above the driver port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from pydantic import BaseModel

from twinbridge.core.model import SECOND, Point, PropertySpec, Value
from twinbridge.errors import DeviceError, LinkLost, NoResponse, WriteRejected
from twinbridge.ports import UNCHANGED, PlannedRead, Push, Reading, ReadRequest, ReadResult


class FakeConnection(BaseModel):
    plc: str
    unit: str = ""


class FakeAddress(BaseModel):
    key: str


@dataclass(slots=True)
class FakePlc:
    """The machine behind a link. Tests set the switches; `writes` is what reached it."""

    values: dict[str, Value] = field(default_factory=dict)
    writes: list[tuple[str, Value]] = field(default_factory=list)
    reads: int = 0
    opened: int = 0
    reachable: bool = True
    silent: set[str] = field(default_factory=set)
    """Units that do not answer; '' is the only unit of a plain device."""
    refuses: set[str] = field(default_factory=set)
    """Keys whose write is refused."""
    ignores: set[str] = field(default_factory=set)
    """Keys whose write is acknowledged and has no effect."""
    gate: asyncio.Event | None = None
    """While set, a read waits for it: a request in flight that takes its time."""
    cautions: dict[str, str] = field(default_factory=dict)
    links: list[FakePushLink] | None = None
    """A list makes it a machine that speaks by itself; its open links are then in there."""
    follows: dict[str, str] = field(default_factory=dict)
    """`{"running": "run"}`: a written `run` also becomes the value of `running`."""

    def store(self, key: str, value: Value) -> None:
        self.writes.append((key, value))
        if key not in self.ignores:
            self.values[key] = value
            for follower, leader in self.follows.items():
                if leader == key:
                    self.values[follower] = value


@dataclass(frozen=True, slots=True, eq=False)
class FakeRequest:
    points: Sequence[Point]
    last: dict[Point, Value] = field(default_factory=dict)
    pushed: bool = False


@dataclass(frozen=True, slots=True)
class BoundAddress:
    key: str
    unit: str


class FakeLink:
    def __init__(self, plc: FakePlc) -> None:
        self._plc = plc

    def plan(self, points: Sequence[Point]) -> Sequence[FakeRequest]:
        return [FakeRequest(tuple(points))] if points else []

    async def read(self, request: FakeRequest) -> ReadResult:
        plc = self._plc
        plc.reads += 1
        try:
            await self._answer(request.points[0])
        except DeviceError:
            request.last.clear()
            raise
        changed = [
            Reading(p, plc.values[_bound(p).key])
            for p in request.points
            if p not in request.last or request.last[p] != plc.values[_bound(p).key]
        ]
        request.last.update((r.point, r.value) for r in changed if r.value is not None)
        return ReadResult(changed) if changed else UNCHANGED

    def cautions(self) -> Mapping[str, str]:
        return self._plc.cautions

    async def write(self, point: Point, value: Value) -> None:
        await self._answer(point)
        key = _bound(point).key
        if key in self._plc.refuses:
            raise WriteRejected(f"{point.ref}: illegal data value (03)")
        self._plc.store(key, value)

    async def _answer(self, point: Point) -> None:
        if self._plc.gate is not None:
            await self._plc.gate.wait()
        await asyncio.sleep(0)
        if not self._plc.reachable:
            raise LinkLost("connection reset")
        if _bound(point).unit in self._plc.silent:
            raise NoResponse(f"{point.ref.device}: no answer")


class FakePushLink(FakeLink):
    """A link whose machine speaks by itself: all of a device is one request."""

    def __init__(self, plc: FakePlc) -> None:
        super().__init__(plc)
        self._arrived: asyncio.Queue[Sequence[Push] | DeviceError] = asyncio.Queue()
        self.followed: Sequence[ReadRequest] = ()
        self.refused: set[str] = set()
        """Keys that are not pushed: after the next plan they are polled."""

    def plan(self, points: Sequence[Point]) -> Sequence[FakeRequest]:
        pushed = [p for p in points if _bound(p).key not in self.refused]
        polled = [p for p in points if p not in pushed]
        requests = [FakeRequest(tuple(pushed), pushed=True)] if pushed else []
        return [*requests, *super().plan(polled)]

    def follow(self, requests: Sequence[ReadRequest]) -> None:
        self.followed = requests
        self.tell(*(Push(request, self._all(request)) for request in requests))

    async def samples(self) -> AsyncIterator[Sequence[Push]]:
        while True:
            arrived = await self._arrived.get()
            if isinstance(arrived, DeviceError):
                raise arrived
            yield arrived

    def tell(self, *pushes: Push) -> None:
        """What the machine says now, in one batch."""
        self._arrived.put_nowait(pushes)

    def say(self, *readings: Reading, current: bool = False) -> None:
        """Readings of points of one followed request."""
        request = next(r for r in self.followed if readings[0].point in r.points)
        self.tell(Push(request, ReadResult(readings, current=current)))

    def fail(self, error: DeviceError) -> None:
        """The connection ends."""
        self._arrived.put_nowait(error)

    def _all(self, request: ReadRequest) -> ReadResult:
        return ReadResult([Reading(p, self._plc.values[_bound(p).key]) for p in request.points])


class FakeDriver:
    name = "fake"
    connection_model = FakeConnection
    address_model = FakeAddress

    def __init__(self, plcs: Mapping[str, FakePlc]) -> None:
        self._plcs = plcs

    def check(self, spec: PropertySpec, address: BaseModel) -> Iterable[str]:
        del spec, address
        return ()

    def overlap(self, first: object, second: object) -> str | None:
        del first, second
        return None

    def bind(self, spec: PropertySpec, connection: BaseModel, address: BaseModel) -> object:
        del spec
        return BoundAddress(
            FakeAddress.model_validate(address.model_dump()).key,
            FakeConnection.model_validate(connection.model_dump()).unit,
        )

    def endpoint(self, connection: BaseModel) -> str:
        return f"fake://{_connection(connection).plc}"

    def unit(self, connection: BaseModel) -> str:
        return _connection(connection).unit

    def outline(self, points: Sequence[Point]) -> Sequence[PlannedRead]:
        return [PlannedRead("memory", points, 1, len(points))] if points else []

    def request_timeout(self, connection: BaseModel) -> int:
        del connection
        return SECOND

    def capacity(self, connection: BaseModel) -> float | None:
        del connection
        return None

    @asynccontextmanager
    async def open(self, connection: BaseModel) -> AsyncIterator[FakeLink]:
        """A FakePushLink where the machine has `links`, which then lists the open ones."""
        plc = self._plcs[_connection(connection).plc]
        await asyncio.sleep(0)
        if not plc.reachable:
            raise LinkLost("connection refused")
        plc.opened += 1
        if plc.links is None:
            yield FakeLink(plc)
            return
        link = FakePushLink(plc)
        plc.links.append(link)
        try:
            yield link
        finally:
            plc.links.remove(link)


def _bound(point: Point) -> BoundAddress:
    if not isinstance(point.address, BoundAddress):
        raise TypeError(f"{point.ref} belongs to another driver")
    return point.address


def _connection(connection: BaseModel) -> FakeConnection:
    return FakeConnection.model_validate(connection.model_dump())
