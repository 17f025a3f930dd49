"""DeviceModel and Device into what drivers and the core take."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import orjson
from pydantic import BaseModel, ValidationError

from twinbridge.api.base import Json
from twinbridge.api.device_resources import (
    Device,
    DeviceModel,
    Property,
    PropertyOverride,
    Report,
)
from twinbridge.api.driver_models import DriverModels
from twinbridge.api.findings import Findings
from twinbridge.api.problems import Path, choices, complaints, did_you_mean, unknown
from twinbridge.api.property_value import fit, refusal, typed
from twinbridge.api.yaml_source import Document
from twinbridge.core.model import (
    MILLISECOND,
    DesiredSpec,
    DeviceSpec,
    Feedback,
    Point,
    PropertyRef,
    PropertySpec,
    ReportPolicy,
)
from twinbridge.errors import InvalidDefinition

CUSTOM = "custom"
FASTEST_DEFAULT = 100 * MILLISECOND


@dataclass(frozen=True, slots=True)
class _Property:
    spec: PropertySpec
    addresses: Mapping[str, BaseModel]
    interval: int | None


@dataclass(frozen=True, slots=True)
class _Model:
    properties: Mapping[str, _Property]
    digest: bytes


def canonical(*parts: object) -> bytes:
    """A hash that is equal when the parts are, whatever the order of their keys."""
    options = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
    try:
        text = orjson.dumps(parts, default=repr, option=options)
    except TypeError:  # an integer beyond 64 bits
        text = json.dumps(parts, default=repr, sort_keys=True).encode()
    return hashlib.sha256(text).digest()


class DeviceCompiler:
    """Compiles models first, then the devices that refer to them."""

    def __init__(self, drivers: Mapping[str, DriverModels], found: Findings) -> None:
        self._drivers = drivers
        self._found = found
        self._models: dict[str, _Model | None] = {}
        self._endpoints: dict[bytes, list[Point]] = {}
        self._agreeing: set[bytes] = set()

    def add_model(self, model: DeviceModel, document: Document) -> None:
        subject, before = f"DeviceModel/{model.metadata.name}", self._found.count
        properties: dict[str, _Property] = {}
        for index, given in enumerate(model.spec.properties):
            path: Path = ("spec", "properties", index)
            if given.name in properties:
                self._found.add(document, subject, (*path, "name"), f"{given.name} is given twice")
                continue
            part = _Part(document, subject, path)
            addresses = self._addresses(_spec(given), given, part)
            interval = given.poll.interval if given.poll else None
            properties[given.name] = _Property(_spec(given), addresses, interval)
        self._check_feedback(model, properties, document)
        sound = self._found.count == before
        digest = canonical(document.content["spec"] if isinstance(document.content, dict) else "")
        self._models[model.metadata.name] = _Model(properties, digest) if sound else None

    def _check_feedback(
        self, model: DeviceModel, properties: Mapping[str, _Property], document: Document
    ) -> None:
        subject = f"DeviceModel/{model.metadata.name}"
        for index, given in enumerate(model.spec.properties):
            if given.feedback is None:
                continue
            path: Path = ("spec", "properties", index, "feedback")
            other = properties.get(given.feedback.property)
            if given.feedback.property == given.name:
                message = "feedback must be another property than the one that is written"
                self._found.add(document, subject, (*path, "property"), message)
            elif other is None:
                message = unknown("property", given.feedback.property, list(properties))
                self._found.add(document, subject, (*path, "property"), message)
            elif not other.spec.access.readable:
                message = f"{other.spec.name} is WriteOnly and shows nothing"
                self._found.add(document, subject, (*path, "property"), message)
            elif wrong := fit(other.spec, given.feedback.equals):
                self._found.add(document, subject, (*path, "equals"), wrong)

    def _addresses(
        self, spec: PropertySpec, given: Property | PropertyOverride, part: _Part
    ) -> dict[str, BaseModel]:
        """The protocol blocks of a property, each validated by its driver."""
        addresses: dict[str, BaseModel] = {}
        for key, block in (given.model_extra or {}).items():
            protocol, content, place = self._protocol(key, block, (*part.path, key))
            if protocol not in self._drivers or (key != CUSTOM and key not in self._drivers):
                known = [info.alias or "" for info in type(given).model_fields.values()]
                self._unknown_field(key, protocol, known, part)
                continue
            driver = self._drivers[protocol]
            address = self._block(driver.address_model, content, part, place)
            if address is not None:
                addresses[protocol] = address
                for wrong in driver.check(spec, address):
                    self._found.add(part.document, part.subject, place, wrong)
        return addresses

    def _unknown_field(self, key: str, protocol: str, known: Sequence[str], part: _Part) -> None:
        if key == CUSTOM:
            message = unknown("driver", protocol, list(self._drivers))
            self._found.add(part.document, part.subject, (*part.path, key, "driver"), message)
            return
        allowed = [*known, *self._drivers, CUSTOM]
        message = f"unknown field{did_you_mean(key, allowed)}; allowed here: {choices(allowed)}"
        self._found.add(part.document, part.subject, (*part.path, key), message)

    def _protocol(self, key: str, block: object, path: Path) -> tuple[str, object, Path]:
        """The driver's name and its block; `custom: {driver: NAME, …}` names the driver itself."""
        if key != CUSTOM or not isinstance(block, dict):
            return key, block, path
        rest = {name: value for name, value in block.items() if name != "driver"}
        return str(block.get("driver", "")), rest, path

    def _block(
        self, model: type[BaseModel], content: object, part: _Part, path: Path
    ) -> BaseModel | None:
        try:
            return model.model_validate(content)
        except ValidationError as error:
            for inner, message in complaints(error, model):
                self._found.add(part.document, part.subject, (*path, *inner), message)
            return None

    def compile(
        self, device: Device, document: Document, trip_inputs: frozenset[str]
    ) -> DeviceSpec | None:
        """The device with its model and overrides merged, or None if something is wrong."""
        part = _Part(document, f"Device/{device.metadata.name}", ("spec",))
        before = self._found.count
        model = self._model(device, part)
        protocol, connection = self._connection(device, part)
        if model is None or connection is None:
            return None
        properties = self._merged(device, model, part)
        points = self._points(device, properties, (protocol, connection), part, trip_inputs)
        desired = self._desired(device, properties, part)
        if self._found.count > before:
            return None
        digest = canonical(_content(document), model.digest.hex(), sorted(trip_inputs))
        if not self._agree(device, model, protocol, points, part):
            return None
        return DeviceSpec(
            name=device.metadata.name,
            model=device.spec.model_ref.name,
            node=device.spec.node_name,
            protocol=protocol,
            connection=connection,
            points=tuple(points),
            labels=tuple(sorted(device.metadata.labels.items())),
            namespace=device.metadata.namespace,
            generation=device.metadata.generation,
            desired=desired,
            local_wins=device.spec.overrides.policy == "Local",
            longest_override=device.spec.overrides.longest,
            digest=digest.hex(),
        )

    def _model(self, device: Device, part: _Part) -> _Model | None:
        name = device.spec.model_ref.name
        path: Path = ("spec", "modelRef", "name")
        if name not in self._models:
            message = unknown("DeviceModel", name, list(self._models))
            self._found.add(part.document, part.subject, path, message)
            return None
        model = self._models[name]
        if model is None:
            message = f"DeviceModel {name} is refused itself; see what is wrong with it"
            self._found.add(part.document, part.subject, path, message)
        return model

    def _connection(self, device: Device, part: _Part) -> tuple[str, BaseModel | None]:
        given, path = device.spec.connection, (*part.path, "connection")
        if len(given) != 1:
            what = f"not {' and '.join(given)}" if given else "none is given"
            names = choices([*self._drivers, CUSTOM])
            message = f"give exactly one protocol of {names}; {what}"
            self._found.add(part.document, part.subject, path, message)
            return "", None
        key = next(iter(given))
        protocol, content, place = self._protocol(key, given[key], (*path, key))
        if protocol not in self._drivers:
            what = "driver" if key == CUSTOM else "protocol"
            self._found.add(
                part.document, part.subject, place, unknown(what, protocol, list(self._drivers))
            )
            return protocol, None
        driver = self._drivers[protocol]
        return protocol, self._block(driver.connection_model, content, part, place)

    def _merged(self, device: Device, model: _Model, part: _Part) -> dict[str, _Property]:
        properties = dict(model.properties)
        overridden: set[str] = set()
        for index, override in enumerate(device.spec.properties):
            path: Path = ("spec", "properties", index)
            if override.name not in properties:
                message = unknown("property", override.name, list(properties))
                self._found.add(part.document, part.subject, (*path, "name"), message)
            elif override.name in overridden:
                message = f"{override.name} is given twice"
                self._found.add(part.document, part.subject, (*path, "name"), message)
            else:
                overridden.add(override.name)
                place = _Part(part.document, part.subject, path)
                properties[override.name] = self._override(
                    properties[override.name], override, place
                )
        return properties

    def _override(self, known: _Property, override: PropertyOverride, part: _Part) -> _Property:
        spec = replace(
            known.spec,
            minimum=known.spec.minimum if override.minimum is None else override.minimum,
            maximum=known.spec.maximum if override.maximum is None else override.maximum,
            tolerance=known.spec.tolerance if override.tolerance is None else override.tolerance,
            report=_policy(override.report) if override.report else known.spec.report,
        )
        if None not in (spec.minimum, spec.maximum) and (spec.minimum or 0) > (spec.maximum or 0):
            message = f"minimum ({spec.minimum:g}) must not be above maximum ({spec.maximum:g})"
            self._found.add(part.document, part.subject, part.path, message)
        addresses = {**known.addresses, **self._addresses(spec, override, part)}
        interval = override.poll.interval if override.poll else known.interval
        return _Property(spec, addresses, interval)

    def _points(
        self,
        device: Device,
        properties: Mapping[str, _Property],
        way: tuple[str, BaseModel],
        part: _Part,
        trip_inputs: frozenset[str],
    ) -> list[Point]:
        protocol, connection = way
        poll, points = device.spec.poll, []
        for name, known in properties.items():
            interval = known.interval or poll.interval
            if name in trip_inputs:
                fast = poll.trip_interval or min(poll.interval, FASTEST_DEFAULT)
                interval = min(interval, fast)
            address = known.addresses.get(protocol)
            if address is None:
                model = device.spec.model_ref.name
                message = (
                    f"property {name} has no {protocol} address, neither here nor in its model"
                    f" {model}"
                )
                self._found.add(part.document, part.subject, ("spec", "connection"), message)
                continue
            try:
                bound = self._drivers[protocol].bind(known.spec, connection, address)
            except (InvalidDefinition, ValueError) as error:
                message = f"property {name}: {error}"
                self._found.add(part.document, part.subject, ("spec", "connection"), message)
                continue
            ref = PropertyRef(device.metadata.name, name)
            points.append(Point(ref, known.spec, bound, interval, urgent=name in trip_inputs))
        return points

    def _desired(
        self, device: Device, properties: Mapping[str, _Property], part: _Part
    ) -> tuple[DesiredSpec, ...]:
        wishes: dict[str, DesiredSpec] = {}
        for index, entry in enumerate(device.spec.desired):
            path: Path = ("spec", "desired", index)
            known = properties.get(entry.name)
            wrong = known and refusal(known.spec, entry.value)
            if known is None or entry.name in wishes:
                message = (
                    f"{entry.name} is given twice"
                    if known
                    else unknown("property", entry.name, list(properties))
                )
                self._found.add(part.document, part.subject, (*path, "name"), message)
            elif wrong:
                self._found.add(part.document, part.subject, (*path, "value"), wrong)
            else:
                value = typed(known.spec, entry.value)
                wishes[entry.name] = DesiredSpec(
                    entry.name, value, entry.valid_until, entry.valid_for, entry.given_at
                )
        return tuple(wishes.values())

    def _agree(
        self, device: Device, model: _Model, protocol: str, points: Sequence[Point], part: _Part
    ) -> bool:
        """No two addresses of one connection contradict each other.

        Devices of one model without overrides differ only in where they are: the first that
        agrees speaks for all whose connection has the same limits (everything but the place).
        """
        connection: Json = dict(next(iter(device.spec.connection.values())))
        limits = {k: v for k, v in connection.items() if k not in ("host", "port", "unit")}
        overrides = [o.model_dump() for o in device.spec.properties]
        alike = canonical(model.digest.hex(), overrides, limits)
        driver, sound = self._drivers[protocol], True
        if alike not in self._agreeing:
            for first, second in itertools.combinations(points, 2):
                sound = self._report_overlap(driver, first, second, part) and sound
        if sound:
            self._agreeing.add(alike)
        same_place = self._endpoints.setdefault(canonical(protocol, connection), [])
        for first, second in itertools.product(same_place, points):
            sound = self._report_overlap(driver, first, second, part) and sound
        same_place.extend(points)
        return sound

    def _report_overlap(
        self, driver: DriverModels, first: Point, second: Point, part: _Part
    ) -> bool:
        why = driver.overlap(first.address, second.address)
        if why:
            message = f"{first.ref} and {second.ref} contradict each other: {why}"
            self._found.add(part.document, part.subject, ("spec", "connection"), message)
        return why is None


