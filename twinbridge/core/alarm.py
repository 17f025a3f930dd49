"""An alarm as orthogonal bits; its display name is derived (ISA-18.2, IEC 62682)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from twinbridge.core.model import Value
from twinbridge.core.rule import Severity


class TripState(StrEnum):
    """How far a trip's writes have come. Only VERIFIED says that the machine was seen stopped."""

    NONE = "none"
    WOULD_TRIP = "would_trip"
    WRITING = "writing"
    ACKNOWLEDGED = "acknowledged"
    VERIFIED = "verified"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Alarm:
    """One occurrence of one rule on one device. Times UTC ns, latencies ns, 0 = not (yet).

    `id` is unique to the occurrence, so that a reset names the very trip that stands now.
    """

    id: str
    rule: str
    device: str
    severity: Severity
    message: str
    since: int
    active: bool = True
    acked: bool = False
    latched: bool = False
    shelved_until: int = 0
    trip: TripState = TripState.NONE
    trip_message: str = ""
    detect_to_ack: int = 0
    detect_to_verified: int = 0
    cleared: int = 0
    acked_by: str = ""
    inputs: tuple[tuple[str, object, str], ...] = ()
    """What the rule saw when it fired: (device/property, value, quality)."""
    holds: tuple[tuple[str, str, Value], ...] = ()
    """What the trip wrote and holds: (device, property, value). It outlives edits of the rule."""

    @property
    def tripped(self) -> bool:
        """Whether a real trip holds its interlock."""
        return self.latched and self.trip not in (TripState.NONE, TripState.WOULD_TRIP)

    @property
    def over(self) -> bool:
        """Nothing more to show: cleared, acknowledged, not latched."""
        return not self.active and self.acked and not self.latched

    def display(self, now: int) -> str:
        """The state's name, given UTC ns."""
        if self.shelved_until > now:
            return "Shelved"
        if self.latched and not self.active:
            return "Latched"
        if self.active:
            return "AckActive" if self.acked else "UnackActive"
        return "Normal" if self.acked else "RtnUnack"
