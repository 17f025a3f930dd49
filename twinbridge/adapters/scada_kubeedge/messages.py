"""What KubeEdge's applications read, as JSON. Pure. Timestamps are ms since 1970 in UTC.

Every value is a string. Versions stay inside KubeEdge: its edge takes them out of all that it
tells applications, and heeds none that they send. What TwinBridge knows beyond KubeEdge (a quality
that is not good, how far a desired value has come) is added to `metadata`, where those who do not
look for it pass over it.

Source: kubeedge/kubeedge, edge/pkg/devicetwin/dttype/types.go and types_helper.go.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

import orjson

from twinbridge.api.wire import Json, parse_timestamp, timestamp
from twinbridge.core.messages import DesiredState
from twinbridge.core.model import (
    MILLISECOND,
    DeviceSpec,
    PropertySpec,
    Quality,
    Sample,
    Value,
    ValueType,
    same_value,
)
from twinbridge.ports import TwinView

Twin: TypeAlias = bytes
"""One property as JSON: expected, actual, optional, metadata."""

TYPES = {
    ValueType.BOOL: "boolean",
    ValueType.INT: "int",
    ValueType.FLOAT: "float",
    ValueType.STRING: "string",
}


class Event(NamedTuple):
    """What every message begins with. `at` is UTC ns."""

    at: int
    id: str = ""

    @property
    def head(self) -> Json:
        """Without an id of its own it gets a new one, as in KubeEdge."""
        return {"event_id": self.id or str(uuid.uuid4()), "timestamp": self.at // MILLISECOND}

    @property
    def answer(self) -> Json:
        """An answer has the id of its question, if only ''."""
        return {"event_id": self.id, "timestamp": self.at // MILLISECOND}


def text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return legible(value) if isinstance(value, str) else repr(value)


def legible(said: str) -> str:
    """Half of a surrogate pair, which no JSON can carry, becomes a question mark."""
    return said if said.isascii() else said.encode("utf-8", "replace").decode()


# One property.


def twin(spec: PropertySpec, sample: Sample | None, desired: Json | None) -> Twin:
    """`desired` as REST shows it. An actual value is there once one was read."""
    content: Json = {}
    if desired is not None:
        content["expected"] = _expected(desired)
    if sample is not None and sample.value is not None:
        content["actual"] = _actual(sample, sample.value)
    content["optional"] = True
    content["metadata"] = {"type": TYPES[spec.type]}
    return encode(content)


def _expected(desired: Json) -> Json:
    metadata: Json = {"state": desired["state"]}
    if desired["timestamp"]:
        metadata["timestamp"] = parse_timestamp(desired["timestamp"], "desired") // MILLISECOND
    if desired["message"]:
        metadata["message"] = legible(str(desired["message"]))
    return {"value": text(_value(desired)), "metadata": metadata}


def _value(desired: Json) -> Value:
    value = desired["value"]
    assert isinstance(value, bool | int | float | str)  # noqa: S101 - a desired value is never null
    return value


def _actual(sample: Sample, value: Value) -> Json:
    metadata: Json = {"timestamp": sample.source_time // MILLISECOND}
    if sample.quality is not Quality.GOOD:
        metadata["quality"] = sample.quality.value
        metadata["reason"] = sample.reason.value
    return {"value": text(value), "metadata": metadata}


def difference(spec: PropertySpec, sample: Sample | None, desired: Json | None) -> str | None:
    """The expected value while it is still asked for and the actual one is another.

    What was rejected, blocked, overridden or has expired is no longer asked for; what cannot be
    read, or is a pulse, is done once it was applied.
    """
    if desired is None or not asked_for(desired):
        return None
    if desired["state"] == DesiredState.APPLIED and (spec.pulse or not spec.access.readable):
        return None
    value = _value(desired)
    actual = sample.value if sample is not None else None
    return None if same_value(value, actual, spec.tolerance) else text(value)


def asked_for(desired: Json) -> bool:
    return desired["state"] in (DesiredState.PENDING, DesiredState.APPLIED)


# A device.


def attributes(spec: DeviceSpec) -> Json:
    """What its resource says of it beside its properties."""
    said = {"model": spec.model, "protocol": spec.protocol, **dict(spec.labels)}
    return {
        name: {"value": value, "optional": True, "metadata": {"type": "string"}}
        for name, value in said.items()
    }


def state(view: TwinView) -> str:
    """`unknown` until it has answered once."""
    if view.connected:
        return "online"
    return "offline" if view.last_contact else "unknown"


def device(device_id: str, view: TwinView, twins: Mapping[str, Twin] | None = None) -> Json:
    spec = view.spec
    content: Json = {"id": device_id, "name": spec.name}
    description = dict(spec.labels).get("description")
    if description:
        content["description"] = description
    content["state"] = state(view)
    if view.last_contact:
        content["last_online"] = timestamp(view.last_contact)
    content["attributes"] = attributes(spec)
    if twins is not None:
        content["twin"] = _fragments(twins)
    return content


# Messages.


def twin_result(event: Event, twins: Mapping[str, Twin | None]) -> bytes:
    return encode({**event.answer, "twin": _fragments(twins)})


def refusal(event: Event, code: int, reason: str, more: Json | None = None) -> bytes:
    said = {"code": code, "reason": legible(reason)}
    return encode({**event.answer, **said, **(more or {})})


def document(event: Event, changes: Mapping[str, tuple[Twin | None, Twin | None]]) -> bytes:
    """`changes`: what each property was last told to be, and what it is."""
    twins = {
        name: {"last": _fragment(last), "current": _fragment(current)}
        for name, (last, current) in changes.items()
    }
    return encode({**event.head, "twin": twins})


def delta(event: Event, twins: Mapping[str, Twin], differing: Mapping[str, str]) -> bytes:
    return encode({**event.head, "twin": _fragments(twins), "delta": dict(differing)})


def state_result(event: Event, view: TwinView) -> bytes:
    return encode({**event.head, "device": state_of(view)})


def state_of(view: TwinView) -> Json:
    content: Json = {"name": view.spec.name, "state": state(view)}
    if view.last_contact:
        content["lastOnlineTime"] = timestamp(view.last_contact)
    return content


def attributes_updated(event: Event, before: Json, now: Json) -> bytes:
    """Those that are new or others; null for those that are gone."""
    changed = {name: said for name, said in now.items() if before.get(name) != said}
    gone = dict.fromkeys(name for name in before if name not in now)
    return encode({**event.head, "attributes": {**changed, **gone}})


def device_added(event: Event, content: Json) -> bytes:
    return encode({**event.head, "added_devices": [content], "removed_devices": None})


def device_removed(event: Event, device_id: str, name: str) -> bytes:
    gone = {"id": device_id, "name": name}
    return encode({**event.head, "added_devices": None, "removed_devices": [gone]})


def members(event: Event, devices: Iterable[bytes]) -> bytes:
    """`devices`: each as JSON."""
    return encode({**event.answer, "devices": [orjson.Fragment(d) for d in devices]})


def _fragments(twins: Mapping[str, Twin | None]) -> Json:
    return {name: _fragment(content) for name, content in twins.items()}


def _fragment(content: Twin | None) -> orjson.Fragment | None:
    return None if content is None else orjson.Fragment(content)


def encode(content: Json) -> bytes:
    return orjson.dumps(content)
