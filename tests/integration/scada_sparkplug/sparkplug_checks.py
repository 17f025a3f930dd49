"""The register of the checks: one for each tck-id of the specification that binds an edge node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from sparkplug_record import Recording

Checker: TypeAlias = Callable[[Recording], None]
"""Raises AssertionError when a recording does not keep what is asked."""


class Check(NamedTuple):
    asks: str
    """In our words."""
    checker: Checker


_RED: Final = (AssertionError, LookupError, ValueError, StopIteration)
"""What a check looks for may not be there, or not be readable."""

CHECKS: Final[dict[str, Check]] = {}
"""By tck-id."""


def tck(*asked: tuple[str, str]) -> Callable[[Checker], Checker]:
    """Enter a checker under ids (without `tck-id-`), each with what it asks in our words."""

    def entered(checker: Checker) -> Checker:
        for id_, asks in asked:
            whole = f"tck-id-{id_}"
            assert whole not in CHECKS, f"{whole} is there twice"
            CHECKS[whole] = Check(asks, checker)
        return checker

    return entered


def red(recording: Recording) -> dict[str, str]:
    """The ids that a recording does not keep, and why."""
    found = {}
    for id_, check in CHECKS.items():
        try:
            check.checker(recording)
        except _RED as error:
            found[id_] = str(error)
    return found
