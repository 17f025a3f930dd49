"""A device as a Sparkplug device: its metrics, as its birth and its data have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from twinbridge.adapters.scada_sparkplug.metrics import UNSHOWN
from twinbridge.adapters.scada_sparkplug.payload import DataType, Metric, Property
from twinbridge.adapters.scada_sparkplug.values import BAD, GOOD, STALE, datatype, pack, quality
from twinbridge.core.model import MILLISECOND, DeviceSpec, PropertySpec, Sample

QUALITY: Final = "Quality"
_LATEST: Final = 2**63
_QUALITIES: Final = {
    code: (Property(QUALITY, DataType.INT32, code),) for code in (GOOD, BAD, STALE)
}


class Aliases:
    """Numbers of metrics, unique in this process: none is ever another's (6.4.6)."""

    def __init__(self) -> None:
        self._given: dict[tuple[str, str], int] = {}
        self._last = 0

    def of(self, device: str, metric: str) -> int:
        """The same as long as the device is there; '' is the edge node itself."""
        alias = self._given.get((device, metric))
        if alias is None:
            self._last += 1
            alias = self._given[device, metric] = self._last
        return alias

    def keep(self, device: str, metrics: Iterable[str]) -> None:
        """Forget those of a device that it does not have any more."""
        wanted = set(metrics)
        for key in [k for k in self._given if k[0] == device and k[1] not in wanted]:
            del self._given[key]


class ShownMetric(NamedTuple):
    alias: int
    spec: PropertySpec
    type: DataType
    about: tuple[Property, ...]
    """What the birth says beside the quality."""


class ShownDevice:
    """`id` stands in topics. `alive`: its birth is out, and no death after it."""

    def __init__(self, spec: DeviceSpec, id_: str, aliases: Aliases, *, writable: bool) -> None:
        self.spec = spec
        self.id = id_
        self.alive = False
        self.born_at = 0
        """How many changes there had been at its birth: it covers them."""
        self.born_with: Mapping[str, Sample] = {}
        self.metrics = {
            point.spec.name: ShownMetric(
                aliases.of(spec.name, point.spec.name),
                point.spec,
                datatype(point.spec),
                _about(point.spec, writable=writable),
            )
            for point in spec.points
        }
        self.by_alias = {metric.alias: name for name, metric in self.metrics.items()}

    def birth(self, samples: Mapping[str, Sample], now: int) -> tuple[Metric, ...]:
        """Every metric, in the order of time (5.9).

        `now` (UTC ms) is the time of values that there never were. What can only be written has
        no value, and nothing is wrong with it.
        """
        self.born_with = dict(samples)
        metrics = [
            self._born(name, shown, samples.get(name), now) for name, shown in self.metrics.items()
        ]
        return tuple(sorted(metrics, key=_time))

    def _born(self, name: str, shown: ShownMetric, sample: Sample | None, now: int) -> Metric:
        code = quality(sample) if sample else GOOD
        return _valued(shown, sample, _at(sample, now), code, name=name, kind=shown.type)

    def changed(self, name: str, sample: Sample, now: int, *, historical: bool) -> Metric | None:
        """A value by its alias alone; None for what the birth does not have."""
        shown = self.metrics.get(name)
        if shown is None:
            return None
        return _valued(shown, sample, _at(sample, now), quality(sample), historical=historical)


def _at(sample: Sample | None, now: int) -> int:
    """UTC ms; a time that no timestamp can be (a device may say that it is 1601) is `now`."""
    at = sample.source_time // MILLISECOND if sample is not None else 0
    return at if 0 < at < _LATEST else now


def _valued(
    shown: ShownMetric,
    sample: Sample | None,
    at: int,
    code: int,
    *,
    name: str | None = None,
    kind: int | None = None,
    historical: bool = False,
) -> Metric:
    value = sample.value if sample is not None else None
    field = raw = None
    if value is not None:
        try:
            field, raw = pack(shown.type, value)
        except ValueError:
            UNSHOWN.inc()
            code = BAD
    about = _QUALITIES[code] if name is None else (*_QUALITIES[code], *shown.about)
    return Metric(name, shown.alias, at, kind, raw, field, field is None, historical, about)


def _about(spec: PropertySpec, *, writable: bool) -> tuple[Property, ...]:
    """By the names that SCADA hosts know."""
    said: list[Property] = []
    if spec.unit:
        said.append(Property("engUnit", DataType.STRING, spec.unit))
    if spec.minimum is not None:
        said.append(Property("engLow", DataType.DOUBLE, float(spec.minimum)))
    if spec.maximum is not None:
        said.append(Property("engHigh", DataType.DOUBLE, float(spec.maximum)))
    read_only = not (writable and spec.access.writable)
    said.append(Property("readOnly", DataType.BOOLEAN, read_only))
    return tuple(said)


def _time(metric: Metric) -> int:
    return metric.timestamp or 0
