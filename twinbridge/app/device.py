"""A device at run time: its last samples, how fresh they are, and who watches them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from twinbridge.app.storm import StormGate
from twinbridge.core.model import NOT_READ, DeviceSpec, Point, PropertyRef, Sample
from twinbridge.ports import ReadRequest


class Watcher(Protocol):
    """Is shown the changed samples of one reading, then asked to decide once, in the link's task.

    What was read together is judged together: a rule never compares a new value with one that
    the same reading has already replaced.
    """

    def saw(self, ref: PropertyRef, sample: Sample) -> None: ...

    def decide(self, now: int) -> None: ...


@dataclass(slots=True, eq=False)
class Scan:
    """One read request and its schedule. Monotonic ns."""

    device: Device
    request: ReadRequest
    interval: int
    due: int = 0
    last_good: int = 0
    served: bool = False
    """Whether it has succeeded since the link was opened."""
    phased: bool = False
    """Whether it has had its first turn, after which it keeps to its own phase."""
    every_sample: tuple[Watcher, ...] = ()
    """Who wants to see unchanged values as well (rates of change)."""

    @property
    def pushed(self) -> bool:
        """Whether the device answers it by itself; it is never due."""
        return self.request.pushed


@dataclass(slots=True, eq=False)
class Station:
    """What fails on its own behind an endpoint: a unit behind a gateway, or the only device."""

    unit: str
    failures: int = 0
    silent_until: int = 0
    backoff: float = 0.0


@dataclass(slots=True, eq=False)
class Device:
    spec: DeviceSpec
    station: Station
    points: dict[str, Point]
    samples: dict[str, Sample]
    watchers: dict[str, tuple[Watcher, ...]] = field(default_factory=dict)
    rate_watchers: dict[str, tuple[Watcher, ...]] = field(default_factory=dict)
    scans: list[Scan] = field(default_factory=list)
    scan_of: dict[str, Scan] = field(default_factory=dict)
    skew: dict[str, int] = field(default_factory=dict)
    """Of properties that a rate watches and the device dates: our clock less its own, ns."""
    gate: StormGate | None = None
    """What a device that speaks by itself may tell; None for one that is only asked."""
    replan: bool = False
    """Its requests must be planned anew: it refused part of one, or all values must be told."""
    connected: bool = False
    last_contact: int = 0
    told_contact: int = 0
    message: str = "not contacted yet"

    @classmethod
    def of(cls, spec: DeviceSpec, station: Station) -> Device:
        points = {p.spec.name: p for p in spec.points}
        return cls(spec, station, points, dict.fromkeys(points, NOT_READ))

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def scanned(self) -> bool:
        """Whether every request has been answered since the link was opened."""
        return all(scan.served for scan in self.scans)

    def take_scans(self, scans: list[Scan]) -> None:
        self.scans = scans
        self.scan_of = {p.spec.name: scan for scan in scans for p in scan.request.points}
        pushed = [p for scan in scans if scan.pushed for p in scan.request.points]
        if self.gate is None and pushed:
            self.gate = StormGate(pushed)
        self._bind_rates()

    def watch(
        self,
        watchers: dict[str, tuple[Watcher, ...]],
        rate_watchers: dict[str, tuple[Watcher, ...]],
    ) -> None:
        """Show changes of each named property to its watchers; every good value to the latter."""
        self.watchers = watchers
        self.rate_watchers = rate_watchers
        self._bind_rates()

    def _bind_rates(self) -> None:
        for scan in self.scans:
            names = (p.spec.name for p in scan.request.points)
            found = (w for name in names for w in self.rate_watchers.get(name, ()))
            scan.every_sample = tuple(dict.fromkeys(found))

    def scans_for(self, names: Iterable[str]) -> Iterable[Scan]:
        """The requests that read these properties, each once."""
        return dict.fromkeys(self.scan_of[name] for name in names)

    def last_good(self, name: str) -> int:
        """Monotonic ns at which the property was last seen good; 0 = never."""
        scan = self.scan_of.get(name)
        return scan.last_good if scan else 0
