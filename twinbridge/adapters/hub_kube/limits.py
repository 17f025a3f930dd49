"""The times by which the client lives."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """All in seconds."""

    request: float = 15.0
    """Without a byte of an answer; a slow hub may take 5."""
    whole: float = 600.0
    """For all of an answer while it comes: a page of a list over a line of 64 kbit/s."""
    connect: float = 9.0
    """SYNs go at 0, 1, 3 and 7 s: with `longest_wait` there is one within 5 s of a link's return;
    and over a line of 2 s each way TCP and TLS take 8."""
    watch: int = 22
    """Of one watch: then it is begun again where it ended."""
    silence: float = 27.0
    """Without a byte on a watch: its other end is silently gone."""
    first_wait: float = 0.2
    longest_wait: float = 2.5
    """Between tries."""
    missing: float = 15.0
    """Between looks for a kind that the hub does not know."""
    unauthorized: float = 3.0
    forbidden: float = 10.0
    """Between tries of what we lack the right to."""
    longest_asked: float = 120.0
    """The longest Retry-After that is believed."""
