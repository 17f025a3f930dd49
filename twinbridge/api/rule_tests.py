"""Unit tests for rules as people write them: `*.test.yaml` beside the rules."""

from __future__ import annotations

import re
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, NamedTuple, Self

from pydantic import Field, PlainValidator, model_validator

from twinbridge.api.base import Model, PropertyName, ResourceName, Scalar
from twinbridge.api.durations import Duration, parse_duration
from twinbridge.core.model import MILLISECOND, Value
from twinbridge.core.rule import Mode

MAX_VALUES = 100_000

_RUN = re.compile(r"(?P<value>[^\s+]+?)(?P<step>[+-][0-9.]+)?x(?P<more>[0-9]{1,6})")
_BOOLS = {"true": True, "false": False}


class Condition(StrEnum):
    """How a moment of a series stands; after `silent` nothing is read until the next value."""

    GOOD = "good"
    UNCERTAIN = "uncertain"
    BAD = "bad"
    SILENT = "silent"


class Moment(NamedTuple):
    """A value from `at` (ns since the start of the test) on; it is read as such until the next."""

    at: int
    value: Value | None
    condition: Condition = Condition.GOOD


def _moment(written: object) -> Moment:
    """`[1.5s, 90]`, `[2s, 90, bad]` or `[2s, silent]`."""
    usage = "write [time, value], [time, value, good|uncertain|bad] or [time, silent]"
    if not isinstance(written, list) or len(written) not in {2, 3}:
        raise ValueError(usage)
    at, value, *rest = written
    try:
        condition = Condition(rest[0]) if rest else Condition.GOOD
    except ValueError:
        raise ValueError(usage) from None
    if value in {"silent", "bad"} and not rest:
        return Moment(parse_duration(at), None, Condition(value))
    if not isinstance(value, bool | int | float | str):
        raise ValueError(usage)  # noqa: TRY004 - pydantic reports ValueError
    return Moment(parse_duration(at), value, condition)


def _timed(written: list[object]) -> tuple[Moment, ...]:
    moments = tuple(_moment(entry) for entry in written)
    if any(later.at < sooner.at for sooner, later in pairwise(moments)):
        raise ValueError("the times must not run backwards")
    return moments


def _tokens(text: str) -> tuple[Value | Condition, ...]:
    """`20 90x2 1+2x3 _ bad` → 20, 90, 90, 90, 1, 3, 5, 7, silent, bad; as promtool reads it."""
    found: list[Value | Condition] = []
    for token in text.split():
        run = _RUN.fullmatch(token)
        if run is None:
            found.append(_token(token))
            continue
        more = int(run["more"])
        if len(found) + more > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES} values")
        first = _token(run["value"])
        if run["step"]:
            if isinstance(first, bool | str):
                raise ValueError(f"{token!r}: only a number can be stepped")
            found += [first + float(run["step"]) * i for i in range(more + 1)]
        else:
            found += [first] * (more if first is Condition.SILENT else more + 1)
    return tuple(found)


def _token(token: str) -> Value | Condition:
    if token == "_":  # noqa: S105 - the mark for a poll without an answer
        return Condition.SILENT
    if token == "bad":  # noqa: S105 - the mark for a bad reading
        return Condition.BAD
    if token in _BOOLS:
        return _BOOLS[token]
    try:
        return int(token)
    except ValueError:
        pass
    try:
        return float(token)
    except ValueError:
        return token


def _values(written: object) -> tuple[Moment, ...] | tuple[Value | Condition, ...]:
    if isinstance(written, list):
        return _timed(written)
    if isinstance(written, bool | int | float):
        return (written,)
    if isinstance(written, str):
        return _tokens(written)
    raise ValueError("write a list of [time, value], or values with spaces between: 20 20 90x5")


class Series(Model):
    """What one property reads in the course of a test."""

    device: ResourceName
    property: PropertyName
    values: Annotated[tuple[Moment | Value | Condition, ...], PlainValidator(_values)]

    def moments(self, interval: int) -> tuple[Moment, ...]:
        """The values with their times; those without stand `interval` ns apart."""
        moments: list[Moment] = []
        for index, entry in enumerate(self.values):
            if isinstance(entry, Moment):
                moments.append(entry)
            elif entry is Condition.SILENT:
                # The poll before was the last that was answered.
                moments.append(Moment(max(0, index - 1) * interval, None, Condition.SILENT))
            elif isinstance(entry, Condition):
                moments.append(Moment(index * interval, None, entry))
            else:
                moments.append(Moment(index * interval, entry))
        return tuple(moments)


class ExpectedState(StrEnum):
    """A trip that stands while its condition holds is active and latched; `clear` is neither."""

    CLEAR = "clear"
    ACTIVE = "active"
    LATCHED = "latched"


class ExpectedWrite(Model):
    device: ResourceName
    property: PropertyName
    value: Scalar


class Expectation(Model):
    """What must be so at a time: a rule's state, the last write of a property, or no write yet."""

    at: Duration
    rule: ResourceName | None = None
    device: ResourceName | None = None
    state: ExpectedState | None = Field(default=None, strict=False)
    write: ExpectedWrite | None = None
    no_writes: bool = False

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        by_rule = [self.rule, self.device, self.state]
        if sum([any(by_rule), self.write is not None, self.no_writes]) != 1:
            raise ValueError(
                "expect one thing: rule, device and state; or write; or noWrites: true"
            )
        if any(by_rule) and not all(by_rule):
            raise ValueError("a state needs rule, device and state")
        return self


class RuleTest(Model):
    """`interval` is the poll interval: the distance of values without times."""

    name: str = Field(min_length=1)
    interval: Annotated[Duration, Field(ge=MILLISECOND)] = 500 * MILLISECOND
    mode: Mode | None = Field(default=None, strict=False)
    series: list[Series] = Field(min_length=1)
    expect: list[Expectation] = Field(min_length=1)


class RuleTestFile(Model):
    """`rules` are files or folders with the resources, relative to this file."""

    rules: list[str] = Field(min_length=1)
    tests: list[RuleTest] = Field(min_length=1)
