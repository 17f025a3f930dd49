"""One property on its topic: what it last was, since when, and how long that holds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from twinbridge.api.durations import format_duration
from twinbridge.core.model import SECOND, Point, Quality, Reason, Value
from twinbridge.ports import Reading
from twinbridge_mqtt.address import bound
from twinbridge_mqtt.message import Message
from twinbridge_mqtt.metrics import AHEAD, LATE, UNREADABLE
from twinbridge_mqtt.refusal import BadPayload, Missing

NEVER: Final = 2**63
AHEAD_BY: Final = 60 * SECOND
"""A payload's time that is later than ours by more is not believed."""
SET_BACK_AFTER: Final = 30 * SECOND
"""When every value has come late for so long, the device's clock was set back."""
_GOOD, _NONE = Quality.GOOD, Reason.NONE
_new = tuple.__new__  # half of what the class itself costs, thousands of times a second


class Entry:
    """`current` is what is known of the property, also while it is not good."""

    __slots__ = (
        "_convert",
        "_dated",
        "_extract",
        "_late_since",
        "_max_age",
        "_optional",
        "_span",
        "_stamp",
        "_told",
        "_topic",
        "codec",
        "current",
        "point",
        "stale_at",
        "stamp_of",
    )

    def __init__(self, point: Point, topic: str) -> None:
        where = bound(point)
        if where.reader is None:
            raise ValueError(f"{point.ref} is not read")
        self.point = point
        self.codec = where.reader.codec
        self.stamp_of = where.reader.stamp
        self._extract = self.codec.extract
        self._convert = self.codec.convert
        self._topic = topic
        self._span = where.max_age or NEVER
        self._max_age = where.max_age
        self._optional = where.model.optional
        self._dated = where.connection.availability is not None or self.stamp_of is not None
        self._stamp = 0
        self._told = 0
        self._late_since = 0
        self.stale_at = NEVER
        self.current = self._bad(Reason.NOT_READ, f"no message on {topic} yet")

    def reset(self, why: str) -> None:
        """Nothing is known of it; `why` says so."""
        self.stale_at = NEVER
        self.current = self._bad(Reason.NOT_READ, why)

    def take(self, document: object, message: Message) -> bool:
        """Whether the message, parsed, says anything new of the property."""
        stamp_of = self.stamp_of
        try:
            value = self._convert(self._extract(document))
            stamp = 0 if stamp_of is None else self._believed(stamp_of(document), message)
        except Missing as error:
            return False if self._optional else self.refuse(error)
        except BadPayload as error:
            return self.refuse(error)
        previous = self.current
        if stamp_of is None and not message.retained:  # the common case
            self.stale_at = message.mono + self._span
            known = previous[1]
            if value == known and previous[2] is _GOOD and type(value) is type(known):
                return False
            self.current = _new(Reading, (self.point, value, _GOOD, _NONE, "", None))
            return True
        if stamp and self._late(stamp, message):
            return False
        self.current = self._judged(value, stamp, message)
        return self.current is not previous

    def _judged(self, value: Value, stamp: int, message: Message) -> Reading:
        """The value as it counts now; `current` itself if it is no news."""
        now = message.mono
        if self._max_age:
            self.stale_at = now + self._max_age
            if stamp:
                self.stale_at -= max(0, message.wall - stamp)
            elif message.retained and not self._dated:
                return self._undated(value)
            if self.stale_at <= now:
                return self._old(stamp)
        previous = self.current
        good = previous.quality is Quality.GOOD
        if good and value == previous.value and type(value) is type(previous.value):
            return previous
        return Reading(self.point, value, source_time=self._source_time(stamp, message))

    def refuse(self, error: BadPayload) -> bool:
        """The message gives no value; whatever it was before is not known to hold."""
        UNREADABLE.inc()
        self.stale_at = NEVER
        self.current = self._bad(error.reason, f"{error} (topic {self._topic})")
        return True

    def prolong(self, now: int) -> int:
        """The same again: until when it holds from now (monotonic ns)."""
        self.stale_at = now + self._span
        return self.stale_at

    def grow_old(self, now: int) -> bool:
        """Whether it has become stale by now (monotonic ns)."""
        if now < self.stale_at:
            return False
        self.stale_at = NEVER
        age = format_duration(self._max_age)
        self.current = self._bad(
            Reason.STALE, f"nothing new on {self._topic} for longer than maxAge, {age}"
        )
        return True

    @staticmethod
    def _believed(stamp: int, message: Message) -> int:
        """The device's time; where that is still to come, the time of receipt."""
        if stamp <= message.wall + AHEAD_BY:
            return stamp
        AHEAD.inc()
        return message.wall

    def _late(self, stamp: int, message: Message) -> bool:
        """Older than the last one: a replay, unless the device's clock was set back."""
        if stamp >= self._stamp:
            self._stamp = stamp
            self._late_since = 0
            return False
        LATE.inc()
        self._late_since = self._late_since or message.mono
        if message.mono - self._late_since < SET_BACK_AFTER:
            return True
        self._stamp = stamp
        self._late_since = 0
        return False

    def _source_time(self, stamp: int, message: Message) -> int | None:
        """The device's time, or None (the time of receipt) where its clock was set back."""
        if not stamp:
            return None
        if stamp >= self._told:
            self._told = stamp
            return stamp
        self._told = message.wall
        return None

    def _undated(self, value: Value) -> Reading:
        previous = self.current
        if previous.quality is Quality.UNCERTAIN and previous.value == value:
            return previous
        why = f"retained on {self._topic}: when it was measured is not known"
        return Reading(self.point, value, Quality.UNCERTAIN, Reason.STALE, why)

    def _old(self, stamp: int) -> Reading:
        self.stale_at = NEVER
        when = datetime.fromtimestamp(stamp // SECOND, UTC).isoformat().replace("+00:00", "Z")
        age = format_duration(self._max_age)
        return self._bad(
            Reason.STALE, f"the value on {self._topic} is of {when}, older than maxAge, {age}"
        )

    def _bad(self, reason: Reason, why: str) -> Reading:
        return Reading(self.point, None, Quality.BAD, reason, why)
