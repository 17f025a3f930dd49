"""The primary host application: while it is not there, nobody would take what we say."""

from __future__ import annotations

import json
from typing import Final

from twinbridge.adapters.scada_sparkplug.metrics import STATES_IGNORED

_LONGEST: Final = 4096
"""Bytes of a STATE message; two fields need some fifty."""


class PrimaryHost:
    """What its STATE messages say (Sparkplug 3.0.0, 5.4). Without one, `online` is always so."""

    def __init__(self, *, awaited: bool) -> None:
        self._awaited = awaited
        self._latest: float | None = None
        """The timestamp of the last message that counted, ms."""
        self._latest_online: float | None = None
        self.online = not awaited
        self.left = False
        """Whether it was there in this session and went away: that ends the session."""

    def session_began(self) -> None:
        """Of another broker or another moment: its STATE, which is retained, says what holds."""
        self.online = not self._awaited
        self.left = False

    def hear(self, content: bytes) -> None:
        """An older message than the one before says nothing: it comes late."""
        state = _state(content)
        if state is None or self._outdated(*state):
            STATES_IGNORED.inc()
            return
        before = self.online
        self.online, self._latest = state
        if self.online:
            self._latest_online = self._latest
        elif before:
            self.left = True

    def _outdated(self, online: bool, timestamp: float) -> bool:  # noqa: FBT001 - both are the state
        """A death counts against the last birth; the same timestamp stands in both (5.4)."""
        before = self._latest if online else self._latest_online
        return before is not None and timestamp < before


def _state(content: bytes) -> tuple[bool, float] | None:
    """`online` and `timestamp` (ms) of the JSON; None for anything else."""
    if len(content) > _LONGEST:
        return None
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    online, timestamp = said.get("online"), said.get("timestamp")
    if not isinstance(online, bool) or isinstance(timestamp, bool):
        return None
    if not isinstance(timestamp, int | float) or not 0 <= timestamp < 2**63:
        return None
    return online, timestamp
