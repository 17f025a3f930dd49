"""Listening to a broker: which topics are spoken on, in which shape, and a DeviceModel of them."""

from __future__ import annotations

import asyncio
import math
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic, time_ns

import yaml

from twinbridge.api.base import API_VERSION
from twinbridge.core.model import ValueType
from twinbridge.errors import InvalidInput, LinkLost
from twinbridge.mqtt import faults
from twinbridge.mqtt.session import Told, open_session
from twinbridge_mqtt.config import MqttConnection, TlsOptions, Version, parse_pointer
from twinbridge_mqtt.message import LARGEST
from twinbridge_mqtt.refusal import shown
from twinbridge_mqtt.shapes import Field, Shape

MOST_TOPICS = 10_000
_ONLINE = {"online", "offline"}
_ODD = re.compile(r"[^A-Za-z0-9_]+")
_LONGEST_NAME = 63
_SHORTEST_AGE, _AGES = 10, 5


@dataclass(slots=True)
class HeardTopic:
    """What came on one topic. Times are s of the monotonic clock."""

    topic: str
    first: float
    last: float
    messages: int = 0
    retained: int = 0
    size: int = 0
    """Bytes of the largest payload."""
    shape: Shape = field(default_factory=Shape)

    @property
    def every(self) -> float | None:
        """Seconds from one live message to the next; None until there were two."""
        live = self.messages - self.retained
        return (self.last - self.first) / (live - 1) if live > 1 else None

    @property
    def availability(self) -> bool:
        """Whether it can only be where a device says if it is there."""
        whole = self.shape.fields.get("")
        return whole is not None and bool(whole.texts) and whole.texts <= _ONLINE


@dataclass(slots=True)
class Heard:
    """By topic, in the order in which they were first heard."""

    seconds: float
    topics: dict[str, HeardTopic] = field(default_factory=dict)
    passed_over: int = 0
    """Messages on topics beyond the limit."""

    def describe(self) -> Iterator[str]:
        """Lines for a person."""
        for heard in sorted(self.topics.values(), key=lambda h: h.topic):
            yield f"{heard.topic}  {_rate(heard)}"
            if heard.shape.format is None:
                yield f"    no text, up to {heard.size} bytes"
            for found in heard.shape.fields.values():
                place = found.place or "(all of it)"
                kind = found.type or "several types" if found.types else "null"
                yield f"    {heard.shape.format} {place}  {kind}  e.g. {shown(found.example)}"
        if self.passed_over:
            yield f"{self.passed_over} messages on further topics were passed over"


def _rate(heard: HeardTopic) -> str:
    count = f"{heard.messages} message{'' if heard.messages == 1 else 's'}"
    every = f", every {heard.every:.3g} s" if heard.every else ""
    return f"{count}{every}{', retained' if heard.retained else ''}"


class _Listener:
    """Fills `twinbridge.mqtt.session.Receiver`."""

    def __init__(self, heard: Heard) -> None:
        self.heard = heard
        self.refused = ""
        self.over = asyncio.Event()

    def received(self, topic: str, payload: bytes, told: Told, *, retained: bool) -> None:
        del told
        topics, now = self.heard.topics, monotonic()
        found = topics.get(topic)
        if found is None:
            if len(topics) >= MOST_TOPICS:
                self.heard.passed_over += 1
                return
            found = topics[topic] = HeardTopic(topic, now, now)
        elif not retained and found.messages == found.retained:
            found.first = now
        found.messages += 1
        found.retained += retained
        found.last = now
        found.size = max(found.size, len(payload))
        if len(payload) <= LARGEST:
            found.shape.note(payload)

    def granted(self, packet: int, codes: Sequence[int]) -> None:
        del packet
        if any(faults.refused(code) for code in codes):
            self.refused = faults.reason(codes[0])
            self.over.set()

    def lost(self) -> None:
        self.over.set()


async def listen(
    url: str,
    seconds: float,
    *,
    topic: str = "#",
    username: str | None = None,
    password_file: str | None = None,
    tls: TlsOptions | None = None,
    version: Version = "3.1.1",
) -> Heard:
    """Take note of all messages on topics that match the filter, for so long.

    Raises LinkLost when the broker is not reached, refuses, or is lost meanwhile.
    """
    at = MqttConnection(
        url=url,
        version=version,
        client_id=f"twinbridge{uuid.uuid4().hex[:12]}",
        username=username,
        password_file=password_file,
        tls=tls,
    )
    listener = _Listener(Heard(seconds))
    async with open_session(at.broker(), listener) as session:
        session.subscribe([(topic, 0)])
        try:
            async with asyncio.timeout(seconds):
                await listener.over.wait()
        except TimeoutError:
            return listener.heard
        if listener.refused:
            raise LinkLost(f"{url}: the broker does not let us read {topic}: {listener.refused}")
        session.check()
    raise LinkLost(f"{url}: closed")


