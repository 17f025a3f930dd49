"""What may not be written: what standing trips hold, and anything while writes are withheld.

A write to a held property passes only in the stop direction.
"""

from __future__ import annotations

from twinbridge.core.model import PropertyRef, Value, same_value


class Interlock:
    def __init__(self) -> None:
        self._held: dict[PropertyRef, dict[str, Value]] = {}
        self.withheld = ""
        """Why ordinary writes wait (another process may be the writer by now), or ''."""

    def hold(self, trip: str, ref: PropertyRef, value: Value) -> None:
        self._held.setdefault(ref, {})[trip] = value

    def release(self, trip: str) -> None:
        for ref in list(self._held):
            self._held[ref].pop(trip, None)
            if not self._held[ref]:
                del self._held[ref]

    def blocks(self, ref: PropertyRef, value: Value) -> str:
        """Which trip forbids this write, or ''."""
        for trip, stop in self._held.get(ref, {}).items():
            if not same_value(value, stop):
                return trip
        return ""
