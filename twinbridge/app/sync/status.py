"""The status of this edge's resources, as the hub is to show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from twinbridge.api.wire import Json, timestamp
from twinbridge.app.agent import Agent
from twinbridge.app.desired_entry import DEVICE_ORIGIN, desired_view
from twinbridge.core.messages import DesiredState
from twinbridge.core.model import DesiredSpec, DeviceSpec, Reason, Sample, shown
from twinbridge.ports import Ref, StoredDesired

STRETCHED = 1.5
"""Times the interval: what is less is no matter."""
NAMED = 5
"""So many resources are named in one message."""
_OPEN = (DesiredState.PENDING, DesiredState.REJECTED, DesiredState.BLOCKED)


class Conditions:
    """Remembers since when each is as it is. Times UTC ns."""

    def __init__(self) -> None:
        self._since: dict[tuple[object, str], tuple[str, int]] = {}

    def condition(
        self,
        subject: object,
        kind: str,
        *,
        holds: bool | None,
        reason: str,
        message: str,
        generation: int,
        now: int,
    ) -> Json:
        status = "Unknown" if holds is None else str(holds)
        before = self._since.get((subject, kind))
        if before is None or before[0] != status:
            before = self._since[subject, kind] = (status, now)
        return {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message[:32_768],
            "lastTransitionTime": timestamp(before[1]),
            "observedGeneration": generation,
        }

    def forget(self, subject: object) -> None:
        for key in [key for key in self._since if key[0] == subject]:
            del self._since[key]


def accepted(
    conditions: Conditions, subject: object, problem: str, generation: int, now: int, *, runs: bool
) -> Json:
    """Whether a resource is in force as the hub has it."""
    said = f"{problem} (the definition before it runs on)" if problem and runs else problem
    return conditions.condition(
        subject,
        "Accepted",
        holds=not problem,
        reason="Invalid" if problem else "Valid",
        message=said,
        generation=generation,
        now=now,
    )


def device_status(agent: Agent, spec: DeviceSpec, conditions: Conditions, first: Json) -> Json:
    """Of a device that runs; `first` is its Accepted condition."""
    now = agent.clock.wall()
    twin = agent.twin(spec.name)
    trips = agent.alarms.trips_of(spec.name)
    wished = {wish.property: _desired(agent, spec, wish) for wish in spec.desired}
    others = {
        p.spec.name: agent.desired.view(spec.name, p.spec.name)
        for p in spec.points
        if p.spec.name not in wished
    }
    desired = {**others, **wished}
    waiting = sorted(n for n, view in wished.items() if view and view["state"] in _OPEN)

    def condition(kind: str, *, holds: bool, reason: str, message: str) -> Json:
        return conditions.condition(
            ("Device", spec.name),
            kind,
            holds=holds,
            reason=reason,
            message=message,
            generation=spec.generation,
            now=now,
        )

    status: Json = {
        "observedGeneration": spec.generation,
        "conditions": [
            first,
            condition(
                "Connected",
                holds=twin.connected,
                reason="Answers" if twin.connected else "NoContact",
                message="" if twin.connected else twin.message,
            ),
            condition(
                "Synced",
                holds=not waiting,
                reason="NotApplied" if waiting else "AsDesired",
                message=f"not applied: {', '.join(waiting)}" if waiting else "",
            ),
            condition(
                "Tripped",
                holds=bool(trips),
                reason="Tripped" if trips else "NoTrip",
                message="; ".join(f"{a.rule}: {a.message} (alarm {a.id})" for a in trips),
            ),
        ],
        "twins": _twins(spec, twin.reported, desired),
    }
    if twin.last_contact:
        status["lastContact"] = timestamp(twin.last_contact)
    return status


def rule_status(
    agent: Agent, name: str, generation: int, conditions: Conditions, first: Json
) -> Json:
    """Of a rule; `first` is its Accepted condition."""
    alarms = [alarm for alarm in agent.alarms.by_instance().values() if alarm.rule == name]
    trips = sorted({alarm.device for alarm in alarms if alarm.tripped})
    tripped = conditions.condition(
        ("Rule", name),
        "Tripped",
        holds=bool(trips),
        reason="Tripped" if trips else "NoTrip",
        message=", ".join(trips),
        generation=generation,
        now=agent.clock.wall(),
    )
    return {
        "observedGeneration": generation,
        "conditions": [first, tripped],
        "instances": {"count": len(agent.rules.get(name, ())), "alarms": len(alarms)},
    }


def stretched(cycle: float, interval: float, per_second: float, bytes_per_second: float) -> str:
    """What to say when statuses come far later than they should, or ''. Seconds."""
    if cycle < STRETCHED * interval:
        return ""
    return (
        f"more statuses change than {per_second:g} writes and {bytes_per_second / 1000:g} kB a"
        f" second can tell: each is told about every {cycle:.0f} s in place of {interval:g} s"
    )


def not_accepted(problems: Iterable[Ref]) -> str:
    """The first few of the resources that are not in force as the hub has them, or ''."""
    names = sorted("/".join(ref) for ref in problems)
    if not names:
        return ""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"not accepted: {', '.join(names[:NAMED])}{more}"


def _twins(
    spec: DeviceSpec, reported: Mapping[str, Sample], desired: Mapping[str, Json | None]
) -> Sequence[Json]:
    twins: list[Json] = []
    for point in spec.points:
        name = point.spec.name
        twin: Json = {"name": name}
        if name in reported:
            twin["reported"] = _reported(reported[name])
        if (wanted := desired.get(name)) is not None:
            twin["desired"] = {k: v for k, v in wanted.items() if v is not None}
        if len(twin) > 1:
            twins.append(twin)
    return twins


def _reported(sample: Sample) -> Json:
    view: Json = {"quality": sample.quality.value}
    if sample.value is not None:
        view["value"] = sample.value
    if sample.reason is not Reason.NONE:
        view["reason"] = sample.reason.value
    if sample.source_time > 0:
        view["timestamp"] = timestamp(sample.source_time)
    return view


def _desired(agent: Agent, spec: DeviceSpec, wish: DesiredSpec) -> Json:
    """What became of a wish of the resource."""
    entry = agent.desired.entry(spec.name, wish.property)
    if entry is not None and entry.origin == DEVICE_ORIGIN:
        return _without_end(desired_view(entry))
    if entry is None:
        return {"value": wish.value, "state": DesiredState.PENDING.value}
    return {
        "value": wish.value,
        "version": entry.version,
        "origin": DEVICE_ORIGIN,
        "state": DesiredState.OVERRIDDEN.value,
        "message": _override(entry),
        "timestamp": timestamp(entry.changed),
    }


def _override(entry: StoredDesired) -> str:
    until = f" until {timestamp(entry.valid_until)}" if entry.valid_until else ""
    said = f"{entry.origin} desires {shown(entry.value)}{until} ({entry.state})"
    return f"{said}; withdraw that, or give another value here once it is over"


def _without_end(view: Json) -> Json:
    return {key: value for key, value in view.items() if key != "validUntil"}
