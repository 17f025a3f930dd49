"""What crosses the bus between the process that owns the machines and the agent.

Up: Samples, Contact, AlarmChanged, Outcome, Audit. Down: Desire, ResetTrip, Acknowledge, Shelve,
SetMode. Times are UTC ns.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple, TypeAlias

from twinbridge.core.alarm import Alarm
from twinbridge.core.model import Sample, Value
from twinbridge.core.rule import Mode


class DesiredState(StrEnum):
    PENDING = "pending"
    APPLIED = "applied"
    REJECTED = "rejected"
    EXPIRED = "expired"
    BLOCKED = "blocked"
    OVERRIDDEN = "overridden"


class Samples(NamedTuple):
    """What one poll of one device changed, in order."""

    device: str
    samples: tuple[tuple[str, Sample], ...]


class Contact(NamedTuple):
    """Whether a device answers. Sent when it changes, and about once a second meanwhile."""

    device: str
    connected: bool
    at: int
    message: str = ""


class AlarmChanged(NamedTuple):
    alarm: Alarm


class Outcome(NamedTuple):
    """What became of one version of one desired value."""

    device: str
    property: str
    version: int
    state: DesiredState
    message: str
    at: int
    epoch: str = ""


class Audit(NamedTuple):
    """A record for the journal: who did what to which subject, from where, with what outcome."""

    kind: str
    subject: str
    origin: str
    detail: dict[str, object]
    wall: int
    monotonic: int


class Desire(NamedTuple):
    """Bring a property to a value. `valid_until` None means that it does not expire.

    The same version that was accepted at the same time is one command, however often it comes.
    Versions compare within one `epoch`, the life of one agent's store. `accepted_mono` is the
    monotonic time of acceptance in this boot, 0 when it came from disk.
    """

    device: str
    property: str
    value: Value
    version: int
    origin: str
    accepted: int
    valid_until: int | None = None
    accepted_mono: int = 0
    epoch: str = ""


class ResetTrip(NamedTuple):
    alarm: str
    who: str
    reason: str


class Acknowledge(NamedTuple):
    alarm: str
    who: str
    comment: str = ""


class Shelve(NamedTuple):
    alarm: str
    until: int
    who: str
    reason: str = ""


class SetMode(NamedTuple):
    rule: str
    mode: Mode
    who: str


class TellAll(NamedTuple):
    """Say everything again: samples, contacts and standing alarms, of these devices or of all."""

    devices: tuple[str, ...] = ()


Event: TypeAlias = Samples | Contact | AlarmChanged | Outcome | Audit
Request: TypeAlias = Desire | ResetTrip | Acknowledge | Shelve | SetMode | TellAll
