"""Tells applications what changes: one task follows, another tells, and neither waits long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NoReturn

from twinbridge.adapters.scada_kubeedge import messages
from twinbridge.adapters.scada_kubeedge.messages import Event
from twinbridge.adapters.scada_kubeedge.metrics import COALESCED, RESYNCS
from twinbridge.adapters.scada_kubeedge.outlet import Outlet
from twinbridge.adapters.scada_kubeedge.shown import Changes, Desired, Shown
from twinbridge.adapters.scada_kubeedge.topics import Topics
from twinbridge.core.messages import Contact, Samples
from twinbridge.core.model import DeviceSpec
from twinbridge.ports import (
    Change,
    DefinitionsChanged,
    DesiredChanged,
    FellBehind,
    Twins,
    TwinView,
)

PACE = 0.05
"""Seconds in which changes of a device gather into one document."""


class Presenter:
    """Knows by name only what has changed, and looks at the twin when it tells: nothing grows."""

    def __init__(self, twins: Twins, topics: Topics, out: Outlet) -> None:
        self._twins = twins
        self._topics = topics
        self._out = out
        self._shown: dict[str, Shown] = {}
        self._changed: dict[str, set[str]] = {}
        self._whole: set[str] = set()
        """Of the changed devices those of which everything is to be looked at."""
        self._bell = asyncio.Event()

    def begin(self) -> None:
        """Nobody was told anything: every device will be introduced."""
        self._shown.clear()
        self._note_all()

    # What changes.

    async def follow(self) -> None:
        """Until the agent stops."""
        while True:
            try:
                async for batch in self._twins.follow():
                    for change in batch:
                        self._note(change)
            except FellBehind:
                RESYNCS.inc()
                self._note_all()
            else:
                return

    def _note(self, change: Change) -> None:
        match change:
            case Samples(device, samples):
                names = self._of(device)
                before = len(names)
                names.update([name for name, _ in samples])
                COALESCED.inc(before + len(samples) - len(names))
            case DesiredChanged(device, name):
                self._of(device).add(name)
            case Contact(device):
                self._of(device)
            case DefinitionsChanged(changed, removed):
                self._note_whole((*changed, *removed))
            case _:
                return  # alarms: KubeEdge has none

    def _of(self, device: str) -> set[str]:
        self._bell.set()
        names = self._changed.get(device)
        if names is None:
            names = self._changed[device] = set()
        return names

    def _note_all(self) -> None:
        self._note_whole({*self._twins.devices(), *self._shown})

    def _note_whole(self, devices: Iterable[str]) -> None:
        for device in devices:
            self._of(device)
            self._whole.add(device)

    # What is told of it.

    async def tell(self) -> NoReturn:
        """A broker that does not keep up makes more changes gather, and nothing else."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            for device in tuple(self._changed):
                await self._out.room()
                self._tell_device(device)
                await asyncio.sleep(0)
            await asyncio.sleep(PACE)

    def _tell_device(self, device: str) -> None:
        names = self._changed.pop(device)
        whole = device in self._whole
        self._whole.discard(device)
        spec, shown = self._twins.devices().get(device), self._shown.get(device)
        if shown is not None and (spec is None or self._topics.id(spec) != shown.id):
            self._remove(shown)
            shown = None
        if spec is None:
            return
        view = self._twins.twin(device)
        if shown is None:
            self._introduce(view)
            return
        if whole:
            names |= self._tell_definition(shown, view)
        self._tell_state(shown, view)
        self._tell_changes(shown, shown.update(view, self._desired(spec), names))

    def tell_now(self, device: str, names: Iterable[str], event_id: str) -> None:
        """What an application's own update has changed, with the id that it gave."""
        shown, spec = self._shown.get(device), self._twins.devices().get(device)
        if shown is not None and spec is not None:
            changes = shown.update(self._twins.twin(device), self._desired(spec), names)
            self._tell_changes(shown, changes, event_id)

    def _desired(self, spec: DeviceSpec) -> Desired:
        return lambda name: self._twins.desired(spec.name, name)

    def _introduce(self, view: TwinView) -> None:
        device_id = self._topics.id(view.spec)
        shown = self._shown[view.spec.name] = Shown(device_id, view, self._desired(view.spec))
        content = messages.device(device_id, view, shown.twins)
        self._out.send(self._topics.membership, messages.device_added(self._event(), content))
        self._tell_delta(shown)

    def _remove(self, shown: Shown) -> None:
        del self._shown[shown.name]
        gone = messages.device_removed(self._event(), shown.id, shown.name)
        self._out.send(self._topics.membership, gone)

    def _tell_definition(self, shown: Shown, view: TwinView) -> set[str]:
        before, shown.attributes = shown.attributes, messages.attributes(view.spec)
        if before != shown.attributes:
            changed = messages.attributes_updated(self._event(), before, shown.attributes)
            self._out.send(self._topics.attributes(shown.id), changed)
        return shown.redefine(view)

    def _tell_state(self, shown: Shown, view: TwinView) -> None:
        before, shown.state = shown.state, messages.state(view)
        if before != shown.state:
            said = messages.state_result(self._event(), view)
            self._out.send(self._topics.state(shown.id), said)

    def _tell_changes(self, shown: Shown, changes: Changes, event_id: str = "") -> None:
        if changes:
            document = messages.document(self._event(event_id), changes)
            self._out.send(self._topics.document(shown.id), document)
            self._tell_delta(shown)

    def _tell_delta(self, shown: Shown) -> None:
        """With every document as long as something differs, as KubeEdge does."""
        if shown.differing:
            said = messages.delta(self._event(), shown.asked, shown.differing)
            self._out.send(self._topics.delta(shown.id), said)

    def _event(self, event_id: str = "") -> Event:
        return Event(self._twins.now(), event_id)
