"""The alarms and trips of this process: what rules decide becomes writes, records and news."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

import structlog

from twinbridge.app.clock import Clock
from twinbridge.app.device import Device
from twinbridge.app.interlock import Interlock
from twinbridge.app.journal import Journal
from twinbridge.app.metrics import TRIPS
from twinbridge.app.occurrence import (
    FAILED,
    INPUTS,
    held_writes,
    holds,
    instance_of,
    occurrence_id,
    seen_inputs,
    side_instance,
    why,
)
from twinbridge.app.rule_runner import RuleRunner
from twinbridge.app.standing_trip import StandingTrip
from twinbridge.app.stop_write import StopWrite
from twinbridge.core.alarm import Alarm, TripState
from twinbridge.core.messages import Acknowledge, ResetTrip, Shelve
from twinbridge.core.model import Point
from twinbridge.core.rule import RuleInstance, Severity, Trip, Write
from twinbridge.core.rules import Effect
from twinbridge.errors import InvalidInput, ResetRefused, UnknownName

log = structlog.get_logger()


class AlarmDesk:
    """Holds one standing alarm per rule instance.

    `press` hands a stop write to its link, `act` an automation's write, and `guard` is called
    with the devices whose interlock or watched properties have changed.
    """

    def __init__(
        self,
        devices: Mapping[str, Device],
        interlock: Interlock,
        journal: Journal,
        clock: Clock,
        *,
        press: Callable[[StopWrite], None],
        act: Callable[[RuleInstance, Write], None],
        guard: Callable[[Iterable[str]], None],
    ) -> None:
        self._devices = devices
        self._interlock = interlock
        self._journal = journal
        self._clock = clock
        self._press = press
        self._act = act
        self._guard = guard
        self._alarms: dict[str, Alarm] = {}
        self._trips: dict[str, StandingTrip] = {}
        self._resumed: list[StandingTrip] = []
        self._cautioned: dict[str, frozenset[str]] = {}

    @property
    def trips(self) -> Iterable[StandingTrip]:
        return self._trips.values()

    def tripped(self, instance: str) -> bool:
        """Whether a trip of this rule instance (`rule:device`) stands."""
        return instance in self._trips

    def restore(self, alarms: Iterable[Alarm]) -> None:
        """Take up what stood when the process ended. An unverified stop is written again.

        Whether a condition holds is not known yet: its rule raises the alarm again if it does.
        """
        for stored in alarms:
            alarm = replace(stored, active=False, cleared=stored.cleared or self._clock.wall())
            self._put(alarm)
            if alarm.tripped:
                self._resume(alarm)

    def tell_all(self) -> None:
        """Every alarm that stands, as it stands."""
        for alarm in self._alarms.values():
            self._journal.tell(alarm)

    def rebind(self) -> None:
        """After a reload: trips hold the devices as they are now defined."""
        for key, trip in list(self._trips.items()):
            if {stop.point for stop in trip.stops} != set(self._held_points(trip.alarm)):
                trip.release()
                self._interlock.release(trip.alarm.id)
                self._resume(self._alarms.get(key, trip.alarm))

    def _held_points(self, alarm: Alarm) -> Iterator[Point]:
        """What the trip holds, as far as it is served now."""
        for name, held, _ in alarm.holds:
            device = self._devices.get(name)
            if device is not None and held in device.points:
                yield device.points[held]

    def _resume(self, alarm: Alarm) -> None:
        trip = self._stand(alarm, Trip(writes=held_writes(alarm)), detected=0)
        if alarm.trip is TripState.VERIFIED:
            trip.stand()
        else:
            self._resumed.append(trip)

    def press_resumed(self) -> None:
        """Write the stops that were not verified when the process ended, once links exist."""
        while self._resumed:
            self._resumed.pop().press_all()

    def latch_unreadable(self, instance: RuleInstance) -> None:
        """The latches on disk can't be read: an armed trip counts as latched (DESIGN §5)."""
        if instance.trip is None:
            return
        alarm = replace(
            self._new(
                instance, "the stored state could not be read, so the trip counts as latched"
            ),
            active=False,
            latched=True,
            trip=TripState.VERIFIED,
            holds=holds(instance.trip),
        )
        self._alarms[instance.id] = alarm
        self._stand(alarm, instance.trip, detected=0).stand()
        self._journal.save(alarm)

    def on_effects(self, runner: RuleRunner, effects: tuple[Effect, ...], now: int) -> None:
        """Do what a rule decided; the writes of a trip go out before anything else is done."""
        instance = runner.instance
        if Effect.TRIP in effects and instance.trip is not None:
            self._trip(runner, instance.trip, now)
        for effect in effects:
            if effect is Effect.RAISE:
                self._raise(runner)
            elif effect is Effect.CLEAR:
                self.clear(instance.id)
            elif effect is Effect.WOULD_TRIP:
                self._would_trip(runner)
            elif effect is Effect.ACT and instance.act is not None:
                self._write_all(instance, instance.act.writes)
            elif effect is Effect.UNACT and instance.act is not None:
                self._write_all(instance, instance.act.on_clear)
            elif effect is Effect.BAD:
                self._side_alarm(instance, INPUTS, "its inputs are bad or stale")
            elif effect is Effect.BAD_CLEAR:
                self.clear(side_instance(instance, INPUTS))

    def caution(self, device: str, standing: Mapping[str, str]) -> None:
        """What a device's link warns of: an alarm each, cleared when it warns no more."""
        for name, message in standing.items():
            alarm = self._alarms.get(f"{name}:{device}")
            if alarm is None or not alarm.active:
                at = self._clock.wall()
                identity = occurrence_id(name, device, at)
                self._put(Alarm(identity, name, device, Severity.HIGH, message, at))
        for name in self._cautioned.get(device, frozenset()) - standing.keys():
            self.clear(f"{name}:{device}")
        self._cautioned[device] = frozenset(standing)

    async def reset(self, request: ResetTrip, runners: Mapping[str, RuleRunner]) -> None:
        """Release a trip or latched alarm; it starts nothing.

        Raises UnknownName, InvalidInput, ResetRefused, StoreUnavailable.
        """
        alarm = self._standing(request.alarm)
        if not request.reason.strip():
            raise InvalidInput("reason: a reset needs a reason, in a few words")
        if not alarm.latched:
            raise ResetRefused(f"{alarm.id} is not latched; there is nothing to reset")
        runner = runners.get(instance_of(alarm))
        if runner is not None:
            runner.check_reset()
        released = replace(
            alarm,
            latched=False,
            active=False,
            acked=True,
            acked_by=request.who,
            cleared=alarm.cleared or self._clock.wall(),
        )
        await self._journal.save_now(
            released,
            self._journal.entry("reset", alarm.id, request.who, reason=request.reason),
        )
        if runner is not None:
            self._release_latch(runner, alarm)
        self._forget(released)

    async def acknowledge(self, request: Acknowledge) -> None:
        """Raises UnknownName, StoreUnavailable."""
        alarm = self._standing(request.alarm)
        await self._change(
            replace(alarm, acked=True, acked_by=request.who),
            "acknowledge",
            request.who,
            comment=request.comment,
        )

    async def shelve(self, request: Shelve) -> None:
        """Hide an alarm for a time. Never disarms its trip. Raises UnknownName."""
        alarm = self._standing(request.alarm)
        await self._change(
            replace(alarm, shelved_until=request.until),
            "shelve",
            request.who,
            until=request.until,
            reason=request.reason,
        )

    async def _change(self, alarm: Alarm, kind: str, who: str, **detail: object) -> None:
        await self._journal.save_now(alarm, self._journal.entry(kind, alarm.id, who, **detail))
        if alarm.over:
            self._alarms.pop(instance_of(alarm), None)
        else:
            self._put(alarm)

    def _release_latch(self, runner: RuleRunner, alarm: Alarm) -> None:
        try:
            runner.reset()
        except ResetRefused:
            # The condition came back while the reset was being written: the trip stands.
            self._journal.save(alarm)
            raise

    def _forget(self, alarm: Alarm) -> None:
        key = instance_of(alarm)
        if (trip := self._trips.pop(key, None)) is not None:
            trip.release()
            self._interlock.release(alarm.id)
            self.clear(f"{alarm.rule}{FAILED}:{alarm.device}")
            self._guard(device for device, _, _ in alarm.holds)
        if (current := self._alarms.get(key)) is not None and current.id == alarm.id:
            del self._alarms[key]

    def _trip(self, runner: RuleRunner, spec: Trip, now: int) -> None:
        instance = runner.instance
        if (standing := self._trips.get(instance.id)) is not None:
            standing.press_all()
            return
        alarm = replace(
            self._new(instance, why(runner)),
            latched=True,
            trip=TripState.WRITING,
            inputs=seen_inputs(runner),
            holds=holds(spec),
        )
        self._stand(alarm, spec, detected=now).press_all()
        self._supersede(instance.id)
        self._alarms[instance.id] = alarm
        self._journal.record(
            "trip",
            alarm.id,
            f"rule:{instance.rule}",
            revision=instance.revision,
            inputs=alarm.inputs,
            writes=alarm.holds,
        )
        self._journal.save(alarm)
        self._guard(device for device, _, _ in alarm.holds)
        log.warning("trip", alarm=alarm.id, why=alarm.message)

    def _stand(self, alarm: Alarm, spec: Trip, detected: int) -> StandingTrip:
        trip = StandingTrip(
            alarm,
            detected=detected,
            press=self._press,
            changed=self._trip_changed,
            journal=self._journal,
        )
        self._trips[instance_of(alarm)] = trip
        for write in spec.writes:
            self._interlock.hold(alarm.id, write.target, write.value)
            device = self._devices.get(write.target.device)
            point = device.points.get(write.target.property) if device else None
            if device is None or point is None:
                log.error("a trip's target is not served here", target=str(write.target))
                continue
            trip.add(StopWrite(device, point, write.value, spec.verify_within, spec.retries, trip))
        return trip

    def _trip_changed(self, alarm: Alarm) -> None:
        key = instance_of(alarm)
        current = self._alarms.get(key, alarm)
        # Active, acknowledged and shelved are the desk's; the trip's progress is the trip's.
        self._put(
            replace(
                current,
                trip=alarm.trip,
                trip_message=alarm.trip_message,
                detect_to_ack=alarm.detect_to_ack,
                detect_to_verified=alarm.detect_to_verified,
            )
        )
        if alarm.trip is TripState.FAILED:
            self._put(
                replace(
                    alarm,
                    id=occurrence_id(alarm.rule + FAILED, alarm.device, self._clock.wall()),
                    rule=alarm.rule + FAILED,
                    severity=Severity.CRITICAL,
                    latched=False,
                    acked=False,
                    trip=TripState.NONE,
                    message=f"TripFailed: {alarm.trip_message}",
                    since=self._clock.wall(),
                    holds=(),
                )
            )
        elif alarm.trip is TripState.VERIFIED:
            self.clear(f"{alarm.rule}{FAILED}:{alarm.device}")

    def _raise(self, runner: RuleRunner) -> None:
        instance = runner.instance
        alarm = self._alarms.get(instance.id)
        if alarm is not None and alarm.latched:
            if not alarm.active:
                self._put(replace(alarm, active=True, cleared=0))
            return
        if alarm is not None:
            self._put(replace(alarm, acked=True, active=False, latched=False))
        self._put(
            replace(
                self._new(instance, why(runner)),
                inputs=seen_inputs(runner),
                latched=instance.latch and instance.trip is None,
            )
        )

    def _would_trip(self, runner: RuleRunner) -> None:
        TRIPS.labels("would_trip").inc()
        self._journal.record(
            "trip.would",
            runner.instance.id,
            f"rule:{runner.instance.rule}",
            inputs=seen_inputs(runner),
        )
        if (alarm := self._alarms.get(runner.instance.id)) is None:
            self._raise(runner)
            alarm = self._alarms[runner.instance.id]
        self._put(replace(alarm, trip=TripState.WOULD_TRIP, trip_message="would trip (DryRun)"))

    def clear(self, key: str) -> None:
        """The alarm's condition is over, or nobody watches it any more."""
        alarm = self._alarms.get(key)
        if alarm is not None and alarm.active:
            self._note("alarm.cleared", alarm)
            self._put(replace(alarm, active=False, cleared=self._clock.wall()))

    def _supersede(self, key: str) -> None:
        """A new occurrence takes the place of one that had cleared but was not acknowledged."""
        if (alarm := self._alarms.get(key)) is not None:
            self._put(replace(alarm, acked=True, active=False, latched=False))

    def _side_alarm(self, instance: RuleInstance, suffix: str, message: str) -> None:
        self._put(
            replace(
                self._new(instance, message),
                id=occurrence_id(instance.rule + suffix, instance.device, self._clock.wall()),
                rule=instance.rule + suffix,
            )
        )

    def _write_all(self, instance: RuleInstance, writes: Iterable[Write]) -> None:
        for write in writes:
            self._act(instance, write)

    def _new(self, instance: RuleInstance, message: str) -> Alarm:
        wall = self._clock.wall()
        return Alarm(
            id=occurrence_id(instance.rule, instance.device, wall),
            rule=instance.rule,
            device=instance.device,
            severity=instance.severity,
            message=message,
            since=wall,
        )

    def _put(self, alarm: Alarm) -> None:
        known = self._alarms.get(instance_of(alarm))
        if alarm.active and (known is None or known.id != alarm.id):
            self._note("alarm", alarm)
        if alarm.over:
            self._alarms.pop(instance_of(alarm), None)
        else:
            self._alarms[instance_of(alarm)] = alarm
        self._journal.save(alarm)

    def _note(self, kind: str, alarm: Alarm) -> None:
        self._journal.record(
            kind,
            alarm.id,
            f"rule:{alarm.rule}",
            severity=str(alarm.severity),
            message=alarm.message,
            inputs=alarm.inputs,
        )

    def _standing(self, alarm_id: str) -> Alarm:
        for alarm in self._alarms.values():
            if alarm.id == alarm_id:
                return alarm
        raise UnknownName(f"no alarm {alarm_id!r} stands; GET /alarms lists those that do")
