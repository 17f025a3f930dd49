"""Which topics a link has subscribed to, for whom, and what the broker said to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from twinbridge.mqtt import faults
from twinbridge_mqtt.message import Message
from twinbridge_mqtt.request import MqttRequest
from twinbridge_mqtt.station import Station

BATCH = 100
"""Topics in one SUBSCRIBE."""
GRACE = 500_000_000
"""How long after the subscription retained messages are waited for, ns."""
ASK_AGAIN = 60_000_000_000
"""A topic that the broker refused is asked for again after so long, ns."""


class Route:
    """A topic. Times are monotonic ns; 0: not yet."""

    __slots__ = (
        "answers",
        "asked",
        "granted",
        "last",
        "qos",
        "refused",
        "requests",
        "retry_at",
        "stations",
        "topic",
    )

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.qos = 0
        self.requests: list[MqttRequest] = []
        self.stations: list[Station] = []
        self.answers = False
        """Commands are answered here; such a topic stays subscribed."""
        self.last: Message | None = None
        self.asked = 0
        self.granted = 0
        self.refused = ""
        self.retry_at = 0

    @property
    def used(self) -> bool:
        return bool(self.requests or self.stations or self.answers)

    def due(self, now: int) -> bool:
        """Whether it is to be subscribed (again)."""
        if self.granted or self.asked:
            return False
        return now >= self.retry_at

    def settled(self, now: int) -> bool:
        """Whether a retained message would have come by now."""
        return bool(self.refused) or bool(self.granted and now >= self.granted + GRACE)

    def grant(self, code: int, now: int) -> bool:
        """Take the broker's answer; whether anything has changed by it."""
        self.asked = 0
        before = self.refused
        if faults.refused(code):
            self.refused = f"the broker does not let us read {self.topic}: {faults.reason(code)}"
            self.retry_at = now + ASK_AGAIN
        else:
            self.refused = ""
            self.granted = now
        return before != self.refused


class Routes:
    """By topic. What is new or refused waits in line for the next SUBSCRIBE."""

    def __init__(self) -> None:
        self._routes: dict[str, Route] = {}
        self._open: dict[Route, None] = {}
        """Not granted."""
        self._gone: list[str] = []
        self._asked: dict[int, list[Route]] = {}

    def get(self, topic: str) -> Route | None:
        return self._routes.get(topic)

    def use(self, topic: str, qos: int) -> Route:
        """The topic's route, subscribed to soon if it is not."""
        route = self._routes.get(topic)
        if route is None:
            route = self._routes[topic] = Route(topic)
            self._open[route] = None
        if qos > route.qos:
            route.qos = qos
            if route.granted:  # subscribing again replaces the subscription
                route.granted = 0
                self._open[route] = None
        return route

    def drop_unused(self, route: Route) -> None:
        if route.used:
            return
        self._routes.pop(route.topic, None)
        self._open.pop(route, None)
        if route.granted or route.asked:
            self._gone.append(route.topic)

    def gone(self) -> list[str]:
        """Topics to unsubscribe from; the answer is not waited for."""
        gone, self._gone = [t for t in self._gone if t not in self._routes], []
        return gone

    def batches(self, now: int) -> Iterator[Sequence[Route]]:
        """What is to be subscribed now; where devices say that they are there comes first."""
        if not self._open:
            return
        due = [route for route in self._open if route.due(now)]
        due.sort(key=lambda route: not route.stations)
        for begin in range(0, len(due), BATCH):
            yield due[begin : begin + BATCH]

    def asked(self, packet: int, routes: Sequence[Route], now: int) -> None:
        for route in routes:
            route.asked = now
        self._asked[packet] = list(routes)

    def answered(self, packet: int, codes: Sequence[int], now: int) -> list[Route]:
        """Those of the packet for which the broker's answer changes something."""
        changed = []
        for route, code in zip(self._asked.pop(packet, ()), codes, strict=False):
            if route.grant(code, now):
                changed.append(route)
            if route.granted:
                self._open.pop(route, None)
        return changed

    def unanswered(self, before: int) -> str | None:
        """A topic that was asked for before that time and not answered."""
        for routes in self._asked.values():
            if routes and routes[0].asked and routes[0].asked < before:
                return routes[0].topic
        return None
