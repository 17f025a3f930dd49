"""The alarms that stand, each retained on a topic of its rule and device, cleared when over."""

from __future__ import annotations

from collections.abc import Iterator

import structlog

from twinbridge.adapters.scada_mqtt import payload
from twinbridge.adapters.scada_mqtt.outlet import Outlet
from twinbridge.adapters.scada_mqtt.topics import Topics
from twinbridge.core.alarm import Alarm
from twinbridge.ports import Twins

log = structlog.get_logger()


class ShownAlarms:
    """With QoS 1; while the broker is behind only the newest state of each alarm waits."""

    def __init__(self, topics: Topics, twins: Twins, outlet: Outlet) -> None:
        self._topics = topics
        self._twins = twins
        self._outlet = outlet
        self._standing: dict[str, Alarm] = {}
        """By topic."""
        self._waiting: dict[str, None] = {}
        self._unshelved_at = 0
        """UTC ns when the next shelving ends, 0 for never: no change will tell of it."""

    @property
    def topics(self) -> Iterator[str]:
        return iter(self._standing)

    def show_all(self) -> None:
        """Those that stand, and no other."""
        gone = dict.fromkeys(self._standing)
        self._standing.clear()
        self._unshelved_at = 0
        for alarm in reversed(
            self._twins.alarms()
        ):  # the oldest first: a newer one takes its place
            self.take(alarm)
        self._waiting |= gone

    def take(self, alarm: Alarm) -> None:
        topic = self._topics.alarm(alarm.rule, alarm.device)
        shown = self._standing.get(topic)
        if alarm.over:
            if shown is None or shown.id != alarm.id:
                return
            del self._standing[topic]
        else:
            if shown is not None and (shown.rule, shown.device) != (alarm.rule, alarm.device):
                log.error("not shown by MQTT", what=alarm.id, why=f"{topic} shows {shown.id}")
                return
            self._standing[topic] = alarm
            self._note_shelving(alarm)
        self._waiting[topic] = None

    def tripped(self) -> frozenset[str]:
        """The devices that a trip was raised on, or holds a property of."""
        trips = [alarm for alarm in self._twins.alarms() if alarm.tripped]
        held = {device for alarm in trips for device, _, _ in alarm.holds}
        return frozenset(held.union(alarm.device for alarm in trips))

    def _note_shelving(self, alarm: Alarm) -> None:
        until = alarm.shelved_until
        if until > self._twins.now():
            self._unshelved_at = min(until, self._unshelved_at or until)

    def _end_shelvings(self, now: int) -> None:
        self._unshelved_at = 0
        for topic, alarm in self._standing.items():
            self._note_shelving(alarm)
            if 0 < alarm.shelved_until <= now:
                self._waiting[topic] = None

    def step(self) -> None:
        """Send what waits, as far as the broker takes it."""
        now = self._twins.now()
        if 0 < self._unshelved_at <= now:
            self._end_shelvings(now)
        while self._waiting and self._outlet.takes_acknowledged:
            topic = next(iter(self._waiting))
            del self._waiting[topic]
            alarm = self._standing.get(topic)
            content = payload.alarm(alarm, self._twins.node, now) if alarm else b""
            self._outlet.send_acknowledged("alarm", topic, content, retain=True)
