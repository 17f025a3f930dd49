"""The node's own metrics: what hosts may ask of it, what it is, and how it does."""

from __future__ import annotations

from typing import Final

from twinbridge import __version__
from twinbridge.adapters.scada_sparkplug.device import Aliases
from twinbridge.adapters.scada_sparkplug.payload import DataType, Field, Metric
from twinbridge.adapters.scada_sparkplug.speech import born
from twinbridge.core.model import Value

REBIRTH: Final = "Node Control/Rebirth"
SOFTWARE: Final = "Node Info/Software"
VERSION: Final = "Node Info/Version"
DEVICES: Final = "Node Info/Devices"
CONNECTED: Final = "Node Info/Devices Connected"
LOST: Final = "Node Info/Lost Samples"
"""Samples that hosts will never see, since the start of the process."""


class OwnMetrics:
    """As they were last said. `now`: UTC ms."""

    def __init__(self, aliases: Aliases) -> None:
        self._aliases = aliases
        self._told: tuple[tuple[str, int], ...] = ()

    def birth(self, devices: int, alive: int, lost: int, now: int) -> tuple[Metric, ...]:
        """All but bdSeq. Rebirth has no alias: a host that knows none must be able to ask it."""
        self._told = _values(devices, alive, lost)
        return (
            born(REBIRTH, DataType.BOOLEAN, value=False, now=now),
            self._born(SOFTWARE, DataType.STRING, "TwinBridge", now),
            self._born(VERSION, DataType.STRING, __version__, now),
            *(self._born(name, DataType.INT64, value, now) for name, value in self._told),
        )

    def changed(self, devices: int, alive: int, lost: int, now: int) -> list[Metric]:
        """Those that differ from what was said."""
        values = _values(devices, alive, lost)
        if values == self._told:
            return []
        changed = [new for new, old in zip(values, self._told, strict=True) if new != old]
        self._told = values
        return [
            Metric(None, self._alias(name), now, None, value, Field.LONG) for name, value in changed
        ]

    def _born(self, name: str, kind: DataType, value: Value, now: int) -> Metric:
        return born(name, kind, value, now, self._alias(name))

    def _alias(self, name: str) -> int:
        return self._aliases.of("", name)


def _values(devices: int, alive: int, lost: int) -> tuple[tuple[str, int], ...]:
    return (DEVICES, devices), (CONNECTED, alive), (LOST, lost)
