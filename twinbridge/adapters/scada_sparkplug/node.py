"""The edge node: what it says when, apart from how it is sent.

The face tells it what happens, and asks it what to say next. A session begins with NBIRTH, then
come the births of all devices that answer, then data as it came (Sparkplug 3.0.0, 5.4 to 5.10).
What changes while there is no session is kept, and sent after the births as historical.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Final, TypeAlias

from twinbridge.adapters.scada_sparkplug.backlog import Backlog
from twinbridge.adapters.scada_sparkplug.definitions import ShownDevices
from twinbridge.adapters.scada_sparkplug.device import ShownDevice
from twinbridge.adapters.scada_sparkplug.metrics import KEPT, REBIRTHS, REBIRTHS_DEFERRED, SAMPLES
from twinbridge.adapters.scada_sparkplug.own import OwnMetrics
from twinbridge.adapters.scada_sparkplug.speech import (
    Outgoing,
    Speech,
    bd_seq_metric,
    in_order,
)
from twinbridge.adapters.scada_sparkplug.topics import Topics, Verb
from twinbridge.core.messages import Contact, Samples
from twinbridge.core.model import MILLISECOND, Sample
from twinbridge.errors import UnknownName
from twinbridge.ports import Change, DefinitionsChanged, Twins

REBIRTH_EVERY: Final = 5.0
"""Seconds between two births that hosts ask for."""
LIVE_MOST: Final = 10_000
"""Samples that may wait for a slow broker, even if none are kept for one that is away."""
_AT_ONCE: Final = 500
"""Metrics that are said at once, before others get a turn: some ms."""
_SOME: Final = 20
"""What a birth or death counts among them."""

Gathered: TypeAlias = dict[ShownDevice, list[tuple[str, Sample]]]


class Node:
    """`mono`: the monotonic clock, s. `keep`: samples kept while nobody is there to take them."""

    def __init__(
        self,
        topics: Topics,
        twins: Twins,
        mono: Callable[[], float],
        *,
        keep: int,
        writable: bool = True,
    ) -> None:
        self._twins = twins
        self._mono = mono
        self._keep = keep
        self._speech = Speech(topics)
        self._devices = ShownDevices(twins, writable=writable)
        self._own = OwnMetrics(self._devices.aliases)
        self._backlog = Backlog(keep)
        self._in_session = False
        self._bd_seq = 0
        self._alive = 0
        """Devices whose birth is out."""
        self._births_due = ""
        """Why, '' for not."""
        self._unborn: deque[str] = deque()
        """Devices whose births belong to the births that are under way."""
        self._live: deque[Change] = deque()
        self._live_samples = 0
        self._taken = 0
        """Changes that have left `_live`."""
        self._asked = False
        self._rebirth_not_before = 0.0

    # What happens.

    def begin(self, bd_seq: int) -> None:
        """A broker, and the primary host if there is one, are there."""
        self._bd_seq = bd_seq
        self._in_session = True
        self._births_due = "session"

    def end(self) -> None:
        """The session is over, and with it all devices are dead."""
        self._in_session = self._asked = False
        self._births_due = ""
        self._all_dead()
        self._backlog.doubt(self._mono())
        self._keep_live()
        KEPT.set(len(self._backlog))

    def take(self, changes: Iterable[Change]) -> None:
        """What changed, in order."""
        for change in changes:
            if isinstance(change, Samples):
                if not self._in_session:
                    self._backlog.put(change.device, change.samples)
                    continue
                self._live_samples += len(change.samples)
                self._live.append(change)
            elif self._in_session and isinstance(change, Contact | DefinitionsChanged):
                self._live.append(change)
        if max(self._live_samples, len(self._live)) > max(LIVE_MOST, self._keep):
            # The broker has been too slow for too long: births say what holds now.
            self._keep_live()
            self._births_due = "overflow"
        KEPT.set(len(self._backlog))

    def fell_behind(self) -> None:
        """Changes were missed: births say what holds now."""
        self._keep_live()
        if self._in_session:
            self._births_due = "fell_behind"

    def ask_rebirth(self) -> None:
        """A host wants the births anew: at once, or as soon as the last time is long enough ago.

        Until then data goes on: a host that asks all the time silences nobody.
        """
        if not self._in_session:
            return
        if self._asked or self._mono() < self._rebirth_not_before:
            REBIRTHS_DEFERRED.inc()
        self._asked = True

    # What is known of it.

    @property
    def due_in(self) -> float | None:
        """Seconds until there is something to say that no change announces."""
        return max(0.0, self._rebirth_not_before - self._mono()) if self._asked else None

    def device(self, id_: str) -> ShownDevice | None:
        """A device by its id in topics, if hosts may command it: its birth is out, or due."""
        device = self._devices.by_id(id_)
        if device is None or not self._in_session:
            return None
        reborn = bool(self._unborn or self._births_due) and self._answers(device.spec.name)
        return device if device.alive or reborn else None

    # What to say.

    def death(self, bd_seq: int) -> Outgoing:
        """NDEATH (tck-id-topics-ndeath-payload)."""
        return self._speech.death(bd_seq, self._now())

    def say(self) -> list[Outgoing]:
        """The next messages, some at a time; none when there is nothing to say now."""
        if not self._in_session:
            return []
        if self._asked and self._mono() >= self._rebirth_not_before:
            self._rebirth_not_before = self._mono() + REBIRTH_EVERY
            self._births_due = "asked"
        if self._births_due:
            return [self._begin_births()]
        # History only beside what is live: who watches a machine does not wait for an archive.
        return self._next_births() or [
            *self._live_data(),
            *self._history(),
            *self._node_data(),
        ]

    # Births.

    def _begin_births(self) -> Outgoing:
        if self._births_due != "session":
            REBIRTHS.labels(self._births_due).inc()
        self._births_due, self._asked = "", False
        for name in self._devices.take_up():
            self._backlog.forget(name)
        self._all_dead()
        self._keep_live()
        names = [device.spec.name for device in self._devices]
        self._unborn = deque(names)
        now = self._now()
        alive = sum(self._answers(name) for name in names)
        metrics = self._own.birth(len(names), alive, self._backlog.lost, now)
        bd_seq = bd_seq_metric(self._bd_seq, now)
        return self._speech.begin(now, (bd_seq, *metrics))

    def _next_births(self) -> list[Outgoing]:
        """Of some devices at a time: hundreds of them take longer than others should wait."""
        said: list[Outgoing] = []
        size = 0
        while self._unborn and size < _AT_ONCE:
            device = self._devices.get(self._unborn.popleft())
            if device is not None:
                said += self._birth(device)
                size += len(device.metrics)
        return said

    def _birth(self, device: ShownDevice) -> Iterator[Outgoing]:
        """If it answers. It says what holds now, and so covers the changes that still wait."""
        name, now = device.spec.name, self._now()
        if not self._answers(name):
            return
        device.alive = True
        self._alive += 1
        device.born_at = self._taken + len(self._live)
        self._backlog.back(name)
        metrics = device.birth(self._twins.twin(name).samples, now)
        yield self._speech.of_device(Verb.DBIRTH, device, now, metrics)

    def _death_of(self, device: ShownDevice | None) -> Iterator[Outgoing]:
        if device is not None and device.alive:
            device.alive = False
            self._alive -= 1
            yield self._speech.of_device(Verb.DDEATH, device, self._now())

    def _answers(self, name: str) -> bool:
        with suppress(UnknownName):  # its removal is among the changes to come
            return self._twins.twin(name).connected
        return False

    def _all_dead(self) -> None:
        self._unborn.clear()
        self._alive = 0
        for device in self._devices:
            device.alive = False

    # What changed.

    def _live_data(self) -> list[Outgoing]:
        """Samples of one device that come together go out together."""
        said: list[Outgoing] = []
        gathered: Gathered = {}
        size = 0
        while self._live and size < _AT_ONCE:
            change = self._live.popleft()
            self._taken += 1
            if isinstance(change, Samples):
                size += self._gather(change, gathered)
                continue
            said += self._data(gathered)
            gathered.clear()
            if isinstance(change, Contact):
                said += self._contact(change)
            elif isinstance(change, DefinitionsChanged):
                said += self._redefine(change)
            size += _SOME
        return [*said, *self._data(gathered)]

    def _gather(self, change: Samples, gathered: Gathered) -> int:
        """Returns how many samples are to be said."""
        size = len(change.samples)
        self._live_samples -= size
        device = self._devices.get(change.device)
        if device is None or not device.alive:
            return 0  # its birth says what holds then
        if self._taken <= device.born_at:
            # What led to what its birth says; that itself has been said.
            told = device.born_with
            before = [(name, s) for name, s in change.samples if told.get(name) is not s]
            if before:
                self._backlog.put(change.device, before)
            return 0
        gathered.setdefault(device, []).extend(change.samples)
        return size

    def _contact(self, change: Contact) -> Iterator[Outgoing]:
        device = self._devices.get(change.device)
        if device is None or (device.alive and self._taken <= device.born_at):
            return
        if not change.connected:
            yield from self._death_of(device)
        elif not device.alive:
            yield from self._birth(device)

    def _redefine(self, change: DefinitionsChanged) -> Iterator[Outgoing]:
        """Those that went away die; those that are defined anew die and are born again."""
        for name in dict.fromkeys((*change.removed, *change.changed)):
            if self._devices.current(name):
                continue  # births that came since have said so
            yield from self._death_of(self._devices.get(name))
            device = self._devices.renew(name)
            if device is None:
                self._backlog.forget(name)
            else:
                yield from self._birth(device)

    def _data(self, gathered: Gathered, *, historical: bool = False) -> Iterator[Outgoing]:
        now = self._now()
        for device, samples in gathered.items():
            self._backlog.sent((device.spec.name, samples), self._mono())
            for metrics in in_order(device, samples, now, historical=historical):
                SAMPLES.labels("historical" if historical else "live").inc(len(metrics))
                yield self._speech.of_device(Verb.DDATA, device, now, metrics)

    def _history(self) -> list[Outgoing]:
        """What was kept, the oldest first; of a device that is away when it is back."""
        gathered: Gathered = {}
        size = 0
        while size < _AT_ONCE and self._backlog.waits:
            kept = self._backlog.take()
            device = self._devices.get(kept[0])
            if device is None:
                self._backlog.lose(len(kept[1]))
            elif not device.alive:
                self._backlog.set_aside(kept)
            else:
                gathered.setdefault(device, []).extend(kept[1])
                size += len(kept[1])
        KEPT.set(len(self._backlog))
        return list(self._data(gathered, historical=True))

    def _keep_live(self) -> None:
        """What waits to be sent live is overtaken: births to come say what holds."""
        for change in self._live:
            if isinstance(change, Samples):
                self._backlog.put(change.device, change.samples)
        self._taken += len(self._live)
        self._live.clear()
        self._live_samples = 0

    def _node_data(self) -> list[Outgoing]:
        now = self._now()
        changed = self._own.changed(len(self._devices), self._alive, self._backlog.lost, now)
        return [self._speech.of_node(Verb.NDATA, now, changed)] if changed else []

    def _now(self) -> int:
        """UTC ms."""
        return self._twins.now() // MILLISECOND
