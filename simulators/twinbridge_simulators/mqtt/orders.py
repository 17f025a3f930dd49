"""Commands as a device understands them: what a payload on a command topic asks for."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from twinbridge.core.model import Point, Value, ValueType
from twinbridge.errors import InvalidInput
from twinbridge_mqtt.address import bound
from twinbridge_mqtt.config import RAW_COMMAND, CommandOptions, Response, parse_pointer
from twinbridge_simulators.mqtt.payload import placed

FIELDS = ("value", "id", "expires")
_MARK = "\u0000"


@dataclass(frozen=True, slots=True)
class Order:
    """`expires` in ms since 1970, None: never."""

    value: Value
    id: str = ""
    expires: int | None = None


def parse_order(point: Point, payload: bytes) -> Order:
    """What is asked of a property. Raises InvalidInput for what its command does not look like."""
    command = bound(point).model.command
    if command is None:
        raise InvalidInput(f"{point.ref} takes no command")
    try:
        text = payload.decode()
        fields = _fields(command.payload, text)
        expires = fields.get("expires")
        return Order(
            _value(point, command, fields.get("value", True)),
            str(fields.get("id", "")),
            None if expires is None else int(str(expires)),
        )
    except (ValueError, OverflowError, RecursionError) as error:
        raise InvalidInput(f"{point.ref}: no such command: {payload[:60]!r} ({error})") from error


def _fields(template: str, text: str) -> Mapping[str, object]:
    if template == RAW_COMMAND:
        return {"value": text}
    form = _form(template)
    if form is None:
        return _by_pattern(template, text)
    found: dict[str, object] = {}
    _compare(form, json.loads(text), found)
    return found


def _form(template: str) -> object:
    """The template as JSON with marks for its fields; None for one that is no JSON."""
    for name in FIELDS:
        template = template.replace(f"{{{name}}}", json.dumps(_MARK + name))
    try:
        form: object = json.loads(template)
    except ValueError:
        return None
    return form if isinstance(form, dict | list) else None


def _compare(form: object, given: object, found: dict[str, object]) -> None:
    """Collect what stands at the marks; other parts must be there, and may have company."""
    if isinstance(form, str) and form.startswith(_MARK):
        found[form.removeprefix(_MARK)] = given
    elif isinstance(form, dict):
        for key, part in form.items():
            if not isinstance(given, dict) or key not in given:
                raise ValueError(f"{key} is missing")
            _compare(part, given[key], found)
    elif isinstance(form, list):
        if not isinstance(given, list) or len(given) != len(form):
            raise ValueError(f"a list of {len(form)} is wanted")
        for part, item in zip(form, given, strict=True):
            _compare(part, item, found)
    elif form != given:
        raise ValueError(f"{form!r} is wanted, not {given!r}")


def _by_pattern(template: str, text: str) -> Mapping[str, str]:
    pattern = re.escape(template)
    for name in FIELDS:
        pattern = pattern.replace(re.escape(f"{{{name}}}"), f"(?P<{name}>.*?)", 1)
    match = re.fullmatch(pattern, text, re.DOTALL)
    if match is None:
        raise ValueError(f"{template} is wanted")
    return match.groupdict()


def _value(point: Point, command: CommandOptions, raw: object) -> Value:
    """The property's value: by `values`, by labels, else scaled and of its type."""
    for text, sent in command.values.items():
        if sent == raw or str(sent) == raw:
            return _typed(point.spec.type, text)
    model = bound(point).model
    label = model.labels.get(str(raw))
    if label is not None:
        return label
    value = _typed(point.spec.type, raw)
    if isinstance(value, bool | str) or (model.scale is None and not model.offset):
        return value
    scaled = value * (model.scale or 1.0) + model.offset
    return round(scaled) if point.spec.type is ValueType.INT else scaled


def _typed(kind: ValueType, raw: object) -> Value:
    """Raises ValueError."""
    match kind:
        case ValueType.BOOL:
            truths = {"true": True, "false": False, "1": True, "0": False}
            if str(raw).lower() not in truths:
                raise ValueError(f"{raw!r} is no bool")
            return truths[str(raw).lower()]
        case ValueType.INT:
            return int(float(str(raw)))
        case ValueType.FLOAT:
            number = float(str(raw))
            if not math.isfinite(number):
                raise ValueError(f"{raw!r} is no number")
            return number
        case _:
            return str(raw)


def answer(response: Response, order: Order, wrong: str) -> bytes:
    """What the device says of an order; `wrong` is '' when it did it."""
    status = "error" if wrong else response.ok[0]
    document: object = placed({}, parse_pointer(response.id), order.id)
    document = placed(document, parse_pointer(response.status), status)
    if wrong:
        document = placed(document, parse_pointer(response.message), wrong)
    return json.dumps(document).encode()
