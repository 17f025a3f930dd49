"""What a Device resource desires, against what was desired here in its place."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, TypeAlias

from twinbridge.app.clock import Clock
from twinbridge.app.desired_entry import DEVICE_ORIGIN
from twinbridge.core.messages import DesiredState
from twinbridge.core.model import SECOND, DesiredSpec, DeviceSpec
from twinbridge.ports import StoredDesired

FOREVER = 1 << 62
"""ns: an age that nobody knows."""
DOUBT = 5 * SECOND
"""Two clocks that count as one may be so far apart, and a line that lives may be held up for so
long; it counts against a start."""

MAYBE_BEFORE_RESET = (
    "it may have been given before a trip that held this was reset; give it anew, with the"
    " time at which it is given (givenAt)"
)
Key: TypeAlias = tuple[str, str]

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


class Heard(NamedTuple):
    """Of a wish: it came `unheard` ns ago at most, 0 for one that was given here just now.

    `before` is the generation of the Device that was known before, without that wish.
    """

    unheard: int = 0
    before: int = 0


class Releases:
    """Trips that were reset: a start is a command that was given after that, and nothing else.

    What proves it: the hub answered a status, written after the reset, with generation g, and
    generation g or a later one was known here before the wish came. Or the wish is younger than the
    reset, by more than the line or a clock may err.
    """

    def __init__(self) -> None:
        self._at: dict[Key, int] = {}
        """Monotonic ns, of those since the start."""
        self._answered: dict[Key, int] = {}
        """The generation of the first answer after it."""
        self._doubted: dict[Key, tuple[int, int]] = {}
        """Since when, monotonic ns, a wish may have been given, and the generation before it."""

    def note(self, entry: StoredDesired, clock: Clock) -> StoredDesired:
        """The entry of what a trip held until now."""
        key = (entry.device, entry.property)
        self.forget(key)
        self._at[key] = clock.mono()
        return replace(entry, released=clock.wall())

    def forget(self, key: Key, *, generations: bool = False) -> None:
        """All of it, or of its Device's generations alone, which begin anew."""
        self._answered.pop(key, None)
        self._doubted.pop(key, None)
        if not generations:
            self._at.pop(key, None)

    def may_follow(
        self, entry: StoredDesired | None, wish: DesiredSpec, heard: Heard, clock: Clock
    ) -> bool:
        """Whether the reset of a trip may have come after a wish.

        `wish.given_at` is in the time of our wall clock.
        """
        if entry is None or entry.held is None:
            return False
        if not entry.released:
            return True
        if not heard.unheard:
            return False
        key = (entry.device, entry.property)
        self._doubted[key] = (clock.mono() - heard.unheard, heard.before)
        if self._is_answered(key, heard.before):
            return False
        at = self._at.get(key)
        past = clock.wall() - entry.released if at is None else clock.mono() - at
        age = heard.unheard
        if wish.given_at is not None:
            age = min(age, clock.wall() - wish.given_at)
        return age + DOUBT >= past

    def _is_answered(self, key: Key, before: int) -> bool:
        answered = self._answered.get(key)
        return answered is not None and before >= answered

    def answered(self, key: Key, began: int, generation: int) -> None:
        """The hub took a status, whose writing began at `began`, monotonic ns."""
        if key not in self._answered and generation and began >= self._at.get(key, began):
            self._answered[key] = generation

    def proven(self, key: Key, clock: Clock) -> Heard | None:
        """A wish that was doubted, and turns out to be later than the reset."""
        since, before = self._doubted.get(key, (0, -1))
        if not self._is_answered(key, before):
            return None
        return Heard(clock.mono() - since, before)


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
