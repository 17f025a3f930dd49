"""The twins as the broker is shown them: what changed at once, each whole twin now and then."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from twinbridge.adapters.scada_mqtt import payload
from twinbridge.adapters.scada_mqtt.metrics import COALESCED, HIDDEN
from twinbridge.adapters.scada_mqtt.outlet import Outlet
from twinbridge.adapters.scada_mqtt.topics import Layout, Place, Topics
from twinbridge.api.scada import PlainMqtt
from twinbridge.api.wire import Json
from twinbridge.core.messages import Samples
from twinbridge.core.model import SECOND, Sample
from twinbridge.errors import UnknownName
from twinbridge.ports import DesiredChanged, Twins

log = structlog.get_logger()

MOST_TWINS = 10
"""Of a device in a second, however often its qualities change."""


@dataclass(slots=True, eq=False)
class _Device:
    """A device that is shown, and what of it was."""

    place: Place
    units: Mapping[str, str]
    writable: tuple[str, ...]
    told: dict[str, Sample] = field(default_factory=dict)
    """The last sample of each property that went to `changes`, or to the first twin."""
    withheld: dict[str, Sample] = field(default_factory=dict)
    """The newest of each property that waits until the broker has room."""
    twin_due: float = 0.0
    """s of the monotonic clock: not before that, unless something urgent comes."""
    waits: bool = False
    """Whether a twin is due by the time."""
    shown_at: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_TWINS))
    """When the last twins went out, s of the monotonic clock."""


class ShownTwins:
    """What is on the topics of all devices. `mono`: the monotonic clock, s.

    A twin goes out when it must (a quality or a connection changed) or when its interval is
    over. While the broker is behind nothing goes out; then of each property the newest.
    `layout` is the one before: who has a topic keeps it.
    """

    def __init__(
        self,
        options: PlainMqtt,
        topics: Topics,
        twins: Twins,
        outlet: Outlet,
        mono: Callable[[], float],
        layout: Layout,
    ) -> None:
        self._topics = topics
        self._twins = twins
        self._outlet = outlet
        self._mono = mono
        self._bare = options.payload == "Bare"
        self._values = payload.Values(text_beyond=options.big_integers == "String")
        self._interval = options.twin_interval / SECOND
        self._devices: dict[str, _Device] = {}
        self._tripped: frozenset[str] = frozenset()
        self._urgent: dict[str, None] = {}
        """Devices whose twin is to be shown now."""
        self._behind: dict[str, None] = {}
        """Devices of which changes were withheld."""
        self._anew: dict[str, None] = {}
        """Devices whose property topics are all to be shown."""
        self._timed: list[tuple[float, str]] = []
        self.layout = layout

    @property
    def retained(self) -> Iterator[str]:
        for device in self._devices.values():
            yield from device.place.retained

    # Definitions.

    def define(self, changed: tuple[str, ...] = ()) -> None:
        """Take up the definitions as they are; clear what is shown no longer."""
        before = set(self.retained)
        old, self.layout = self.layout, self._topics.layout(self._twins.devices(), self.layout)
        self._say_problems(old)
        for name in self._devices.keys() - self.layout.places.keys():
            del self._devices[name]
        for name, place in self.layout.places.items():
            device = self._devices.get(name)
            if device is None or device.place != place or name in changed:
                with suppress(UnknownName):  # it has no twin yet: a change that comes says when
                    self._devices[name] = self._made(name, place)
                    self._urgent[name] = self._anew[name] = None
        for topic in before.difference(self.retained):
            self._outlet.send("clear", topic, b"", retain=True)

    def _made(self, name: str, place: Place) -> _Device:
        view = self._twins.twin(name)
        specs = [point.spec for point in view.spec.points]
        before = self._devices.get(name)
        told, withheld = (before.told, before.withheld) if before is not None else ({}, {})
        return _Device(
            place,
            {spec.name: spec.unit for spec in specs if spec.unit},
            tuple(spec.name for spec in specs if spec.access.writable),
            {of: told.get(of, sample) for of, sample in view.samples.items()},
            withheld,
        )

    def _say_problems(self, old: Layout) -> None:
        HIDDEN.set(len(self.layout.problems))
        for what, why in self.layout.problems.items():
            if old.problems.get(what) != why:
                log.error("not shown by MQTT", what=what, why=why)

    def read_anew(self) -> None:
        """What happened meanwhile is not known: tell what differs from what was told.

        What is followed must begin at the very same moment, or an older value would be told
        after a newer one.
        """
        for name, device in self._devices.items():
            with suppress(UnknownName):
                samples = self._twins.twin(name).samples
                fresh = [(of, s) for of, s in samples.items() if device.told.get(of) is not s]
                self._withhold(name, device, fresh)
            self._urgent[name] = None

    # What happens.

    def take_samples(self, change: Samples) -> None:
        device = self._devices.get(change.device)
        if device is None:
            return
        if self._outlet.full or change.device in self._behind:
            self._withhold(change.device, device, change.samples)
            return
        properties: dict[str, Json] = {}
        told, view = device.told, self._values.sample
        urgent = False
        for name, sample in change.samples:
            old = told.get(name)
            if old is None:
                continue  # a property that the definition, as we know it, does not have
            if sample.quality is not old.quality or sample.reason is not old.reason:
                urgent = True
            told[name] = sample
            properties[name] = view(sample)
        if properties:
            if len(properties) < len(change.samples):
                COALESCED.inc(len(change.samples) - len(properties))
            self._tell(change.device, device, properties, urgent=urgent)

    def _withhold(self, name: str, device: _Device, samples: Sequence[tuple[str, Sample]]) -> None:
        if samples:
            waited = len(device.withheld)
            device.withheld.update(samples)
            COALESCED.inc(waited + len(samples) - len(device.withheld))
            self._behind[name] = None

    def _tell(
        self, name: str, device: _Device, properties: Mapping[str, Json], *, urgent: bool
    ) -> None:
        content = payload.changes(self._twins.now(), properties)
        self._outlet.send("changes", device.place.changes, content)
        if device.place.properties:
            for of in properties:
                self._show_property(device, of)
        if urgent:
            self._urgent[name] = None
        else:
            self._later(name, device)

    def take_desired(self, change: DesiredChanged) -> None:
        device = self._devices.get(change.device)
        if device is None:
            return
        if not self._outlet.full:
            desired: Json = {change.property: change.view}
            content = payload.changes(self._twins.now(), {}, desired)
            self._outlet.send("changes", device.place.changes, content)
        self._later(change.device, device)

    def _later(self, name: str, device: _Device) -> None:
        if not device.waits:
            device.waits = True
            heapq.heappush(self._timed, (device.twin_due, name))

    def show(self, name: str) -> None:
        """Something urgent has changed."""
        if name in self._devices:
            self._urgent[name] = None

    def trip(self, tripped: frozenset[str]) -> None:
        """The devices that a trip holds now."""
        for name in tripped ^ self._tripped:
            self.show(name)
        self._tripped = tripped

    # What is due.

    def step(self, size: int) -> bool:
        """Send some `size` bytes of what is due; whether more is."""
        now = self._mono()
        while self._timed and self._timed[0][0] <= now:
            due, name = heapq.heappop(self._timed)
            device = self._devices.get(name)
            if device is not None and device.waits and due >= device.twin_due:
                self._urgent[name] = None
        until = self._outlet.backlog + size
        for queue, send in (
            (self._behind, self._catch_up),
            (self._urgent, self._show_twin),
            (self._anew, self._show_properties),
        ):
            while queue and not self._outlet.full:
                if self._outlet.backlog >= until:
                    return True
                name = next(iter(queue))
                del queue[name]
                if name in self._devices:
                    with suppress(UnknownName):  # its removal is among the changes to come
                        send(name, self._devices[name])
        return False

    def _catch_up(self, name: str, device: _Device) -> None:
        samples, device.withheld = tuple(device.withheld.items()), {}
        self.take_samples(Samples(name, samples))

    def _show_twin(self, name: str, device: _Device) -> None:
        now, lately = self._mono(), device.shown_at
        if len(lately) == MOST_TWINS and now < lately[0] + 1.0:
            device.twin_due, device.waits = lately[0] + 1.0, False
            self._later(name, device)
            return
        lately.append(now)
        device.twin_due = now + self._interval
        device.waits = False
        desired = {of: self._twins.desired(name, of) for of in device.writable}
        content = payload.twin(
            self._twins.twin(name),
            self._twins.now(),
            self._values,
            device.units,
            node=self._twins.node,
            tripped=name in self._tripped,
            desired={of: view for of, view in desired.items() if view is not None},
        )
        self._outlet.send("twin", device.place.twin, content, retain=True)

    def _show_properties(self, _: str, device: _Device) -> None:
        for of in device.place.properties:
            self._show_property(device, of)

    def _show_property(self, device: _Device, name: str) -> None:
        topic, sample = device.place.properties.get(name), device.told.get(name)
        if topic is None or sample is None:
            return
        if self._bare:
            content = self._values.bare(sample)
        else:
            content = payload.encode(self._values.with_unit(sample, device.units.get(name, "")))
        self._outlet.send("property", topic, content, retain=True)
