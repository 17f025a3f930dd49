"""A trip that stands: its stop writes, its interlock, and its watch over the stopped machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from twinbridge.app.metrics import DETECT_TO_ACK, DETECT_TO_VERIFIED, DETECT_TO_WRITE, TRIPS
from twinbridge.app.stop_write import Phase, StopWrite
from twinbridge.core.alarm import Alarm, TripState
from twinbridge.core.model import SECOND, PropertyRef, Sample, Value, same_value, shown

if TYPE_CHECKING:
    from twinbridge.app.journal import Journal

log = structlog.get_logger()

UNPROVABLE = "acknowledged by the device; nothing can be read that would prove the stop"


class StandingTrip:
    """Stands from the moment a rule trips until a person resets it.

    `press` hands a stop write to the link that must do it; `changed` is called with the alarm
    whenever the trip's state changed.
    """

    def __init__(
        self,
        alarm: Alarm,
        *,
        detected: int,
        press: Callable[[StopWrite], None],
        changed: Callable[[Alarm], None],
        journal: Journal,
    ) -> None:
        self.alarm = alarm
        self._detected = detected
        self._press = press
        self._changed = changed
        self._journal = journal
        self.stops: list[StopWrite] = []
        self._sent: set[StopWrite] = set()
        self._acknowledged: set[StopWrite] = set()
        self._watch: dict[PropertyRef, tuple[StopWrite, Value]] = {}
        self._running_again: list[tuple[StopWrite, str]] = []

    @property
    def watched(self) -> Iterable[PropertyRef]:
        return self._watch.keys()

    def add(self, stop: StopWrite) -> None:
        """Take charge of one stop write, and of seeing that the machine stays stopped."""
        self.stops.append(stop)
        for point, value in stop.proofs():
            self._watch[point.ref] = (stop, value)

    def press_all(self) -> None:
        for stop in self.stops:
            stop.press()
            self._press(stop)

    def stand(self) -> None:
        """After a restart: already stopped once, so only watch that it stays so."""
        for stop in self.stops:
            stop.phase = Phase.DONE

    def release(self) -> None:
        for stop in self.stops:
            stop.release()

    # What the link's task tells (stop_write.Progress).

    def sending(self, stop: StopWrite, now: int) -> None:
        if stop not in self._sent and self._detected:
            self._sent.add(stop)
            DETECT_TO_WRITE.observe((now - self._detected) / SECOND)

    def acknowledged(self, stop: StopWrite, now: int) -> None:
        if stop in self._acknowledged:
            return
        self._acknowledged.add(stop)
        if len(self._acknowledged) < len(self.stops):
            return
        if self._detected and not self.alarm.detect_to_ack:
            took = now - self._detected
            self.alarm = replace(self.alarm, detect_to_ack=took)
            DETECT_TO_ACK.observe(took / SECOND)
        if all(s.proofs() for s in self.stops):
            self._update(TripState.ACKNOWLEDGED, "")
        else:
            TRIPS.labels("acknowledged").inc()
            self._update(TripState.ACKNOWLEDGED, UNPROVABLE)

    def verified(self, now: int) -> None:
        if any(s.phase is not Phase.DONE for s in self.stops):
            return
        if self._detected and not self.alarm.detect_to_verified:
            took = now - self._detected
            self.alarm = replace(self.alarm, detect_to_verified=took)
            DETECT_TO_VERIFIED.observe(took / SECOND)
        TRIPS.labels("verified").inc()
        self._update(TripState.VERIFIED, "")
        self._detected = 0

    def missed(self, stop: StopWrite, why: str) -> None:
        if stop.tries <= stop.retries:
            return
        said = f"{stop.point.ref}: {why}; tried {stop.tries} times, trying on every second"
        if self.alarm.trip is not TripState.FAILED:
            TRIPS.labels("failed").inc()
            self._update(TripState.FAILED, said)

    # What the pipeline shows (device.Watcher).

    def saw(self, ref: PropertyRef, sample: Sample) -> None:
        stop, stopped = self._watch[ref]
        if sample.good and stop.phase is Phase.DONE and not same_value(sample.value, stopped):
            self._running_again.append((stop, f"{ref} reads {shown(sample.value)}"))

    def decide(self, now: int) -> None:
        """The machine was seen running again while the trip stands: stop it again, and say so."""
        for stop, seen in self._running_again:
            if stop.phase is not Phase.DONE:
                continue
            log.warning("machine runs while its trip stands", trip=self.alarm.id, seen=seen)
            TRIPS.labels("repeated").inc()
            self._detected = now
            self._sent.discard(stop)
            self._acknowledged.discard(stop)
            self._update(TripState.WRITING, f"seen running again: {seen}")
            stop.press()
            self._press(stop)
        self._running_again.clear()

    def _update(self, state: TripState, said: str) -> None:
        self.alarm = replace(self.alarm, trip=state, trip_message=said)
        self._journal.record(
            f"trip.{state}",
            self.alarm.id,
            f"rule:{self.alarm.rule}",
            message=said,
            detect_to_ack=self.alarm.detect_to_ack,
            detect_to_verified=self.alarm.detect_to_verified,
        )
        self._changed(self.alarm)
