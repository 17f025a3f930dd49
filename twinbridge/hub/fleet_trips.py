"""What the trips of a device hold, as far as the hub knows: by the Rules that it has itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from twinbridge.core.model import DesiredSpec, Value, same_value
from twinbridge.hub.kinds import Json


def stops(device: Json, rules: Iterable[Json]) -> dict[str, list[Value]]:
    """The properties of a device that trips write, each with the values that stop it."""
    found: dict[str, list[Value]] = {}
    for rule in rules:
        applied = _is_applied_to(rule["spec"]["devices"], device)
        for write in (rule["spec"].get("trip") or {}).get("write") or ():
            named = write.get("device")
            if named == device["metadata"]["name"] or (applied and not named):
                found.setdefault(write["property"], []).append(write["value"])
    return found


def _is_applied_to(devices: Json, device: Json) -> bool:
    metadata = device["metadata"]
    wanted = (devices.get("selector") or {}).get("matchLabels")
    if not wanted:
        return bool(devices.get("name") == metadata["name"])
    return bool(wanted.items() <= (metadata.get("labels") or {}).items())


def held(
    patch: Mapping[str, DesiredSpec | None], stopping: Mapping[str, Iterable[Value]]
) -> str | None:
    """The first property that would be written against a trip, if any."""
    for name, wish in patch.items():
        values = tuple(stopping.get(name, ()))
        if wish is not None and values and not any(same_value(wish.value, v) for v in values):
            return name
    return None
