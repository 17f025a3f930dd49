"""The alarms that stand on one edge node as the agent knows them, and what their trips hold."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from twinbridge.core.alarm import Alarm
from twinbridge.core.model import Value, same_value, shown
from twinbridge.errors import Conflict, Interlocked, UnknownName

ENDED_KEPT = 200
"""Occurrences that are over, kept in memory for a look back."""


class AlarmTable:
    def __init__(self) -> None:
        self._standing: OrderedDict[str, Alarm] = OrderedDict()
        self._ended: OrderedDict[str, Alarm] = OrderedDict()
        self._tripped: dict[str, Alarm] = {}

    def put(self, alarm: Alarm) -> bool:
        """False when it was known just so."""
        if alarm in (self._standing.get(alarm.id), self._ended.get(alarm.id)):
            return False
        self._tripped.pop(alarm.id, None)
        if alarm.over:
            self._standing.pop(alarm.id, None)
            self._ended[alarm.id] = alarm
            if len(self._ended) > ENDED_KEPT:
                self._ended.popitem(last=False)
            return True
        self._ended.pop(alarm.id, None)
        self._standing[alarm.id] = alarm
        if alarm.tripped:
            self._tripped[alarm.id] = alarm
        return True

    def is_trip(self, alarm_id: str) -> bool:
        """Whether it is a trip that stands."""
        return alarm_id in self._tripped

    def is_held(self, device: str, name: str) -> bool:
        """Whether a trip that stands holds the property."""
        held = ((d, n) for alarm in self._tripped.values() for d, n, _ in alarm.holds)
        return (device, name) in held

    def listed(self, *, ended: bool = False) -> list[Alarm]:
        """Those that stand, the newest first; with `ended` also the last ones that are over."""
        found: Iterable[Alarm] = self._standing.values()
        if ended:
            found = [*self._ended.values(), *found]
        return sorted(found, key=lambda a: (a.since, a.id), reverse=True)

    def by_instance(self) -> dict[tuple[str, str], Alarm]:
        """The newest occurrence that stands, by rule and device."""
        return {(a.rule, a.device): a for a in sorted(self._standing.values(), key=_since)}

    def find(self, alarm_id: str) -> Alarm:
        """By the id of an occurrence. Raises UnknownName, or Conflict when it is over."""
        if alarm_id in self._ended:
            raise Conflict(f"alarm {alarm_id} is over already: there is nothing left to do")
        try:
            return self._standing[alarm_id]
        except KeyError:
            raise UnknownName(
                f"no alarm has the id {alarm_id!r}; GET /alarms lists those that stand"
            ) from None

    def trips_of(self, device: str) -> list[Alarm]:
        """The trips that were raised on the device, or hold one of its properties."""
        return [
            alarm
            for alarm in self._tripped.values()
            if alarm.device == device or any(held == device for held, _, _ in alarm.holds)
        ]

    def refuse_if_held(self, device: str, name: str, value: Value) -> None:
        """Raise Interlocked when a trip holds the property at another value.

        The direction of the stop passes: writing what the trip wrote is always allowed.
        """
        for alarm in self._tripped.values():
            for held_device, held_name, held in alarm.holds:
                if (held_device, held_name) == (device, name) and not same_value(value, held):
                    raise Interlocked(
                        f"{device}/{name}: held at {shown(held)} by the trip {alarm.rule} on "
                        f"{alarm.device} (alarm {alarm.id}); reset it first, then ask again"
                    )


def _since(alarm: Alarm) -> tuple[int, str]:
    return (alarm.since, alarm.id)
