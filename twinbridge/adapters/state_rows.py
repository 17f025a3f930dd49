"""How desired values, alarms, samples and audit records look in a row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import orjson

from twinbridge.core.alarm import Alarm, TripState
from twinbridge.core.messages import Audit, DesiredState, Outcome
from twinbridge.core.model import Quality, Reason, Sample
from twinbridge.core.rule import Severity
from twinbridge.ports import StoredDesired


def dumps(content: object) -> bytes:
    """JSON, whatever `content` holds: a record is never refused for an odd value in it."""
    try:
        return orjson.dumps(content, default=str)
    except TypeError:  # an integer beyond 64 bits, a lone surrogate, a key that is no string
        return json.dumps(content, default=str).encode()


def loads(body: bytes) -> Any:  # noqa: ANN401 - JSON has no better type
    """The inverse of `dumps`. Raises ValueError."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return json.loads(body)


def desired_body(entry: StoredDesired) -> bytes:
    return dumps(asdict(entry))


def desired_from(body: bytes) -> StoredDesired:
    return StoredDesired(**_known(StoredDesired, loads(body)))


def alarm_body(alarm: Alarm) -> bytes:
    return dumps(asdict(alarm))


def alarm_from(body: bytes) -> Alarm:
    """Raises ValueError, TypeError or KeyError for what is no alarm."""
    known = _known(Alarm, loads(body))
    known["severity"] = Severity(known["severity"])
    known["trip"] = TripState(known["trip"])
    known["inputs"] = tuple((ref, value, quality) for ref, value, quality in known["inputs"])
    known["holds"] = tuple((device, name, value) for device, name, value in known["holds"])
    return Alarm(**known)


def outcome_body(outcome: Outcome) -> bytes:
    return dumps(tuple(outcome))


def outcome_from(body: bytes) -> Outcome:
    """Raises ValueError, TypeError for what is no outcome."""
    device, name, version, state, *rest = loads(body)
    return Outcome(device, name, version, DesiredState(state), *rest)


def reported_body(samples: Mapping[str, Sample]) -> bytes:
    return dumps({name: tuple(sample) for name, sample in samples.items()})


def reported_from(body: bytes) -> dict[str, Sample]:
    return {
        name: Sample(value, Quality(quality), Reason(reason), source_time, seq, *detail)
        for name, (value, quality, reason, source_time, seq, *detail) in loads(body).items()
    }


def audit_row(record: Audit, boot: str) -> tuple[object, ...]:
    return (
        boot,
        record.kind,
        record.subject,
        record.origin,
        dumps(record.detail),
        record.wall,
        record.monotonic,
    )


def audit_from(row: tuple[str, str, str, bytes, int, int]) -> Audit:
    kind, subject, origin, detail, wall, monotonic = row
    return Audit(kind, subject, origin, loads(detail), wall, monotonic)


def definition_body(document: Mapping[str, object] | None) -> bytes | None:
    return None if document is None else dumps(document)


def definition_from(body: bytes | None) -> dict[str, Any] | None:
    return None if body is None else dict(loads(body))


def _known(kind: type[StoredDesired | Alarm], body: dict[str, Any]) -> dict[str, Any]:
    """Leave out fields that a later version added within the same schema."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in body.items() if name in names}
