"""One connection to one broker: what its devices say, what they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic_ns, time_ns

from twinbridge.core.model import MILLISECOND, Point, Value
from twinbridge.errors import LinkLost, NoResponse
from twinbridge.mqtt.session import GATHER, GATHER_URGENT, Session, Told, open_session
from twinbridge.ports import Push, ReadRequest, ReadResult
from twinbridge_mqtt.address import bound, resolve
from twinbridge_mqtt.config import MqttConnection
from twinbridge_mqtt.message import Waiting, message
from twinbridge_mqtt.metrics import EXPIRED
from twinbridge_mqtt.request import MqttRequest, plan_requests
from twinbridge_mqtt.routes import Route, Routes
from twinbridge_mqtt.station import Presence, Station
from twinbridge_mqtt.writing import Writer

AT_ONCE = 200
"""Messages that are decoded before others get their turn: a few ms."""
CONFIRM_EVERY = 500 * MILLISECOND
SHORTEST_CONFIRM = 50 * MILLISECOND


class MqttLink:
    """Fills `twinbridge.ports.PushLink`. A message is decoded when `samples` takes it."""

    def __init__(self, connection: MqttConnection) -> None:
        self._connection = connection
        self._endpoint = connection.endpoint
        self._routes = Routes()
        self._waiting: Waiting[Route] = Waiting(connection.queue_limit)
        self._followed: dict[MqttRequest, None] = {}
        self._stations: dict[str, Station] = {}
        self._woken = asyncio.Event()
        self._confirm_every = CONFIRM_EVERY
        self._confirm_at = 0
        self._session: Session | None = None
        self._writer = Writer(connection, self._routes, self._wake)

    @property
    def session(self) -> Session:
        if self._session is None:
            raise LinkLost(f"{self._endpoint}: not open")
        return self._session

    def attach(self, session: Session) -> None:
        self._session = session
        self._writer.attach(session)

    def plan(self, points: Sequence[Point]) -> Sequence[ReadRequest]:
        return plan_requests(points)

    def follow(self, requests: Sequence[ReadRequest]) -> None:
        wanted = {r: None for r in requests if isinstance(r, MqttRequest)}
        for request in wanted.keys() - self._followed.keys():
            self._begin(request)
        for request in self._followed.keys() - wanted.keys():
            self._end(request)
        self._followed = wanted
        ages = [a for r in wanted for p in r.points if (a := bound(p).max_age)]
        shortest = min(ages, default=4 * CONFIRM_EVERY) // 4
        self._confirm_every = max(SHORTEST_CONFIRM, min(CONFIRM_EVERY, shortest))
        urgent = any(p.urgent for r in wanted for p in r.points)
        self.session.gather = GATHER_URGENT if urgent else GATHER
        self._confirm_at = 0
        self._wake()

    async def read(self, request: ReadRequest) -> ReadResult:
        """What the device last said; MQTT has no way to ask."""
        if not isinstance(request, MqttRequest):
            raise TypeError("a link reads what it has planned")
        self.session.check()
        station = self._stations.get(request.device)
        if station is not None and not station.online:
            request.forget()
            raise NoResponse(station.why)
        return request.read()

    async def write(self, point: Point, value: Value) -> None:
        """Returns once the broker has the command, or the device has answered it."""
        station = self._stations.get(point.ref.device)
        if station is not None and station.presence is Presence.OFFLINE:
            raise NoResponse(station.why)
        await self._writer.write(point, value)

    async def samples(self) -> AsyncIterator[Sequence[Push]]:
        timer: asyncio.TimerHandle | None = None
        loop = asyncio.get_running_loop()
        try:
            while True:
                self.session.check()
                now = monotonic_ns()
                self._subscribe(now)
                if pushes := self._drain(now):
                    yield pushes
                if now >= self._confirm_at and (pushes := self._confirm(now)):
                    yield pushes
                if self._waiting:
                    await asyncio.sleep(0)
                    continue
                if timer is not None:
                    timer.cancel()
                timer = loop.call_later((self._confirm_at - now) / 1e9, self._wake)
                await self._woken.wait()
                self._woken.clear()
        finally:
            if timer is not None:
                timer.cancel()

    def received(self, topic: str, payload: bytes, told: Told, *, retained: bool) -> None:
        route = self._routes.get(topic)
        if route is None:
            return
        if route.answers and not retained:
            self._writer.answered(topic, payload, told.correlation.decode("latin-1"))
        if route.requests or route.stations:
            now, expiry = monotonic_ns(), told.expiry
            heard = message(payload, time_ns(), now, retained=retained, expiry=expiry)
            self._waiting.put(route, heard)
            self._wake()

    def granted(self, packet: int, codes: Sequence[int]) -> None:
        for route in self._routes.answered(packet, codes, monotonic_ns()):
            for request in route.requests:
                request.reset(route.refused or f"no message on {route.topic} yet")
            for station in route.stations:
                station.deny(route.refused or Station.silent(station.device, route.topic))
        self._confirm_at = 0
        self._writer.granted()
        self._wake()

    def lost(self) -> None:
        self._wake()

    def _wake(self) -> None:
        self._woken.set()

    def _begin(self, request: MqttRequest) -> None:
        route = self._routes.use(request.topic, request.qos)
        route.requests.append(request)
        if route.refused:
            request.reset(route.refused)
        elif route.last is not None:
            request.take(route.last)
            request.forget()
            request.fresh = False
        availability = request.availability
        if availability is None:
            return
        station = self._stations.get(request.device)
        if station is None or station.availability != availability:
            topic = resolve(availability.topic, request.points[0])
            station = self._stations[request.device] = Station(request.device, topic, availability)
            where = self._routes.use(topic, 1)
            where.stations.append(station)
            if where.last is not None:
                station.hear(where.last)
        station.requests[request] = None
        request.station = station

    def _end(self, request: MqttRequest) -> None:
        route = self._routes.get(request.topic)
        if route is not None and request in route.requests:
            route.requests.remove(request)
            self._routes.drop_unused(route)
        station = self._stations.get(request.device)
        if station is None:
            return
        station.requests.pop(request, None)
        if not station.requests:
            del self._stations[request.device]
            where = self._routes.get(station.topic)
            if where is not None:
                where.stations.remove(station)
                self._routes.drop_unused(where)

    def _subscribe(self, now: int) -> None:
        if gone := self._routes.gone():
            self.session.unsubscribe(gone)
        for batch in self._routes.batches(now):
            packet = self.session.subscribe([(route.topic, route.qos) for route in batch])
            self._routes.asked(packet, batch, now)
        if topic := self._routes.unanswered(now - self._connection.timeout):
            raise LinkLost(f"{self._endpoint}: no answer to the subscription to {topic}")

    def _drain(self, now: int) -> list[Push]:
        pushes: list[Push] = []
        waiting = self._waiting
        for _ in range(min(len(waiting), AT_ONCE)):
            route, message = waiting.take()
            if message.expires and message.expires < now:
                EXPIRED.inc()
                continue
            if message.retained and route.last is not None and not route.last.retained:
                continue  # told again after a new subscription; what came live is newer
            route.last = message
            for station in route.stations:
                if station.hear(message):
                    pushes += self._presence(station, now)
            for request in route.requests:
                result = request.take(message)
                if request.station is None or request.station.online:
                    request.lost = ""
                    pushes.append(Push(request, result))
                else:
                    request.forget()
        return pushes

    def _presence(self, station: Station, now: int) -> list[Push]:
        """All requests of a device that has come, gone, or says what nobody understands."""
        if not station.online:
            return [self._lose(request, station.why) for request in station.requests]
        pushes = []
        for request in station.requests:
            request.forget()
            if request.heard or self._settled(request, now):
                request.lost = ""
                pushes.append(Push(request, request.confirm(now)))
        return pushes

    def _lose(self, request: MqttRequest, why: str) -> Push:
        request.lost = why
        request.forget()
        return Push(request, NoResponse(why))

    def _settled(self, request: MqttRequest, now: int) -> bool:
        route = self._routes.get(request.topic)
        return route is not None and route.settled(now)

    def _confirm(self, now: int) -> list[Push]:
        """What needs no message to hold, or to have grown old."""
        self._confirm_at = now + self._confirm_every
        pushes: list[Push] = []
        for request in self._followed:
            station = request.station
            if station is not None and not station.online:
                if request.lost != station.why and self._said(station, now):
                    pushes.append(self._lose(request, station.why))
                continue
            if request.needs_confirming(now) and (request.heard or self._settled(request, now)):
                request.lost = ""
                pushes.append(Push(request, request.confirm(now)))
            request.fresh = False
        return pushes

    def _said(self, station: Station, now: int) -> bool:
        """Whether it has said something, or had its time to."""
        where = self._routes.get(station.topic)
        return where is None or where.last is not None or where.settled(now)


@asynccontextmanager
async def open_link(connection: MqttConnection) -> AsyncIterator[MqttLink]:
    """Raises LinkLost when the broker cannot be reached in time, or refuses."""
    link = MqttLink(connection)
    async with open_session(connection.broker(), link) as session:
        link.attach(session)
        yield link
