"""How an occurrence of an alarm is named, and what it says."""

from __future__ import annotations

import json
from collections.abc import Iterable

from twinbridge.app.rule_runner import RuleRunner
from twinbridge.core.alarm import Alarm
from twinbridge.core.model import PropertyRef, Quality, Value
from twinbridge.core.rule import RuleInstance, Trip, Write

STALE = "stale"
INPUTS = ".inputs"
FAILED = ".trip-failed"
"""Suffixes of the rule's name in alarms about the rule itself."""


def instance_of(alarm: Alarm) -> str:
    return f"{alarm.rule}:{alarm.device}"


def side_instance(instance: RuleInstance, suffix: str) -> str:
    return f"{instance.rule}{suffix}:{instance.device}"


def occurrence_id(rule: str, device: str, wall: int) -> str:
    return f"{rule}:{device}:{wall // 1000:x}"


def holds(spec: Trip) -> tuple[tuple[str, str, Value], ...]:
    return tuple((w.target.device, w.target.property, w.value) for w in spec.writes)


def held_writes(alarm: Alarm) -> tuple[Write, ...]:
    return tuple(Write(PropertyRef(d, p), v) for d, p, v in alarm.holds)


def seen_inputs(runner: RuleRunner) -> tuple[tuple[str, object, str], ...]:
    """Each input's value and quality; a stale one is bad, whatever it was."""
    return tuple(
        (str(ref), value, str(Quality.BAD) if quality == STALE else quality)
        for ref, value, quality in _seen(runner)
    )


def why(runner: RuleRunner) -> str:
    """The rule's message, or what it saw; and in any case which inputs it could not judge."""
    seen = _seen(runner)
    unsure = [part for part in seen if part[2] != Quality.GOOD]
    message = runner.instance.message
    if not message:
        return _told(seen)
    return f"{message}, or it is not known: {_told(unsure)}" if unsure else message


def _seen(runner: RuleRunner) -> list[tuple[PropertyRef, object, str]]:
    """With `stale` in place of the quality of a value that nothing confirms any more."""
    stale = runner.stale()
    return [
        (ref, i.sample.value, STALE if ref in stale else str(i.sample.quality))
        for ref, i in runner.inputs().items()
    ]


def _told(inputs: Iterable[tuple[PropertyRef, object, str]]) -> str:
    return ", ".join(
        f"{ref} is {'unknown' if value is None else json.dumps(value)} ({quality})"
        for ref, value, quality in inputs
    )
