"""What payloads of a topic look like: their fields, of which type, with an example. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import orjson

from twinbridge.core.model import SECOND, Value, ValueType
from twinbridge_mqtt.config import Format, PayloadTime, TimeUnit
from twinbridge_mqtt.refusal import BadPayload
from twinbridge_mqtt.stamps import compile_stamp

MOST_FIELDS = 200
DEEPEST = 6
LONGEST_LIST = 10
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?\s*")
_SEPARATORS = (",", ";", "\t")
_SWITCH = ({"on", "off"}, {"open", "closed"}, {"yes", "no"}, {"true", "false"})
_UNITS: tuple[TimeUnit, ...] = ("s", "ms", "us", "ns")
_TIME_NAMES = ("ts", "t", "time", "timestamp", "datetime", "date")
_DAY = 86_400 * SECOND


@dataclass(slots=True)
class Field:
    """Something that a payload has each time: at a pointer, in a column, or all of it."""

    place: str
    """A JSON pointer, or the number of a csv column."""
    types: set[ValueType] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    """Its first few texts, if it has any."""
    example: Value | None = None
    seen: int = 0

    def note(self, value: Value | None) -> None:
        self.seen += 1
        if value is None:
            return
        self.example = value
        self.types.add(_type(value))
        if isinstance(value, str) and len(self.texts) <= LONGEST_LIST:
            self.texts.add(value.strip()[:60])

    @property
    def type(self) -> ValueType | None:
        """None where it was never seen with a value, or with values of several types."""
        if self.types == {ValueType.INT, ValueType.FLOAT}:
            return ValueType.FLOAT
        return next(iter(self.types)) if len(self.types) == 1 else None

    @property
    def labels(self) -> dict[str, bool]:
        """For texts that can only be a switch's: what each means."""
        lowered = {text.lower() for text in self.texts}
        for words in _SWITCH:
            if lowered and lowered <= words:
                yes = {"on", "open", "yes", "true"}
                return {text: text.lower() in yes for text in sorted(self.texts)}
        return {}

    def time_unit(self, now: int) -> TimeUnit | None:
        """Its unit, if it is the time of about now (UTC ns) by name and value."""
        name = self.place.rsplit("/", 1)[-1].lower()
        if not self.place.startswith("/") or name not in _TIME_NAMES:
            return None
        if isinstance(self.example, str):
            units: tuple[TimeUnit, ...] = ("iso",)
        else:
            units = _UNITS
        for unit in units:
            try:
                stamp = compile_stamp(PayloadTime(pointer="", unit=unit))(self.example)
            except BadPayload:
                continue
            if abs(now - stamp) < _DAY:
                return unit
        return None


@dataclass(slots=True)
class Shape:
    """What the payloads of one topic have in common. `format` None: no text, or empty."""

    format: Format | None = None
    separator: str = ","
    fields: dict[str, Field] = field(default_factory=dict)

    def note(self, payload: bytes) -> None:
        found = _read(payload)
        if found is None:
            return
        form, separator, values = found
        if self.format not in (None, form):
            form, separator, values = "raw", ",", [("", payload.decode().strip())]
            self.fields = {}
        self.format, self.separator = form, separator
        for place, value in values:
            if place in self.fields or len(self.fields) < MOST_FIELDS:
                self.fields.setdefault(place, Field(place)).note(value)


_Found = tuple[Format, str, list[tuple[str, Value | None]]]


def _read(payload: bytes) -> _Found | None:
    if not payload.strip():
        return None
    try:
        return "json", ",", list(_leaves(orjson.loads(payload), "", 0))
    except orjson.JSONDecodeError:
        pass
    try:
        text = payload.decode().strip()
    except UnicodeDecodeError:
        return None
    last = text.splitlines()[-1]
    for separator in _SEPARATORS:
        cells = last.split(separator)
        if len(cells) > 1 and all(_NUMBER.fullmatch(cell) for cell in cells):
            return "csv", separator, [(str(n), _number(cell)) for n, cell in enumerate(cells)]
    return "raw", ",", [("", text)]


def _leaves(document: object, place: str, depth: int) -> Iterator[tuple[str, Value | None]]:
    if isinstance(document, dict) and depth < DEEPEST:
        for name, value in document.items():
            step = str(name).replace("~", "~0").replace("/", "~1")
            yield from _leaves(value, f"{place}/{step}", depth + 1)
    elif isinstance(document, list) and depth < DEEPEST:
        for index, value in enumerate(document[:LONGEST_LIST]):
            yield from _leaves(value, f"{place}/{index}", depth + 1)
    elif document is None or isinstance(document, bool | int | float | str):
        yield place, document


def _number(text: str) -> Value:
    return int(text) if text.strip().lstrip("+-").isdigit() else float(text)


def _type(value: Value) -> ValueType:
    kinds = {bool: ValueType.BOOL, int: ValueType.INT, float: ValueType.FLOAT}
    return kinds.get(type(value), ValueType.STRING)
