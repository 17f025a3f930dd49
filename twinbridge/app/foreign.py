"""Devices that another process serves, as far as rules of this one read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from twinbridge.app.clock import Clock
from twinbridge.app.device import Watcher
from twinbridge.core.messages import Contact, Event, Samples
from twinbridge.core.model import NOT_READ, PropertyRef, Quality, Reason, Sample
from twinbridge.core.twin import lose


@dataclass(slots=True, eq=False)
class ForeignDevice:
    """What was heard of it. `confirmed` is monotonic ns, by this process's own clock."""

    samples: dict[str, Sample]
    watchers: dict[str, tuple[Watcher, ...]] = field(default_factory=dict)
    confirmed: dict[str, int] = field(default_factory=dict)

    def last_good(self, name: str) -> int:
        """Monotonic ns at which the property was last known to be good; 0 = never."""
        return self.confirmed.get(name, 0)


class ForeignDevices:
    """Silence makes their values stale, as it does with own ones: nothing confirms them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.devices: dict[str, ForeignDevice] = {}

    def watch(self, watchers: Mapping[PropertyRef, Sequence[Watcher]]) -> None:
        """Follow exactly these properties; what is known of those followed before stays."""
        wanted: dict[str, dict[str, tuple[Watcher, ...]]] = {}
        for ref, found in watchers.items():
            wanted.setdefault(ref.device, {})[ref.property] = tuple(found)
        for name in self.devices.keys() - wanted.keys():
            del self.devices[name]
        for name, by_property in wanted.items():
            device = self.devices.setdefault(name, ForeignDevice({}))
            device.watchers = by_property
            device.samples = {p: device.samples.get(p, NOT_READ) for p in by_property}

    def hear(self, events: Iterable[Event]) -> None:
        """In order; rules decide once for each event."""
        for event in events:
            if isinstance(event, Samples | Contact) and (found := self.devices.get(event.device)):
                if isinstance(event, Samples):
                    self._take(event, found)
                elif event.connected:
                    self._confirm(found)
                else:
                    self._lose(event, found)

    def _take(self, event: Samples, device: ForeignDevice) -> None:
        now = self._clock.mono()
        changed = [(name, s) for name, s in event.samples if name in device.samples]
        for name, sample in changed:
            if sample.good:
                device.confirmed[name] = now
        self._show(event.device, device, changed, now)

    def _confirm(self, device: ForeignDevice) -> None:
        """It answers: what was good is good still."""
        now = self._clock.mono()
        for name, sample in device.samples.items():
            if sample.good:
                device.confirmed[name] = now

    def _lose(self, event: Contact, device: ForeignDevice) -> None:
        lost = [
            (name, lose(sample, Reason.COMM_LOST, sample.seq, event.message))
            for name, sample in device.samples.items()
            if sample.quality is not Quality.BAD or sample.reason is not Reason.COMM_LOST
        ]
        self._show(event.device, device, lost, self._clock.mono())

    @staticmethod
    def _show(
        name: str, device: ForeignDevice, changed: Iterable[tuple[str, Sample]], now: int
    ) -> None:
        shown: dict[Watcher, None] = {}
        for prop, sample in changed:
            device.samples[prop] = sample
            for watcher in device.watchers.get(prop, ()):
                watcher.saw(PropertyRef(name, prop), sample)
                shown[watcher] = None
        for watcher in shown:
            watcher.decide(now)
