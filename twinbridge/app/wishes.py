"""What a Device resource desires, against what was desired here in its place."""

from __future__ import annotations

from dataclasses import replace

from twinbridge.app.clock import Clock
from twinbridge.app.desired_entry import DEVICE_ORIGIN
from twinbridge.core.messages import DesiredState
from twinbridge.core.model import SECOND, DesiredSpec, DeviceSpec
from twinbridge.ports import StoredDesired

FOREVER = 1 << 62
"""ns: an age that nobody knows."""
CLOCK_DOUBT = 5 * SECOND
"""Two clocks that count as one may be so far apart; against a start."""

MAYBE_BEFORE_RESET = (
    "it may have been given before a trip that held this was reset; give it anew, with the"
    " time at which it is given (givenAt)"
)
_STANDING = (DesiredState.PENDING, DesiredState.APPLIED)


def wish_of(spec: DeviceSpec, name: str) -> DesiredSpec | None:
    return next((wish for wish in spec.desired if wish.property == name), None)


def is_override(entry: StoredDesired) -> bool:
    """Whether it was desired here in place of what the resource desired then."""
    return bool(entry.spec) and entry.origin != DEVICE_ORIGIN and entry.state in _STANDING


def overrides(entry: StoredDesired, now: int) -> bool:
    """Whether it still does. `now` is UTC ns."""
    return is_override(entry) and (entry.valid_until is None or entry.valid_until > now)


def in_our_time(wish: DesiredSpec, behind: int) -> DesiredSpec:
    """Its times of day as our wall clock would have told them, which is `behind` ns behind."""
    if wish.valid_until is not None:
        wish = replace(wish, valid_until=wish.valid_until - behind)
    if wish.given_at is not None:
        wish = replace(wish, given_at=wish.given_at - behind)
    return wish


def too_late(wish: DesiredSpec, now: int, unheard: int) -> str:
    """Why a wish that was given up to `unheard` ns ago is not to be applied; '' if it is."""
    if wish.valid_until is not None and wish.valid_until <= now:
        return "it expired before it came here"
    if wish.valid_for is not None and unheard >= wish.valid_for:
        return (
            "it was given while the hub was not heard, and may be older than its validFor;"
            " give it anew, or with validUntil"
        )
    return ""


class Releases:
    """Trips that were reset: a start is a command that was given after that, and nothing else."""

    def __init__(self) -> None:
        self.at: dict[tuple[str, str], int] = {}
        """Monotonic ns, of those since the start."""

    def note(self, entry: StoredDesired, clock: Clock) -> StoredDesired:
        """The entry of what a trip held until now."""
        self.at[entry.device, entry.property] = clock.mono()
        return replace(entry, released=clock.wall())

    def may_follow(
        self, entry: StoredDesired | None, wish: DesiredSpec, unheard: int, clock: Clock
    ) -> bool:
        """Whether the reset of a trip may have come after a wish that came up to `unheard` ns ago.

        `wish.given_at` is in the time of our wall clock.
        """
        if entry is None or entry.held is None:
            return False
        if not entry.released:
            return True
        at = self.at.get((entry.device, entry.property))
        past = clock.wall() - entry.released if at is None else clock.mono() - at
        age = unheard
        if wish.given_at is not None:
            age = min(age, clock.wall() - wish.given_at + CLOCK_DOUBT)
        return age >= past


class Overrides:
    """When those that stand are over, on the monotonic clock."""

    def __init__(self) -> None:
        self.ends: dict[tuple[str, str], int] = {}
        self._versions: dict[tuple[str, str], int] = {}

    def note(self, entry: StoredDesired, clock: Clock) -> None:
        key = (entry.device, entry.property)
        if is_override(entry) and entry.valid_until is not None:
            if self._versions.get(key) != entry.version:
                left = max(0, entry.valid_until - clock.wall())
                self.ends[key] = clock.mono() + left
                self._versions[key] = entry.version
        else:
            self.ends.pop(key, None)
            self._versions.pop(key, None)

    def over(self, now: int) -> list[tuple[str, str]]:
        """Those that ended by `now`, monotonic ns, once."""
        found = [key for key, end in self.ends.items() if end <= now]
        for key in found:
            del self.ends[key]
        return found
