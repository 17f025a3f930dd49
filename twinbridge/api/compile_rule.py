"""Rule into rule instances, one per device, checked against the devices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from twinbridge.api.compile_device import canonical
from twinbridge.api.device_resources import Device
from twinbridge.api.findings import Findings
from twinbridge.api.problems import Path, unknown
from twinbridge.api.property_value import fit, refusal, typed
from twinbridge.api.rule_condition import Comparison, Group, RuleInput
from twinbridge.api.rule_resource import Rule, WriteEntry
from twinbridge.api.yaml_source import Document
from twinbridge.core.model import (
    SECOND,
    DeviceSpec,
    Point,
    PropertySpec,
    ValueType,
)
from twinbridge.core.rule import (
    Act,
    Compare,
    Condition,
    Enable,
    OnBad,
    Op,
    RuleInstance,
    Trip,
    Vote,
    Write,
)

MISSED_POLLS = 3
STALE_AT_LEAST = 2 * SECOND


class RuleCompiler:
    """Knows every device as written, so that a rule on a refused one is told apart."""

    def __init__(self, found: Findings) -> None:
        self.found = found
        self._devices: dict[str, Device] = {}
        self._trip_inputs: dict[str, set[str]] = {}

    def add_devices(self, devices: Iterable[tuple[Device, Document]]) -> None:
        for device, _ in devices:
            self._devices[device.metadata.name] = device

    def targets(self, rule: Rule) -> list[str]:
        """The devices that the rule is applied to; a selector looks only at the rule's node."""
        devices = rule.spec.devices
        if devices.name is not None:
            return [devices.name]
        wanted = (devices.selector.match_labels if devices.selector else {}).items()
        return [
            name
            for name, device in self._devices.items()
            if device.spec.node_name == rule.spec.node_name
            and wanted <= device.metadata.labels.items()
        ]

    def note_inputs(self, rule: Rule, document: Document) -> None:
        """Remember what rules that trip read: it is polled faster. Say if nothing is selected."""
        targets = self.targets(rule)
        if not targets:
            self.found.warn(
                document,
                f"Rule/{rule.metadata.name}",
                ("spec", "devices", "selector"),
                f"matches no device on node {rule.spec.node_name}",
            )
        if rule.spec.trip is None:
            return
        conditions: list[Comparison] = [rule.spec.when]
        if rule.spec.enabled_when:
            conditions.append(rule.spec.enabled_when.condition)
        named = {given.name: given for given in rule.spec.inputs}
        for comparison in (leaf for c in conditions for leaf in leaves(c)):
            for device, name in _read_by(comparison, named):
                for owner in [device] if device else targets:
                    self._trip_inputs.setdefault(owner, set()).add(name)

    def trip_inputs(self, device: str) -> frozenset[str]:
        return frozenset(self._trip_inputs.get(device, ()))

    def compile(
        self, rule: Rule, document: Document, devices: Mapping[str, DeviceSpec]
    ) -> list[RuleInstance]:
        made = []
        for target in self.targets(rule):
            instance = _Instance(rule, document, target, devices, self._devices, self.found)
            compiled = instance.compile()
            if compiled is not None:
                made.append(compiled)
        return made


def leaves(condition: Comparison) -> list[Comparison]:
    """The single comparisons under a condition."""
    parts = _parts(condition)
    return [leaf for part in parts for leaf in leaves(part)] if parts else [condition]


def _read_by(
    comparison: Comparison, named: Mapping[str, RuleInput]
) -> Iterator[tuple[str | None, str]]:
    """The properties that a comparison reads, each with its device if it names one."""
    deviation = comparison.deviation
    for name in (comparison.input_name, deviation.input_name if deviation else None):
        if name is not None and name in named:
            yield named[name].device, named[name].property
    if comparison.input is not None:
        yield comparison.device, comparison.input
    if deviation and deviation.other is not None:
        yield comparison.device, deviation.other


def _parts(condition: Comparison) -> list[Comparison]:
    if not isinstance(condition, Group):
        return []
    return list(condition.all_of or condition.any_of or condition.of or ())


