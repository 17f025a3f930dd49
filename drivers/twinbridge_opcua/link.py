"""One session as the link that the worker serves."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import structlog
from asyncua import ua

from twinbridge.core.model import SECOND, Point, Value
from twinbridge.errors import (
    DeviceBusy,
    DeviceError,
    DeviceFault,
    LinkLost,
    NoResponse,
    WriteRejected,
)
from twinbridge.ports import Push, Reading, ReadRequest, ReadResult
from twinbridge_opcua.address import bound
from twinbridge_opcua.config import OpcUaConnection
from twinbridge_opcua.following import Following
from twinbridge_opcua.plan import AT_ONCE, Request, arrange
from twinbridge_opcua.reading import Decode, decoder, value_of
from twinbridge_opcua.resolving import Resolver
from twinbridge_opcua.session import Session, open_session
from twinbridge_opcua.subscription import is_unknown, lacking
from twinbridge_opcua.trust.security import cautions
from twinbridge_opcua.writing import Writer

log = structlog.get_logger()

PUBLICATIONS = 8
"""Publications that wait here; then the server waits, and keeps what its queues hold."""
LOOK_EVERY = 1.0
"""Seconds between looks for missing and for quiet nodes."""


class OpcUaLink:
    """Fills `twinbridge.ports.PushLink` and `Cautious`.

    The worker's two tasks use it, and one of its own (`tend`) that keeps the server's
    subscriptions to what is followed, so that neither waits for the other's requests.
    """

    def __init__(self, session: Session, connection: OpcUaConnection) -> None:
        self._session = session
        self._connection = connection
        self._resolver = Resolver(session)
        self._writer = Writer(session)
        self._following = Following(session, self._resolver, self._published)
        self._decoders: dict[Point, Decode] = {}
        self._publications: deque[ua.PublishResult] = deque()
        self._pushes: list[Push] = []
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._wanted: Sequence[Request] | None = None
        self._asked = asyncio.Event()
        self._failed: DeviceError | None = None

    def plan(self, points: Sequence[Point]) -> Sequence[ReadRequest]:
        return arrange(points, self._following.not_monitored, min(AT_ONCE, self._session.portion))

    def follow(self, requests: Sequence[ReadRequest]) -> None:
        self._wanted = [_own(request) for request in requests]
        self._asked.set()

    async def samples(self) -> AsyncIterator[Sequence[Push]]:
        while True:
            await self._news.wait()
            self._news.clear()
            if self._failed is not None:
                raise self._failed
            batch: list[Push] = []
            while self._publications:
                batch += self._told(self._publications.popleft())
            # What was asked for came after what had been told by then.
            batch += self._pushes
            self._pushes = []
            self._room.set()
            if batch:
                yield batch

    async def read(self, request: ReadRequest) -> ReadResult:
        points = [p for p in request.points if bound(p).place is not None]
        await self._resolver.resolve(points)
        asked = {p: node for p in points if (node := self._resolver.node(p)) is not None}
        answers = await self._session.read([value_of(p, node) for p, node in asked.items()])
        readings = [self._decoded(p, a) for p, a in zip(asked, answers, strict=True)]
        for reading, answer in zip(readings, answers, strict=True):
            if not request.pushed and is_unknown(answer):
                self._resolver.lack(reading.point, reading.message)
        readings += [lacking(p, self._resolver.missing(p)) for p in points if p not in asked]
        return ReadResult(readings, current=True)

    async def write(self, point: Point, value: Value) -> None:
        method = bound(point).model.method
        if method is not None:
            await self._writer.call(point, method, value)
            return
        await self._resolver.resolve([point])
        node = self._resolver.node(point)
        if node is None:
            raise WriteRejected(f"{point.ref}: {self._resolver.missing(point)}")
        await self._writer.write(point, node, value)

    def cautions(self) -> Mapping[str, str]:
        return cautions(self._connection)

    async def tend(self) -> None:
        """Do what `follow` asks, look after what is missing, watch for silence; never returns."""
        try:
            while True:
                await self._wait()
                self._still_there()
                if self._wanted is not None:
                    await self._take_up(self._wanted)
                else:
                    await self._look_after()
        except DeviceError as error:
            self._fail(error if isinstance(error, LinkLost) else LinkLost(str(error)))
        except Exception as error:
            # A link that nobody tends would show old values for ever.
            log.exception("the link cannot go on", endpoint=self._session.endpoint)
            self._fail(LinkLost(f"{self._session.endpoint}: {error!r}"))

    async def _take_up(self, wanted: Sequence[Request]) -> None:
        """Follow these; a server that is slow or busy is asked again at the next look."""
        try:
            pushes = await self._following.follow(wanted)
        except (NoResponse, DeviceBusy) as error:
            log.debug("asked again", endpoint=self._session.endpoint, why=str(error))
            return
        if self._wanted is wanted:
            self._wanted = None
        self._push(pushes)
        with suppress(NoResponse, DeviceBusy, DeviceFault):  # then a write will ask
            await self._writer.learn(self._writable(wanted))

    async def _look_after(self) -> None:
        """What fails here fails again or is over at the next look; the values are told anyway."""
        try:
            self._push(await self._following.look_after())
        except (NoResponse, DeviceBusy, DeviceFault) as error:
            log.debug("looked in vain", endpoint=self._session.endpoint, why=str(error))

    def _writable(self, requests: Sequence[Request]) -> dict[Point, ua.NodeId]:
        points = [p for request in requests for p in request.points if p.spec.access.writable]
        found = {p: self._resolver.node(p) for p in points if bound(p).model.method is None}
        return {point: node for point, node in found.items() if node is not None}

    def _fail(self, lost: LinkLost) -> None:
        self._failed = lost
        self._news.set()

    async def _wait(self) -> None:
        """Until there is something to follow, or it is time to look."""
        lost = asyncio.ensure_future(self._session.lost.wait())
        asked = asyncio.ensure_future(self._asked.wait())
        try:
            await asyncio.wait(
                (lost, asked), timeout=LOOK_EVERY, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            lost.cancel()
            asked.cancel()
        self._asked.clear()

    def _still_there(self) -> None:
        if self._session.lost.is_set():
            raise LinkLost(f"{self._session.endpoint}: the server has closed the connection")
        self._following.must_have_been_heard(self._connection.timeout / SECOND)

    def _push(self, pushes: Sequence[Push]) -> None:
        if pushes:
            self._pushes += pushes
            self._news.set()

    async def _published(self, published: ua.PublishResult) -> None:
        """The library's callback; while it waits here the next publication is not asked for."""
        self._publications.append(published)
        self._news.set()
        while len(self._publications) >= PUBLICATIONS:
            self._room.clear()
            await self._room.wait()

    def _told(self, published: ua.PublishResult) -> list[Push]:
        for subscription in self._following.subscriptions.values():
            if subscription.number == published.SubscriptionId:
                self._watch_over(published)
                return subscription.take(published)
        return []

    def _watch_over(self, published: ua.PublishResult) -> None:
        """A subscription that the server gives up ends the link, which is then built anew."""
        for notification in published.NotificationMessage.NotificationData or ():
            if isinstance(notification, ua.StatusChangeNotification):
                raise LinkLost(
                    f"{self._session.endpoint}: the server ended the subscription"
                    f" ({notification.Status.name})"
                )

    def _decoded(self, point: Point, answer: ua.DataValue) -> Reading:
        decode = self._decoders.get(point)
        if decode is None:
            decode = self._decoders[point] = decoder(point)
        return decode(answer)


def _own(request: ReadRequest) -> Request:
    if not isinstance(request, Request):
        raise TypeError("a link follows what it has planned")
    return request


@asynccontextmanager
async def open_link(connection: OpcUaConnection, endpoint: str) -> AsyncIterator[OpcUaLink]:
    """Raises LinkLost when there is no session in time."""
    async with open_session(connection, endpoint) as session:
        link = OpcUaLink(session, connection)
        tending = asyncio.create_task(link.tend(), name=f"tend {endpoint}")
        try:
            yield link
        finally:
            tending.cancel()
            await asyncio.wait([tending])
