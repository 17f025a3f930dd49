"""The points of one device on one topic: a message answers them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from twinbridge.core.model import Point, Quality
from twinbridge.ports import UNCHANGED, Reading, ReadResult
from twinbridge_mqtt.address import bound, resolve
from twinbridge_mqtt.config import Availability
from twinbridge_mqtt.entry import NEVER, Entry
from twinbridge_mqtt.message import Message
from twinbridge_mqtt.parsing import Parse
from twinbridge_mqtt.refusal import BadPayload

if TYPE_CHECKING:
    from twinbridge_mqtt.station import Station

_GOOD = Quality.GOOD
_Group: TypeAlias = tuple[Parse, list[Entry]]


class MqttRequest:
    """Fills `twinbridge.ports.ReadRequest`; remembers what its topic last said."""

    __slots__ = (
        "_ages",
        "_bad",
        "_entries",
        "_groups",
        "_payload",
        "_plain",
        "_stale_at",
        "_tell_all",
        "_unread",
        "device",
        "fresh",
        "lost",
        "points",
        "qos",
        "station",
        "topic",
    )
    pushed = True

    def __init__(self, topic: str, points: Sequence[Point]) -> None:
        self.topic = topic
        self.points = points
        self.qos = max(bound(p).model.qos for p in points)
        self._entries = [Entry(point, topic) for point in points]
        self._groups = _groups(self._entries)
        self._plain = all(entry.stamp_of is None for entry in self._entries)
        self._ages = any(bound(p).max_age for p in points)
        self._payload: bytes | None = None
        self._stale_at = NEVER
        self._bad: dict[Point, Reading] = {e.point: e.current for e in self._entries}
        self._tell_all = True
        self._unread = True
        self.fresh = False
        """A message came since the last confirmation."""
        self.device = points[0].ref.device
        self.station: Station | None = None
        """Its device, where that says whether it is there."""
        self.lost = ""
        """Why the device was last said to be lost, '' while it is not."""

    @property
    def availability(self) -> Availability | None:
        return bound(self.points[0]).connection.availability

    @property
    def heard(self) -> bool:
        """Whether any message has come."""
        return self._payload is not None

    def reset(self, why: str) -> None:
        """Nothing is known of the points; `why` says so."""
        self._payload = None
        self._stale_at = NEVER
        for entry in self._entries:
            entry.reset(why)
        self._bad = {e.point: e.current for e in self._entries}
        self._tell_all = self._unread = True

    def forget(self) -> None:
        """After an error the next answer delivers every point."""
        self._tell_all = True

    def take(self, message: Message) -> ReadResult:
        """What a message says."""
        self.fresh = self._unread = True
        same = message.payload == self._payload and self._plain
        if same and not self._bad and not self._tell_all:
            self._prolong(message.mono)
            return UNCHANGED
        self._payload = message.payload
        changed: list[Reading] = []
        for parse, entries in self._groups:
            document = _parsed(parse, message)
            if isinstance(document, BadPayload):
                changed += [entry.current for entry in entries if entry.refuse(document)]
            else:
                changed += [entry.current for entry in entries if entry.take(document, message)]
        self._stale_at = min([entry.stale_at for entry in self._entries])
        return self._answer(changed)

    def confirm(self, now: int) -> ReadResult:
        """What holds now (monotonic ns), without a message: the same, or older than it may be."""
        if now < self._stale_at:
            return self._answer([])
        aged = [entry.current for entry in self._entries if entry.grow_old(now)]
        self._stale_at = min(entry.stale_at for entry in self._entries)
        return self._answer(aged)

    def needs_confirming(self, now: int) -> bool:
        """Not where a message came since the last time, unless something has grown old."""
        return not self.fresh or now >= self._stale_at

    def read(self) -> ReadResult:
        """What it last said, in full if that came since the last read."""
        if self._unread:
            self._unread = False
            return ReadResult([entry.current for entry in self._entries])
        return ReadResult(tuple(self._bad.values())) if self._bad else UNCHANGED

    def _prolong(self, now: int) -> None:
        """The same again: it holds for another maxAge."""
        if self._ages:
            self._stale_at = min([entry.prolong(now) for entry in self._entries])

    def _answer(self, changed: Sequence[Reading]) -> ReadResult:
        """What is new, and every point that is not good: it would pass for confirmed."""
        bad = self._bad
        for reading in changed:
            if reading[2] is not _GOOD:
                bad[reading.point] = reading
            elif bad:
                bad.pop(reading.point, None)
        if self._tell_all:
            self._tell_all = False
            return ReadResult([entry.current for entry in self._entries])
        if not bad:
            return ReadResult(changed) if changed else UNCHANGED
        fresh = {reading.point for reading in changed}
        return ReadResult([*changed, *(r for p, r in bad.items() if p not in fresh)])


def _parsed(parse: Parse, message: Message) -> object:
    if message.refused:
        return BadPayload(message.refused)
    try:
        return parse(message.payload)
    except BadPayload as error:
        return error


def _groups(entries: Sequence[Entry]) -> list[_Group]:
    """By format, so that a payload is parsed once for all that read it alike."""
    groups: dict[tuple[str, str], _Group] = {}
    for entry in entries:
        groups.setdefault(entry.codec.form, (entry.codec.parse, []))[1].append(entry)
    return list(groups.values())


def plan_requests(points: Sequence[Point]) -> list[MqttRequest]:
    """One request per topic. The points are of one device."""
    topics: dict[str, list[Point]] = {}
    for point in points:
        template = bound(point).model.topic
        if template is not None:
            topics.setdefault(resolve(template, point), []).append(point)
    return [MqttRequest(topic, tuple(found)) for topic, found in topics.items()]
