"""The twins of a fleet, as the REST twin API shows them, made of resources: pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from pydantic import ValidationError

from twinbridge.api.base import parse_time
from twinbridge.api.device_resources import DeviceModelSpec
from twinbridge.api.property_value import refusal, typed
from twinbridge.api.wire import timestamp
from twinbridge.core.model import SECOND, DesiredSpec, PropertySpec, finite
from twinbridge.errors import InvalidDesired
from twinbridge.hub.kinds import Json

Specs = Mapping[str, PropertySpec]

_ALARM: Final = re.compile(r"\(alarm ([^)]+)\)")
_WAITS: Final = "the edge has not taken it up yet"


def model_specs(model: Json | None) -> Specs:
    """The properties of a DeviceModel; none of one that is not there, or not sound."""
    try:
        spec = DeviceModelSpec.model_validate((model or {}).get("spec"))
    except ValidationError:
        return {}
    return {
        p.name: PropertySpec(p.name, p.type, p.access, p.unit, p.minimum, p.maximum, p.tolerance)
        for p in spec.properties
    }


def device_specs(device: Json, model: Specs) -> Specs:
    """The same with the ranges that the Device has of its own."""
    found = dict(model)
    for own in device["spec"].get("properties") or ():
        known = found.get(own["name"])
        if known is not None:
            found[known.name] = replace(
                known,
                minimum=own.get("minimum", known.minimum),
                maximum=own.get("maximum", known.maximum),
            )
    return found


def etag(device: Json) -> str:
    """Changes with what is asked of the device, not with what it reports."""
    metadata = device["metadata"]
    return f'"{metadata["uid"][:8]}-{metadata.get("generation", 1)}"'


def silent_since(lease: Json | None, now: int) -> str:
    """When an edge was last heard whose lease has run out; '' for all others. `now` UTC ns."""
    spec = (lease or {}).get("spec") or {}
    renewed = spec.get("renewTime")
    if not renewed:
        return ""
    try:
        over = parse_time(renewed) + int(spec.get("leaseDurationSeconds") or 0) * SECOND
    except ValueError:
        return ""
    return str(renewed) if over < now else ""


def condition(device: Json, kind: str) -> Json:
    """A condition of the status; empty where there is none."""
    found: Sequence[Json] = (device.get("status") or {}).get("conditions") or ()
    return next((c for c in found if c.get("type") == kind), {})


def holds(device: Json, kind: str) -> bool:
    return bool(condition(device, kind).get("status") == "True")


def device_view(device: Json, specs: Specs, silent: str = "") -> Json:
    """As `GET /devices/{name}` of an edge. `silent`: since when its edge is not heard."""
    metadata, spec = device["metadata"], device["spec"]
    status = device.get("status") or {}
    said = f"{spec['nodeName']} was last heard at {silent}" if silent else ""
    tripped = condition(device, "Tripped")
    return {
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "model": spec["modelRef"]["name"],
        "node": spec["nodeName"],
        "protocol": next(iter(spec["connection"]), ""),
        "labels": metadata.get("labels") or {},
        "connected": holds(device, "Connected") and not silent,
        "lastContact": status.get("lastContact") or None,
        "message": said or condition(device, "Connected").get("message", ""),
        "tripped": holds(device, "Tripped"),
        "trips": _ALARM.findall(tripped.get("message", "")) if holds(device, "Tripped") else [],
        "version": metadata.get("generation", 1),
        "properties": dict(_properties(device, specs, stale=bool(silent))),
    }


def _properties(device: Json, specs: Specs, *, stale: bool) -> Iterator[tuple[str, Json]]:
    twins = {t["name"]: t for t in (device.get("status") or {}).get("twins") or ()}
    asked = {entry["name"]: entry for entry in device["spec"].get("desired") or ()}
    for name, spec in specs.items():
        twin = twins.get(name, {})
        view: Json = {
            "reported": _reported(twin.get("reported"), stale=stale)
            if spec.access.readable
            else None,
            "desired": _desired(device, asked.get(name), twin.get("desired")),
            "type": spec.type.value,
            "access": spec.access.value,
        }
        limits = {"unit": spec.unit or None, "minimum": spec.minimum, "maximum": spec.maximum}
        yield name, view | {key: value for key, value in limits.items() if value is not None}


def _reported(twin: Json | None, *, stale: bool) -> Json:
    """A value of an edge that is not heard is never good."""
    if not twin:
        return {"value": None, "quality": "bad", "reason": "not_read", "timestamp": None}
    view = {"value": None, "timestamp": None, **twin}
    if stale and view["quality"] == "good":
        view |= {"quality": "uncertain", "reason": "stale"}
    return view


def _desired(device: Json, asked: Json | None, told: Json | None) -> Json | None:
    """What the edge says of it, until something newer is asked than it has seen."""
    generation = device["metadata"].get("generation", 1)
    seen = (device.get("status") or {}).get("observedGeneration", 0)
    if asked is None or (told and (generation <= seen or _is_of(told, asked))):
        return told
    waits = {
        "value": asked["value"],
        "version": generation,
        "origin": "device",
        "state": "pending",
        "message": _WAITS,
        "timestamp": None,
    }
    return waits | {k: v for k, v in asked.items() if k == "validUntil"}


def _is_of(told: Json, asked: Json) -> bool:
    given_since = (asked.get("givenAt") or "") > (told.get("timestamp") or "")
    return told.get("value") == asked["value"] and not given_since


def check_wishes(patch: Mapping[str, DesiredSpec | None], specs: Specs, device: str) -> None:
    """Raises InvalidDesired for the first that no property has, or can have."""
    for name, wish in patch.items():
        spec = specs.get(name)
        if spec is None:
            raise InvalidDesired(
                f"{device} has no property {name!r}",
                field=name,
                allowed=", ".join(n for n, s in specs.items() if s.access.writable) or "none",
            )
        wrong = refusal(spec, wish.value) if wish is not None else None
        if wrong:
            raise InvalidDesired(f"{name}: {wrong}", field=name, allowed=_allowed(spec))
        if wish is not None and not finite(wish.value):
            raise InvalidDesired(f"{name}: no number", field=name, allowed=_allowed(spec))


def _allowed(spec: PropertySpec) -> str:
    if not spec.access.writable:
        return "a property that is not ReadOnly"
    bounds = [
        f"{word} {limit:g}"
        for word, limit in (("from", spec.minimum), ("to", spec.maximum))
        if limit is not None
    ]
    return " ".join([spec.type.value, *bounds])


def merged(
    desired: Iterable[Json], patch: Mapping[str, DesiredSpec | None], specs: Specs, now: int
) -> list[Json]:
    """`spec.desired` after a patch; None withdraws. `now` UTC ns.

    `validFor` counts from here on, not from when an edge hears of it: it becomes a time. What is
    desired is noted as given now: also the same value a second time is a new command.
    """
    entries = {entry["name"]: entry for entry in desired}
    for name, wish in patch.items():
        entries.pop(name, None)
        if wish is not None:
            entries[name] = _entry(wish, specs[name], now)
    return list(entries.values())


def _entry(wish: DesiredSpec, spec: PropertySpec, now: int) -> Json:
    value = typed(spec, wish.value)
    entry: Json = {"name": wish.property, "value": value, "givenAt": timestamp(now)}
    until = now + wish.valid_for if wish.valid_for is not None else wish.valid_until
    if until is not None:
        if until <= now:
            field = f"{wish.property}.validUntil"
            raise InvalidDesired(f"{field}: it is over", field=field, allowed="a time to come")
        entry["validUntil"] = timestamp(until)
    return entry