def model_yaml(heard: Heard, name: str, *, device: str | None = None) -> str:
    """A DeviceModel with what was heard as its properties.

    `device`: a level of the topics that names the device; only topics that have it are taken,
    and {device} takes its place. Raises InvalidInput when nothing is left.
    """
    notes: list[str] = []
    properties: list[dict[str, object]] = []
    names: set[str] = set()
    now = time_ns()
    for found in sorted(heard.topics.values(), key=lambda h: h.topic):
        template = _template(found.topic, device)
        if template is None:
            continue
        if found.availability:
            notes.append(f"connection.mqtt.availability: {{topic: {template!r}}}")
        elif found.shape.format is None:
            notes.append(f"left out: {template}: no text")
        else:
            properties += _properties(found, template, names, now, notes)
    if not properties:
        where = f" on topics with a level {device}" if device else ""
        raise InvalidInput(f"nothing that could be a property was heard{where}")
    model = {
        "apiVersion": API_VERSION,
        "kind": "DeviceModel",
        "metadata": {"name": name},
        "spec": {"properties": properties},
    }
    head = [
        f"# Heard within {heard.seconds:g} s; check types, units and maxAge.",
        *map(_note, notes),
    ]
    return "\n".join(head) + "\n" + yaml.safe_dump(model, sort_keys=False, allow_unicode=True)


def _note(text: str) -> str:
    return f"# {' '.join(text.split())}\n"


def _template(topic: str, device: str | None) -> str | None:
    """None for a topic of another device, and for one that a template cannot say."""
    if "{" in topic or "}" in topic:
        return None
    if device is None:
        return topic
    levels = topic.split("/")
    if device not in levels:
        return None
    return "/".join("{device}" if level == device else level for level in levels)


def _properties(
    found: HeardTopic, template: str, names: set[str], now: int, notes: list[str]
) -> Iterator[dict[str, object]]:
    fields = found.shape.fields.values()
    stamps = [
        (f, unit) for f in fields if (unit := f.time_unit(now)) and found.shape.format == "json"
    ]
    for each in fields:
        if any(each is stamp for stamp, _ in stamps):
            continue
        if each.type is None:
            notes.append(f"left out: {template} {each.place}: null, or of several types")
            continue
        address: dict[str, object] = {"topic": template, **_place(found.shape, each)}
        if stamps:
            address["timestamp"] = {"pointer": stamps[0][0].place, "unit": stamps[0][1]}
        if each.seen < found.messages:
            address["optional"] = True
        if found.every is not None:
            address["maxAge"] = f"{max(_SHORTEST_AGE, math.ceil(_AGES * found.every))}s"
        labels = each.labels
        if labels:
            address["labels"] = labels
        kind = ValueType.BOOL if labels else each.type
        yield {"name": _name(template, each, names), "type": str(kind), "mqtt": address}


def _place(shape: Shape, found: Field) -> dict[str, object]:
    if shape.format == "csv":
        return {"format": "csv", "column": int(found.place), "separator": shape.separator}
    if shape.format == "raw":
        return {"format": "raw"}
    return {"pointer": found.place} if found.place else {}


def _name(template: str, found: Field, names: set[str]) -> str:
    """From the pointer, else the topic; with more of the topic where that is taken."""
    levels = [level for level in template.split("/") if level and level != "{device}"]
    json = found.place.startswith("/")
    parts = (
        list(parse_pointer(found.place)) if json else [*levels[-1:], *filter(None, [found.place])]
    )
    for more in range(len(levels) + 1):
        name = _clean([*levels[len(levels) - more :], *parts])
        if name not in names:
            break
    number = 2
    while name in names:
        name = f"{_clean(parts)[: _LONGEST_NAME - 6]}_{number}"
        number += 1
    names.add(name)
    return name


def _clean(parts: Sequence[str]) -> str:
    name = "_".join(filter(None, (_ODD.sub("_", part).strip("_") for part in parts)))
    if not re.match(r"[A-Za-z_]", name):
        name = f"p{name}"
    return name[:_LONGEST_NAME]
