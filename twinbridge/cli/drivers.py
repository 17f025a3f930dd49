"""Finds drivers by the entry-point group `twinbridge.drivers`."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from twinbridge.errors import InvalidInput
from twinbridge.ports import Driver


@cache
def installed_drivers() -> dict[str, Driver]:
    """Every installed driver by name. Loads no protocol library."""
    found: dict[str, Driver] = {}
    for entry in entry_points(group="twinbridge.drivers"):
        driver: Driver = entry.load()
        if entry.name in found:
            raise InvalidInput(f"two installed drivers are named {entry.name!r}")
        found[entry.name] = driver
    return found
