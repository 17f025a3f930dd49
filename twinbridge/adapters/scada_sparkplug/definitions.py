"""The devices of the edge node as Sparkplug devices, by name and by id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import structlog

from twinbridge.adapters.scada_sparkplug.device import Aliases, ShownDevice
from twinbridge.adapters.scada_sparkplug.topics import clean
from twinbridge.core.model import DeviceSpec
from twinbridge.ports import Twins

log = structlog.get_logger()


class ShownDevices:
    def __init__(self, twins: Twins, *, writable: bool) -> None:
        self._twins = twins
        self._writable = writable
        self._devices: dict[str, ShownDevice] = {}
        self._by_id: dict[str, ShownDevice] = {}
        self._hidden: set[str] = set()
        self.aliases = Aliases()

    def __iter__(self) -> Iterator[ShownDevice]:
        return iter(self._devices.values())

    def __len__(self) -> int:
        return len(self._devices)

    def get(self, name: str) -> ShownDevice | None:
        return self._devices.get(name)

    def by_id(self, id_: str) -> ShownDevice | None:
        return self._by_id.get(id_)

    def take_up(self) -> list[str]:
        """All definitions as they are; returns the names of the devices that went away."""
        defined = self._twins.devices()
        gone = [name for name in self._devices if name not in defined]
        for name in gone:
            self._forget(name)
        for name, spec in defined.items():
            old = self._devices.get(name)
            if old is None or old.spec is not spec:
                self._put(spec)
        return gone

    def current(self, name: str) -> bool:
        """Whether the device is shown as it is defined now."""
        shown = self._devices.get(name)
        return (shown.spec if shown is not None else None) is self._twins.devices().get(name)

    def renew(self, name: str) -> ShownDevice | None:
        """One device as it is defined now; None if it is not, or cannot be shown."""
        spec = self._twins.devices().get(name)
        if spec is not None:
            self._put(spec)
        elif name in self._devices:
            self._forget(name)
        return self._devices.get(name)

    def _put(self, spec: DeviceSpec) -> None:
        id_ = clean(spec.name)
        rival = self._by_id.get(id_)
        if rival is not None and rival.spec.name != spec.name:
            if spec.name not in self._hidden:
                log.error("not shown by Sparkplug: its id is another's", device=spec.name, id=id_)
            self._hidden.add(spec.name)
            return
        alike = _alike(point.spec.name for point in spec.points)
        if alike:
            log.warning(
                "names that many Sparkplug hosts take for one", device=spec.name, names=alike
            )
        device = ShownDevice(spec, id_, self.aliases, writable=self._writable)
        self.aliases.keep(spec.name, device.metrics)
        self._devices[spec.name] = self._by_id[id_] = device

    def _forget(self, name: str) -> None:
        del self._by_id[self._devices.pop(name).id]
        self.aliases.keep(name, ())
        self._hidden.clear()  # one of them may have its id now


def _alike(names: Iterable[str]) -> list[str]:
    """Those that differ only by case (tck-id-case-sensitivity-metric-names)."""
    seen: dict[str, str] = {}
    return [name for name in names if seen.setdefault(name.lower(), name) != name]