@dataclass(frozen=True, slots=True)
class _Part:
    """Where in which document the compiler is."""

    document: Document
    subject: str
    path: Path


def _content(document: Document) -> object:
    """What a running device is made of: not its status, nor what is desired of it, nor what a
    cluster notes on it.
    """
    content = document.content
    if not isinstance(content, dict):
        return content
    metadata, spec = content.get("metadata"), content.get("spec")
    named = _only(metadata, lambda key: key in ("name", "namespace", "labels"))
    return [named, _only(spec, lambda key: key not in ("desired", "overrides"))]


def _only(content: object, wanted: Callable[[object], bool]) -> object:
    return {k: v for k, v in content.items() if wanted(k)} if isinstance(content, dict) else {}


def _spec(given: Property) -> PropertySpec:
    feedback = given.feedback
    return PropertySpec(
        name=given.name,
        type=given.type,
        access=given.access,
        unit=given.unit,
        minimum=given.minimum,
        maximum=given.maximum,
        tolerance=given.tolerance,
        reapply=given.on_reconnect == "Reapply",
        read_back_within=given.read_back_within,
        pulse=bool(given.pulse),
        feedback=Feedback(feedback.property, feedback.equals, feedback.within)
        if feedback
        else None,
        report=_policy(given.report),
    )


def _policy(report: Report) -> ReportPolicy:
    return ReportPolicy(report.deadband, report.min_interval, report.max_interval)
