"""Twins in memory, as a Sparkplug node sees them; a test changes them and tells the node."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field

from typing_extensions import override

from twinbridge.adapters.scada_sparkplug.node import Node
from twinbridge.adapters.scada_sparkplug.payload import Metric, Payload, decode
from twinbridge.adapters.scada_sparkplug.topics import Topics
from twinbridge.api.wire import Json
from twinbridge.core.alarm import Alarm
from twinbridge.core.messages import Contact, Samples
from twinbridge.core.model import (
    MILLISECOND,
    NOT_READ,
    Access,
    DeviceSpec,
    Point,
    PropertyRef,
    PropertySpec,
    Quality,
    Reason,
    Sample,
    Value,
    ValueType,
)
from twinbridge.errors import TwinBridgeError, UnknownName
from twinbridge.ports import (
    Actor,
    Change,
    DefinitionsChanged,
    HistoryRow,
    Twins,
    TwinView,
)

NOW = 1_700_000_000_000
"""UTC ms."""

PROPERTIES = (
    PropertySpec("temperature", ValueType.FLOAT, unit="Cel", minimum=-40, maximum=200),
    PropertySpec("run", ValueType.BOOL, Access.READ_WRITE),
    PropertySpec("speed", ValueType.INT, Access.READ_WRITE),
    PropertySpec("label", ValueType.STRING, Access.READ_WRITE),
    PropertySpec("start", ValueType.BOOL, Access.WRITE_ONLY),
)


def a_device(name: str = "pump-1", *specs: PropertySpec) -> DeviceSpec:
    points = tuple(
        Point(PropertyRef(name, s.name), s, None, MILLISECOND) for s in specs or PROPERTIES
    )
    return DeviceSpec(name, "pump", "edge-1", "fake", None, points)


def good(value: Value, at: int = NOW) -> Sample:
    """`at`: UTC ms."""
    return Sample(value, Quality.GOOD, Reason.NONE, at * MILLISECOND, 1)


def bad(value: Value | None, reason: Reason = Reason.COMM_LOST, at: int = NOW) -> Sample:
    return Sample(value, Quality.BAD, reason, at * MILLISECOND, 1)


@dataclass
class Plant(Twins):
    """Devices that answer from the start, unless a test says otherwise."""

    specs: dict[str, DeviceSpec] = field(default_factory=dict)
    samples: dict[str, dict[str, Sample]] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)
    clock: int = NOW
    mono: float = 0.0
    desires: list[tuple[str, Mapping[str, object], Actor]] = field(default_factory=list)
    audits: list[tuple[str, str, Mapping[str, object]]] = field(default_factory=list)
    refuses: TwinBridgeError | None = None

    def define(self, *specs: DeviceSpec) -> DefinitionsChanged:
        old, self.specs = self.specs, {spec.name: spec for spec in specs}
        self.samples = {spec.name: dict(self.samples.get(spec.name, {})) for spec in specs}
        for spec in specs:
            for point in spec.points:
                if point.spec.access.readable:
                    self.samples[spec.name].setdefault(point.spec.name, NOT_READ)
        gone = tuple(name for name in old if name not in self.specs)
        changed = tuple(n for n, spec in self.specs.items() if old.get(n) is not spec)
        return DefinitionsChanged(changed, gone)

    def report(self, device: str, *samples: tuple[str, Sample]) -> Samples:
        self.samples[device].update(samples)
        return Samples(device, samples)

    def contact(self, device: str, *, connected: bool) -> Contact:
        (self.away.discard if connected else self.away.add)(device)
        return Contact(device, connected, self.now())

    @property
    @override
    def node(self) -> str:
        return "edge-1"

    @override
    def now(self) -> int:
        return self.clock * MILLISECOND

    @override
    def devices(self) -> Mapping[str, DeviceSpec]:
        return self.specs

    @override
    def twin(self, device: str) -> TwinView:
        if device not in self.specs:
            raise UnknownName(device)
        there = device not in self.away
        return TwinView(self.specs[device], self.samples[device], there, self.now(), "")

    @override
    def desired(self, device: str, name: str) -> Json | None:
        return None

    @override
    def alarms(self) -> Sequence[Alarm]:
        return ()

    @override
    async def follow(self, heartbeat: float = 15.0) -> AsyncGenerator[Sequence[Change], None]:
        return
        yield ()

    @override
    async def desire(self, device: str, patch: Mapping[str, object], actor: Actor) -> int:
        if self.refuses is not None:
            raise self.refuses
        self.desires.append((device, patch, actor))
        return len(self.desires)

    @override
    async def acknowledge(self, alarm: str, actor: Actor, comment: str) -> None:
        raise UnknownName(alarm)

    @override
    async def shelve(self, alarm: str, length: str, actor: Actor, reason: str) -> None:
        raise UnknownName(alarm)

    @override
    async def reset(self, alarm: str, actor: Actor, reason: str) -> None:
        raise UnknownName(alarm)

    @override
    async def recorded(
        self, device: str, name: str, start: int, end: int, limit: int = 10_000
    ) -> Sequence[HistoryRow]:
        return ()

    @override
    async def audit(
        self, kind: str, subject: str, actor: Actor, detail: Mapping[str, object]
    ) -> None:
        self.audits.append((kind, subject, detail))


TOPICS = Topics("plant", "edge-1")


def a_plant(*names: str) -> Plant:
    plant = Plant()
    plant.define(*(a_device(name) for name in names or ("pump-1",)))
    return plant


def a_node(plant: Plant, *, keep: int = 1000) -> Node:
    return Node(TOPICS, plant, lambda: plant.mono, keep=keep)


@dataclass(frozen=True)
class Said:
    """A message as a host sees it."""

    verb: str
    device: str
    payload: Payload

    @property
    def values(self) -> dict[str | int | None, object]:
        return {m.alias if m.name is None else m.name: m.value for m in self.payload.metrics}

    def metric(self, name: str) -> Metric:
        return next(m for m in self.payload.metrics if m.name == name)

    @property
    def historical(self) -> bool:
        return any(m.is_historical for m in self.payload.metrics)


def all_said(node: Node) -> list[Said]:
    """Everything that the node has to say now."""
    said = []
    while messages := node.say():
        for topic, content in messages:
            parts = topic.split("/")
            said.append(Said(parts[2], parts[4] if len(parts) > 4 else "", decode(content)))
    return said


def verbs(said: Sequence[Said]) -> list[str]:
    return [f"{s.verb} {s.device}".strip() for s in said]


def aliases(said: Sequence[Said]) -> dict[tuple[str, str], int]:
    """By device and metric, as the births have them."""
    return {
        (s.device, m.name): m.alias
        for s in said
        for m in s.payload.metrics
        if m.name is not None and m.alias is not None
    }
