"""What applications were last told of a device, and what is new. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from twinbridge.adapters.scada_kubeedge.messages import (
    Twin,
    asked_for,
    attributes,
    difference,
    state,
    twin,
)
from twinbridge.api.wire import Json
from twinbridge.core.model import PropertySpec
from twinbridge.ports import TwinView

Desired: TypeAlias = Callable[[str], Json | None]
"""What is desired of a property, as REST shows it."""

Changes: TypeAlias = Mapping[str, tuple[Twin | None, Twin | None]]
"""By property: what was told last, and what it is now; None before it came or after it went."""


def twins_of(view: TwinView, desired: Desired) -> dict[str, Twin]:
    """All properties as they are."""
    return {
        point.spec.name: twin(
            point.spec, view.samples.get(point.spec.name), desired(point.spec.name)
        )
        for point in view.spec.points
    }


class Shown:
    """A device as applications know it; `update` brings it up to date."""

    def __init__(self, device_id: str, view: TwinView, desired: Desired) -> None:
        self.id = device_id
        self.name = view.spec.name
        self.state = state(view)
        self.attributes = attributes(view.spec)
        self.twins: dict[str, Twin] = {}
        self.differing: dict[str, str] = {}
        """Expected values that the actual ones are not."""
        self._asked: set[str] = set()
        self._specs: dict[str, PropertySpec] = {}
        self.redefine(view)
        self.update(view, desired, self._specs)

    @property
    def asked(self) -> Mapping[str, Twin]:
        """The properties of which a value is expected."""
        return {name: self.twins[name] for name in sorted(self._asked)}

    def redefine(self, view: TwinView) -> set[str]:
        """Take up the device's definition; returns the properties that may be others now."""
        known = set(self.twins)
        self._specs = {point.spec.name: point.spec for point in view.spec.points}
        return known | set(self._specs)

    def update(self, view: TwinView, desired: Desired, names: Iterable[str]) -> Changes:
        changes: dict[str, tuple[Twin | None, Twin | None]] = {}
        for name in names:
            last, current = self.twins.get(name), self._look(view, desired, name)
            if last != current:
                changes[name] = (last, current)
        return changes

    def _look(self, view: TwinView, desired: Desired, name: str) -> Twin | None:
        self.differing.pop(name, None)
        self._asked.discard(name)
        spec = self._specs.get(name)
        if spec is None:
            self.twins.pop(name, None)
            return None
        sample, wish = view.samples.get(name), desired(name)
        if wish is not None and asked_for(wish):
            self._asked.add(name)
            differs = difference(spec, sample, wish)
            if differs is not None:
                self.differing[name] = differs
        current = self.twins[name] = twin(spec, sample, wish)
        return current
