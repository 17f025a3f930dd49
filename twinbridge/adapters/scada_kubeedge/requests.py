"""What KubeEdge's applications and mappers ask, checked. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from pydantic_core import from_json

from twinbridge.core.model import DeviceSpec, PropertySpec, Value, ValueType

LARGEST = 65_536
"""Bytes of a request."""

BAD_REQUEST = 400
NOT_FOUND = 404
CONFLICT = 409
INTERNAL_ERROR = 500

Kind = TypeVar("Kind", bound=BaseModel)

_SHOWN = 80
_LONGEST_REASON = 500
_WHOLE = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,4})?", re.ASCII)


class Refused(Exception):
    """What the answer says: a code of KubeEdge's, and why; `event_id` of the question.

    `malformed`: KubeEdge could not read it at all.
    """

    def __init__(
        self, code: int, reason: str, event_id: str = "", *, malformed: bool = False
    ) -> None:
        super().__init__(reason)
        self.malformed = malformed
        self.code = code
        self.reason = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}…"
        self.event_id = event_id


class _Request(BaseModel):
    """As Go reads it: unknown fields are passed over, null is as if left out."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class Question(_Request):
    event_id: str | None = None
    timestamp: int | None = None


class ExpectedValue(_Request):
    value: str | None = None


class PropertyUpdate(_Request):
    expected: ExpectedValue | None = None
    actual: JsonValue = None


class TwinUpdate(Question):
    twin: dict[str, PropertyUpdate | None] | None = None


class StateUpdate(Question):
    state: str | None = None


def question(payload: bytes) -> str:
    """The event id of a question that has nothing else. Raises Refused."""
    return _event_id(_json(payload))


def twin_update(payload: bytes) -> tuple[str, Mapping[str, PropertyUpdate | None]]:
    """The event id, and what is asked by property. Raises Refused."""
    content = _json(payload)
    event_id = _event_id(content)
    update = _checked(TwinUpdate, content, event_id)
    if update.twin is None:
        raise Refused(
            BAD_REQUEST, "twin: missing; allowed: an object by property", event_id, malformed=True
        )
    return event_id, update.twin


def state_update(payload: bytes) -> tuple[str, str]:
    """The event id and the state. Raises Refused."""
    content = _json(payload)
    event_id = _event_id(content)
    return event_id, (_checked(StateUpdate, content, event_id).state or "").lower()


def patch(
    spec: DeviceSpec, asked: Mapping[str, PropertyUpdate | None], event_id: str
) -> dict[str, Value | None]:
    """As a merge patch of desired values; null withdraws. Raises Refused."""
    points = {point.spec.name: point.spec for point in spec.points}
    wishes: dict[str, Value | None] = {}
    for name, update in asked.items():
        if name not in points:
            what = f"device {spec.name!r} has no property {_short(name)}"
            raise Refused(NOT_FOUND, what, event_id)
        wishes[name] = _wish(points[name], update, event_id)
    return wishes


def _wish(spec: PropertySpec, update: PropertyUpdate | None, event_id: str) -> Value | None:
    if update is None:
        return None
    if update.actual is not None:
        what = "is read from the device itself; allowed: expected alone"
        raise Refused(BAD_REQUEST, f"{spec.name}: actual {what}", event_id)
    if update.expected is None or update.expected.value is None:
        raise Refused(BAD_REQUEST, f"{spec.name}: expected.value: missing", event_id)
    said = update.expected.value
    value = parse(spec.type, said)
    if value is None:
        allowed = f"allowed: {_ALLOWED[spec.type]}, as a string"
        raise Refused(BAD_REQUEST, f"{spec.name}: {_short(said)}: {allowed}", event_id)
    return value


_ALLOWED = {
    ValueType.BOOL: "true or false",
    ValueType.INT: "a whole number",
    ValueType.FLOAT: "a number",
    ValueType.STRING: "a text",
}


def parse(kind: ValueType, said: str) -> Value | None:
    """The value that a string stands for in a property of that type; None if for none."""
    match kind:
        case ValueType.BOOL:
            return {"true": True, "false": False}.get(said)
        case ValueType.INT:
            return int(said) if _WHOLE.fullmatch(said) else None
        case ValueType.FLOAT:
            return float(said) if _NUMBER.fullmatch(said) else None
        case ValueType.STRING:
            return said


def _json(payload: bytes) -> JsonValue:
    try:
        content: JsonValue = from_json(payload)
    except ValueError as error:
        raise Refused(BAD_REQUEST, f"not JSON: {error}", malformed=True) from None
    if not isinstance(content, dict):
        raise Refused(BAD_REQUEST, "not a JSON object", malformed=True)
    return content


def _event_id(content: JsonValue) -> str:
    return _checked(Question, content, "").event_id or ""


def _checked(model: type[Kind], content: JsonValue, event_id: str) -> Kind:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(_short(str(part), quoted=False) for part in first["loc"])
        raise Refused(BAD_REQUEST, f"{where}: {first['msg']}", event_id, malformed=True) from None


def _short(said: str, *, quoted: bool = True) -> str:
    shown = said if len(said) <= _SHOWN else f"{said[:_SHOWN]}…"
    return f'"{shown}"' if quoted else shown
