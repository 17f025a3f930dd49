"""What the server tells by itself: monitored items, and what a publication says of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import NamedTuple

import structlog
from asyncua import ua
from asyncua.ua.status_codes import StatusCodes
from prometheus_client import Counter

from twinbridge.core.model import MILLISECOND, Point, Quality, Reason
from twinbridge.ports import UNCHANGED, Push, Reading, ReadResult
from twinbridge_opcua.address import bound
from twinbridge_opcua.plan import Request
from twinbridge_opcua.reading import Decode, decoder, value_of
from twinbridge_opcua.status import OVERFLOW, bare, said

log = structlog.get_logger()

OVERFLOWS = Counter(
    "twinbridge_opcua_overflows_total",
    "Times that a server's queue was full, so that a value was lost before it was told.",
)
CONFIRM_EVERY = 0.5
"""Seconds between confirmations of requests of which nothing is new."""
FIRST_VALUES = 2.0
"""Seconds, besides two publications, that a server has for the first value of each node."""
NO_VALUE = "the server has not told a value yet"
_OVERFLOW_SEEN_AS = 0x400
_FILTER_REFUSED = frozenset(
    {
        StatusCodes.BadMonitoredItemFilterUnsupported,
        StatusCodes.BadMonitoredItemFilterInvalid,
        StatusCodes.BadFilterNotAllowed,
        StatusCodes.BadDeadbandFilterInvalid,
    }
)
_NO_NODE = frozenset(
    {
        StatusCodes.BadNodeIdUnknown,
        StatusCodes.BadNodeIdInvalid,
        StatusCodes.BadAttributeIdInvalid,
        StatusCodes.BadIndexRangeInvalid,
        StatusCodes.BadUserAccessDenied,
        StatusCodes.BadNotReadable,
    }
)


@dataclass(slots=True, eq=False)
class Followed:
    """A request that is pushed. It is answered first when every point of it has a reading."""

    request: Request
    patience: float
    """Until when, monotonic seconds, its first answer may wait for the last point."""
    answered: bool = False
    confirmed: float = 0.0
    last: dict[Point, Reading] = field(default_factory=dict)
    bad: dict[Point, Reading] = field(default_factory=dict)

    def note(self, reading: Reading) -> None:
        self.last[reading.point] = reading
        if reading.quality is Quality.BAD:
            self.bad[reading.point] = reading
        elif self.bad:
            self.bad.pop(reading.point, None)

    def answer(self, readings: Sequence[Reading], now: float) -> Push | None:
        """What may be said of it now, if anything."""
        if not self.answered:
            return self._first(now)
        if not readings and now - self.confirmed < CONFIRM_EVERY:
            return None
        self.confirmed = now
        if self.bad:
            told = {reading.point for reading in readings}
            readings = [*readings, *(r for p, r in self.bad.items() if p not in told)]
        return Push(self.request, ReadResult(readings, current=True) if readings else UNCHANGED)

    def _first(self, now: float) -> Push | None:
        if len(self.last) < len(self.request.points) and now < self.patience:
            return None
        for point in self.request.points:
            if point not in self.last:
                self.note(Reading(point, None, Quality.BAD, Reason.NOT_READ, NO_VALUE))
        self.answered = True
        self.confirmed = now
        return Push(self.request, ReadResult(list(self.last.values()), current=True))


class Revision(NamedTuple):
    """Sampling intervals in milliseconds; queues in values."""

    sampling_asked: float
    sampling: float
    queue_asked: int
    queue: int


@dataclass(slots=True, eq=False)
class Item:
    """A node that the server watches for us."""

    point: Point
    followed: Followed
    decode: Decode
    server_id: int = 0
    told: float = 0.0
    """When it was last heard of, monotonic seconds."""


class Subscription:
    """All monitored items of one publishing interval. `handles` numbers items over all of them."""

    def __init__(self, number: int, publishing: float, keep_alive: float) -> None:
        self.number = number
        self.publishing = publishing
        self.keep_alive = keep_alive
        """Seconds within which the server says something, even if it is that nothing changed."""
        self.heard = monotonic()
        self.items: dict[int, Item] = {}
        self._follows: dict[Followed, None] = {}
        self._lossy: set[Point] = set()

    def follow(self, followed: Iterable[Followed]) -> None:
        """From now on these; an item whose point is in none of them is to be removed."""
        self._follows = dict.fromkeys(followed)

    @property
    def follows(self) -> Iterable[Followed]:
        return self._follows

    def silent(self, patience: float) -> bool:
        """Whether the server should long have said something."""
        return monotonic() - self.heard > 3 * self.keep_alive + patience

    def take(self, published: ua.PublishResult) -> list[Push]:
        """What a publication says of the followed requests."""
        self.heard = now = monotonic()
        told: dict[Followed, list[Reading]] = {}
        for notification in published.NotificationMessage.NotificationData or ():
            if isinstance(notification, ua.DataChangeNotification):
                self._read(notification, told, now)
        return list(self._answers(told, now))

    def _read(
        self,
        notification: ua.DataChangeNotification,
        told: dict[Followed, list[Reading]],
        now: float,
    ) -> None:
        items = self.items
        for monitored in notification.MonitoredItems:
            item = items.get(monitored.ClientHandle)
            if item is None:
                continue
            value = monitored.Value
            code = value.StatusCode.value if value.StatusCode else 0
            if code & OVERFLOW == OVERFLOW:
                self._overflowed(item.point)
            item.told = now
            reading = item.decode(value)
            followed = item.followed
            followed.note(reading)
            found = told.get(followed)
            if found is None:
                told[followed] = [reading]
            else:
                found.append(reading)

    def _overflowed(self, point: Point) -> None:
        """Counted each time, but told once: what changes too fast does so all the time."""
        OVERFLOWS.inc()
        if point not in self._lossy:
            self._lossy.add(point)
            log.warning("a server's queue was full: a value was lost", property=str(point.ref))

    def _answers(self, told: dict[Followed, list[Reading]], now: float) -> Iterator[Push]:
        for followed in self._follows:
            push = followed.answer(told.get(followed, ()), now)
            if push is not None:
                yield push

    def quiet(self, since: float) -> list[Item]:
        """Items of which nothing was heard for so many seconds."""
        before = monotonic() - since
        return [item for item in self.items.values() if item.told < before]


def wanted(point: Point) -> int:
    """At what interval, ns, changes of a point are to be told."""
    return point.interval if point.urgent else bound(point).publishing


def creation(
    point: Point, node: ua.NodeId, handle: int, *, with_filter: bool = True
) -> ua.MonitoredItemCreateRequest:
    """The input of a trip is never queued: only its newest value counts, and at once."""
    address = bound(point)
    sampling = address.model.sampling_interval or point.interval
    return ua.MonitoredItemCreateRequest(
        ItemToMonitor=value_of(point, node),
        MonitoringMode=ua.MonitoringMode.Reporting,
        RequestedParameters=ua.MonitoringParameters(
            ClientHandle=ua.IntegerId(handle),
            SamplingInterval=ua.Duration(sampling / MILLISECOND),
            Filter=_filter(point) if with_filter else None,
            QueueSize=ua.Counter(1 if point.urgent else address.queue),
        ),
    )


def _filter(point: Point) -> ua.DataChangeFilter | None:
    """The deadband in the unit of the node."""
    address = bound(point)
    band = address.model.deadband
    if band is None:
        return None
    if band.percent is not None:
        kind, value = ua.DeadbandType.Percent, band.percent
    else:
        scale = 1.0 if address.model.scale is None else abs(address.model.scale)
        kind, value = ua.DeadbandType.Absolute, (band.absolute or 0.0) / scale
    return ua.DataChangeFilter(ua.DataChangeTrigger.StatusValue, ua.UInt32(kind), ua.Double(value))


def refuses_filter(point: Point, status: ua.StatusCode) -> bool:
    return bound(point).model.deadband is not None and bare(status.value) in _FILTER_REFUSED


def is_unknown(answer: ua.DataValue) -> bool:
    """Whether the node was deleted, or has become another that has to be found anew."""
    status = answer.StatusCode
    return status is not None and status.value == StatusCodes.BadNodeIdUnknown


def has_no_node(status: ua.StatusCode) -> bool:
    """Whether asking for the value would fail as well."""
    return bare(status.value) in _NO_NODE


def revision(item: Item, result: ua.MonitoredItemCreateResult) -> Revision | None:
    """What the server made of our wishes, where it is not what we asked for."""
    asked = creation(item.point, ua.NodeId(), 0).RequestedParameters
    sampling, queue = result.RevisedSamplingInterval, result.RevisedQueueSize
    if math.isclose(sampling, asked.SamplingInterval) and queue == asked.QueueSize:
        return None
    return Revision(asked.SamplingInterval, sampling, asked.QueueSize, queue)


def new_item(point: Point, followed: Followed) -> Item:
    return Item(point, followed, decoder(point), told=monotonic())


def lacking(point: Point, why: str) -> Reading:
    return Reading(point, None, Quality.BAD, Reason.NOT_READ, why)


def refusal(point: Point, status: ua.StatusCode) -> Reading:
    return lacking(point, said(status.value))