@dataclass(slots=True)
class _Instance:
    """One rule on one device, being compiled."""

    rule: Rule
    document: Document
    target: str
    devices: Mapping[str, DeviceSpec]
    written: Mapping[str, Device]
    found: Findings
    named: dict[str, RuleInput] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def compile(self) -> RuleInstance | None:
        spec, before = self.rule.spec, self.found.count
        self._name_inputs()
        condition = self._condition(spec.when, ("spec", "when"), None)
        enable = self._enable()
        trip = self._trip()
        act = self._act()
        if self.found.count > before or condition is None:
            return None
        self._check_use()
        return RuleInstance(
            rule=self.rule.metadata.name,
            device=self.target,
            condition=condition,
            on_bad=spec.when.on_bad or OnBad.ALARM,
            severity=spec.severity,
            mode=spec.mode,
            on_delay=spec.when.on_delay or 0,
            off_delay=spec.when.clear_for or 0,
            enable=enable,
            trip=trip,
            act=act,
            latch=bool(spec.latch) or trip is not None,
            max_latency=spec.max_latency or 0,
            message=spec.message,
            revision=canonical(spec.model_dump(mode="json")).hex()[:16],
            namespace=self.rule.metadata.namespace,
        )

    def _name_inputs(self) -> None:
        for index, given in enumerate(self.rule.spec.inputs):
            if given.name in self.named:
                self._wrong(("spec", "inputs", index, "name"), f"{given.name} is given twice")
            self.named[given.name] = given

    def _check_use(self) -> None:
        subject = f"Rule/{self.rule.metadata.name}"
        for index, given in enumerate(self.rule.spec.inputs):
            if given.name not in self.used:
                message = f"no condition reads the input {given.name}"
                self.found.warn(self.document, subject, ("spec", "inputs", index), message)

    def _wrong(self, path: Path, message: str) -> None:
        subject = f"Rule/{self.rule.metadata.name}"
        self.found.add(self.document, subject, path, message, rejects=False)

    def _point(self, device: str | None, name: str, path: Path) -> Point | None:
        """The property of the named device, or of the rule's; what is wrong is noted."""
        owner = device or self.target
        where = (*path, "device") if device else ("spec", "devices")
        spec = self.devices.get(owner)
        if spec is None:
            known = self.written.get(owner)
            if known is None:
                self._wrong(where, unknown("device", owner, list(self.written)))
            elif known.spec.node_name != self.rule.spec.node_name:
                self._other_node(where, owner, known.spec.node_name)
            else:
                self._wrong(where, f"device {owner} is refused itself; see what is wrong with it")
            return None
        if spec.node != self.rule.spec.node_name:
            self._other_node(where, owner, spec.node)
            return None
        point = spec.point(name)
        if point is None:
            names = [p.spec.name for p in spec.points]
            message = f"{unknown('property', name, names)} on {owner}"
            self._wrong((*path, "property"), message)
        return point

    def _other_node(self, path: Path, device: str, node: str) -> None:
        self._wrong(path, f"device {device} is on node {node}, not {self.rule.spec.node_name}")

    def _condition(self, given: Comparison, path: Path, stale: int | None) -> Condition | None:
        stale = given.stale_after or stale
        parts = _parts(given)
        if not parts:
            return self._compare(given, path, stale)
        group = "of" if "atLeast" in given.given else given.given[0]
        of = [self._condition(p, (*path, group, n), stale) for n, p in enumerate(parts)]
        sound = tuple(c for c in of if c is not None)
        if group != "of":
            return Vote(1 if group == "any" else len(parts), sound)
        need = given.at_least if isinstance(given, Group) and given.at_least else len(parts)
        return Vote(need, sound)

    def _compare(self, given: Comparison, path: Path, stale: int | None) -> Compare | None:
        point, patience = self._watched(given.input_name, given.device, given.input, path)
        if point is None:
            return None
        stale = given.stale_after or patience or stale
        op = Op(given.given[0])
        wrong = _misfit(given, op, point.spec)
        if wrong:
            self._wrong((*path, str(op)), wrong)
        reference = None
        if given.deviation:
            deviation, place = given.deviation, (*path, "deviation")
            owner = given.device or (None if given.input_name is None else point.ref.device)
            other, _ = self._watched(deviation.input_name, owner, deviation.other, place)
            reference = other.ref if other else None
        band = given.inside or given.outside or [0.0, 0.0]
        return Compare(
            input=point.ref,
            op=op,
            limit=_limit(given),
            value=_expected(given, point.spec),
            low=band[0],
            high=band[1],
            deadband=given.deadband or 0.0,
            window=given.window or 0,
            reference=reference,
            stale_after=stale or max(MISSED_POLLS * point.interval, STALE_AT_LEAST),
        )

    def _watched(
        self, input_name: str | None, device: str | None, name: str | None, path: Path
    ) -> tuple[Point | None, int | None]:
        """What a comparison reads, by an input's name or directly, and when an input is stale."""
        if input_name is None:
            return self._input(device, name or "", path), None
        given = self.named.get(input_name)
        if given is None:
            self._wrong((*path, "input"), unknown("input", input_name, list(self.named)))
            return None, None
        place: Path = ("spec", "inputs", self.rule.spec.inputs.index(given))
        self.used.add(input_name)
        return self._input(given.device, given.property, place), given.stale_after

    def _input(self, device: str | None, name: str, path: Path) -> Point | None:
        point = self._point(device, name, path)
        if point is not None and not point.spec.access.readable:
            self._wrong((*path, "property"), f"{name} is WriteOnly and is never read")
            return None
        return point

    def _enable(self) -> Enable | None:
        given = self.rule.spec.enabled_when
        if given is None:
            return None
        condition = self._condition(given.condition, ("spec", "enabledWhen", "condition"), None)
        return Enable(condition, given.inhibit) if condition else None

    def _trip(self) -> Trip | None:
        given = self.rule.spec.trip
        if given is None:
            return None
        writes = self._writes(given.write, ("spec", "trip", "write"), trip=True)
        return Trip(writes, given.verify.within, given.verify.retries)

    def _act(self) -> Act | None:
        given = self.rule.spec.act
        if given is None:
            return None
        writes = self._writes(given.write, ("spec", "act", "write"), trip=False)
        return Act(writes, self._writes(given.on_clear, ("spec", "act", "onClear"), trip=False))

    def _writes(self, given: Iterable[WriteEntry], path: Path, *, trip: bool) -> tuple[Write, ...]:
        writes = []
        for index, entry in enumerate(given):
            place: Path = (*path, index)
            point = self._point(entry.device, entry.property, place)
            if point is None:
                continue
            wrong = refusal(point.spec, entry.value)
            if wrong:
                access = not point.spec.access.writable
                self._wrong((*place, "property" if access else "value"), wrong)
            elif trip and point.spec.feedback is None and _shows_nothing(point.spec):
                what = "a pulse" if point.spec.pulse else "WriteOnly"
                message = f"{entry.property} is {what}: a trip can verify it only by feedback"
                self._wrong((*place, "property"), message)
            writes.append(Write(point.ref, typed(point.spec, entry.value)))
        return tuple(writes)


def _shows_nothing(spec: PropertySpec) -> bool:
    return spec.pulse or not spec.access.readable


def _misfit(given: Comparison, op: Op, spec: PropertySpec) -> str | None:
    if op in (Op.EQUALS, Op.NOT_EQUALS):
        value = given.equals if op is Op.EQUALS else given.not_equals
        return None if value is None else fit(spec, value)
    if spec.type not in (ValueType.INT, ValueType.FLOAT):
        return f"{op} is for numbers, and {spec.name} is a {spec.type}; use equals or notEquals"
    return None


def _limit(given: Comparison) -> float:
    if given.deviation:
        return given.deviation.above
    limits = (given.above, given.below, given.rate_above)
    return next((limit for limit in limits if limit is not None), 0.0)


def _expected(given: Comparison, spec: PropertySpec) -> bool | int | float | str:
    value = given.not_equals if given.equals is None else given.equals
    return 0 if value is None else typed(spec, value)
