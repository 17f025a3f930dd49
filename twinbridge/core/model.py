"""The words of the house: value, quality, sample, property, device, command.

Times: a *source time* is UTC nanoseconds since 1970; `now` and deadlines are nanoseconds of a
monotonic clock. The two are never compared.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, TypeAlias

Value: TypeAlias = bool | int | float | str

MILLISECOND = 1_000_000
SECOND = 1_000_000_000


class ValueType(StrEnum):
    BOOL = "bool"
    INT = "int"
    FLOAT = "float"
    STRING = "string"


class Access(StrEnum):
    READ_ONLY = "ReadOnly"
    READ_WRITE = "ReadWrite"
    WRITE_ONLY = "WriteOnly"

    @property
    def readable(self) -> bool:
        return self is not Access.WRITE_ONLY

    @property
    def writable(self) -> bool:
        return self is not Access.READ_ONLY


class Quality(StrEnum):
    GOOD = "good"
    UNCERTAIN = "uncertain"
    BAD = "bad"


class Reason(StrEnum):
    """Why a quality is not good; NONE goes with good."""

    NONE = ""
    COMM_LOST = "comm_lost"
    STALE = "stale"
    OUT_OF_RANGE = "out_of_range"
    DEVICE_FAULT = "device_fault"
    NOT_READ = "not_read"


class Sample(NamedTuple):
    """One reading of one property: value, quality and time never part.

    `value` is None only before the first good reading. A bad sample keeps the last good value.
    """

    value: Value | None
    quality: Quality
    reason: Reason
    source_time: int
    seq: int
    detail: str = ""
    """What a person needs to know of a value that is not good, e.g. `BadNodeIdUnknown`."""

    @property
    def good(self) -> bool:
        return self.quality is Quality.GOOD


NOT_READ = Sample(None, Quality.BAD, Reason.NOT_READ, 0, 0)


class PropertyRef(NamedTuple):
    """A property of a device; what rules, trips and commands point at."""

    device: str
    property: str

    def __str__(self) -> str:
        return f"{self.device}/{self.property}"


@dataclass(frozen=True, slots=True)
class ReportPolicy:
    """Which changes go to history and up to the hub. Intervals in nanoseconds.

    A change below `deadband` (in the property's unit) or sooner than `min_interval` after the
    last report waits; after `max_interval` the value is reported even if it did not change
    (0 = never).
    """

    deadband: float = 0.0
    min_interval: int = 0
    max_interval: int = 0


@dataclass(frozen=True, slots=True)
class Feedback:
    """Another property that shows independently that a written stop took effect."""

    property: str
    equals: Value
    within: int


@dataclass(frozen=True, slots=True)
class PropertySpec:
    """What a property is, apart from where it lives."""

    name: str
    type: ValueType
    access: Access = Access.READ_ONLY
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    tolerance: float = 0.0
    reapply: bool = False
    pulse: bool = False
    feedback: Feedback | None = None
    read_back_within: int = SECOND
    """How long a written property may take to report the value, ns."""
    report: ReportPolicy = field(default_factory=ReportPolicy)


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """A property together with its address, as a driver sees it.

    `address` is the driver's own validated model; nobody else looks inside. Points compare by
    identity: one is made per property when a device is loaded, and lives as long.
    """

    ref: PropertyRef
    spec: PropertySpec
    address: object
    interval: int
    """Scan interval in nanoseconds; inputs of trips have the device's trip interval."""
    urgent: bool = False
    """An input of a rule with a trip: told at once, never gathered."""


@dataclass(frozen=True, slots=True)
class DesiredSpec:
    """A value that a Device resource asks for. `valid_until` is UTC ns, `valid_for` ns.

    `given_at`, UTC ns, tells one giving of the same value from another, and how old it is.
    """

    property: str
    value: Value
    valid_until: int | None = None
    valid_for: int | None = None
    given_at: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class DeviceSpec:
    """A device, complete: model and overrides merged, addresses validated by its driver."""

    name: str
    model: str
    node: str
    protocol: str
    connection: object
    points: tuple[Point, ...]
    labels: tuple[tuple[str, str], ...] = ()
    namespace: str = "default"
    generation: int = 1
    desired: tuple[DesiredSpec, ...] = ()
    local_wins: bool = True
    """Whether a value desired here may stand in place of one that the resource desires."""
    longest_override: int = 8 * 3600 * SECOND
    """For how long it then does at most, ns."""
    digest: str = ""
    """Equal digests mean equal definitions: such a device is not restarted on reload."""

    def point(self, name: str) -> Point | None:
        return next((p for p in self.points if p.spec.name == name), None)


def finite(value: Value) -> bool:
    """NaN and the infinities are bad, never 'not above the limit' (DOMAIN §2)."""
    return not isinstance(value, float) or math.isfinite(value)


def shown(value: Value | None) -> str:
    """A value as people write it in YAML and JSON: true, 71.5, "auto"."""
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)


def same_value(a: Value | None, b: Value | None, tolerance: float = 0.0) -> bool:
    """Whether desired and reported agree: numbers by tolerance, a bool equals no number."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, int | float) and isinstance(b, int | float):
        return a == b or abs(a - b) <= tolerance
    return a == b
