"""What a command asks for, out of its topic and payload, and what is answered. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from twinbridge.api.wire import Json, parse_patch
from twinbridge.core.model import DeviceSpec, Value, ValueType
from twinbridge.core.twin import check_desired
from twinbridge.errors import (
    Conflict,
    InvalidDesired,
    InvalidInput,
    StoreUnavailable,
    TwinBridgeError,
    UnknownName,
    Unreachable,
)

LARGEST = 64 * 1024
"""Bytes of a command's payload."""

UNPROCESSABLE, NOT_FOUND, CONFLICT, UNAVAILABLE, INTERNAL = 422, 404, 409, 503, 500
TOO_LARGE, TOO_MANY, EXPIRED = 413, 429, 408
_STATUS: tuple[tuple[type[TwinBridgeError], int], ...] = (
    (UnknownName, NOT_FOUND),
    (InvalidInput, UNPROCESSABLE),
    (Conflict, CONFLICT),
    (StoreUnavailable, UNAVAILABLE),
    (Unreachable, UNAVAILABLE),
)


class Refused(Exception):
    """A command that the face itself refuses. `status` as in HTTP."""

    def __init__(self, status: int, detail: str, *, field: str = "", allowed: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.field = field
        self.allowed = allowed

    @property
    def problem(self) -> Json:
        return _problem(self.status, str(self), self.field, self.allowed)


def problem(error: TwinBridgeError) -> Json:
    """RFC 9457, as far as it makes sense without HTTP."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), INTERNAL)
    if isinstance(error, InvalidDesired):
        return _problem(status, str(error), error.field, error.allowed)
    return _problem(status, str(error))


def _problem(status: int, detail: str, field: str = "", allowed: str = "") -> Json:
    found: Json = {"status": status, "detail": detail}
    if field:
        found["field"] = field
    if allowed:
        found["allowed"] = allowed
    return found


_Text = Annotated[str, Field(max_length=1000)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    who: str = Field("mqtt", min_length=1, max_length=253)


class Ack(_Body):
    comment: _Text = ""


class Shelve(_Body):
    length: str = Field(alias="for", max_length=32)
    reason: _Text = ""


class Reset(_Body):
    reason: str = Field(min_length=1, max_length=1000)


Body = TypeVar("Body", bound=_Body)


def check_size(payload: bytes) -> None:
    """Raises Refused."""
    if len(payload) > LARGEST:
        raise Refused(TOO_LARGE, "the payload is too large", allowed=f"at most {LARGEST} bytes")


def body(kind: type[Body], payload: bytes) -> Body:
    """Of an alarm command; nothing at all is an empty one. Raises Refused."""
    content = _object(payload or b"{}", f"an object with {_fields(kind)}")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise Refused(
            UNPROCESSABLE, f"{field}: {first['msg']}", field=field, allowed=_fields(kind)
        ) from None


def _fields(kind: type[_Body]) -> str:
    return ", ".join(field.alias or name for name, field in kind.model_fields.items())


def patch(spec: DeviceSpec, payload: bytes) -> Mapping[str, object]:
    """A merge patch that the device can take as it is defined. Raises Refused, InvalidDesired.

    What is wrong in itself goes no further: the agent puts every refusal on disk.
    """
    content = _object(payload, 'an object such as {"run": true}')
    for name, wish in parse_patch(content).items():
        point = spec.point(name)
        if point is None:
            known = ", ".join(p.spec.name for p in spec.points if p.spec.access.writable)
            raise InvalidDesired(
                f"{spec.name}/{name}: no such property", field=name, allowed=f"one of: {known}"
            )
        if wish is not None:
            check_desired(point.spec, wish.value)
    return content


def scalar(spec: DeviceSpec, name: str, payload: bytes) -> Mapping[str, object]:
    """The patch that a value alone makes: JSON, or for a string property also plain text.

    Raises Refused, InvalidDesired.
    """
    point = spec.point(name)
    text = point is not None and point.spec.type is ValueType.STRING
    value = _text(payload) if text else _json(payload, "true, false, a number or a string")
    if point is None or not isinstance(value, bool | int | float | str):
        raise Refused(
            UNPROCESSABLE, f"{name}: no value", field=name, allowed="one scalar, such as 12.5"
        )
    check_desired(point.spec, value)
    return {name: value}


def _text(payload: bytes) -> Value:
    try:
        found = orjson.loads(payload)
    except orjson.JSONDecodeError:
        found = None
    if isinstance(found, str):
        return found
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise Refused(UNPROCESSABLE, "the payload is no UTF-8", allowed="text in UTF-8") from None


def _object(payload: bytes, allowed: str) -> dict[str, object]:
    content = _json(payload, allowed)
    if not isinstance(content, dict):
        raise Refused(UNPROCESSABLE, "the payload is no JSON object", allowed=allowed)
    return content


def _json(payload: bytes, allowed: str) -> object:
    try:
        content: object = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise Refused(UNPROCESSABLE, f"the payload is no JSON: {error}", allowed=allowed) from None
    return content
