"""Which topic shows what. Pure.

A level that is made of a name holds none of `+ / # . & % =`, no control character and no `$` at
its beginning: brokers, Telegraf and historians give these a meaning of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from twinbridge.api.scada import PlainMqtt
from twinbridge.core.model import DeviceSpec

_UNFIT = re.compile(r"[+/#.&%=\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_LONGEST_LEVEL = 253
CHANGES, TWIN, DESIRED, HISTORY = "changes", "twin", "desired", "history"
_OF_EVERY_DEVICE = frozenset([CHANGES, TWIN, DESIRED, HISTORY])
_OF_THE_NODE = frozenset(["alarms", "status"])
"""What follows the prefix and is no device."""


def clean(name: str) -> str:
    """A name as one level of a topic."""
    fit = _UNFIT.sub("_", name)[:_LONGEST_LEVEL]
    if fit.startswith("$"):
        fit = "_" + fit[1:]
    return fit or "_"


class Verb(StrEnum):
    """What a command topic asks for."""

    DESIRE = "desire"
    SET = "set"
    ACKNOWLEDGE = "ack"
    SHELVE = "shelve"
    RESET = "reset"


class Target(NamedTuple):
    """What a command's topic names. `device` '' is one that is not here."""

    verb: Verb
    device: str
    name: str
    """The property of `SET` or the alarm, as its level says."""
    answer: str
    """The topic for the answer."""


@dataclass(frozen=True, slots=True)
class Place:
    """A device's topics."""

    base: str
    properties: Mapping[str, str] = field(default_factory=dict)
    """Property → its own retained topic, if it has one."""
    settable: Mapping[str, str] = field(default_factory=dict)
    """Level → property, of those that may be set by a topic of their own."""

    @property
    def changes(self) -> str:
        return f"{self.base}/{CHANGES}"

    @property
    def twin(self) -> str:
        return f"{self.base}/{TWIN}"

    @property
    def history(self) -> str:
        return f"{self.base}/{HISTORY}"

    @property
    def retained(self) -> frozenset[str]:
        return frozenset([self.twin, *self.properties.values()])


@dataclass(frozen=True, slots=True)
class Layout:
    """Devices with their places. `problems`: what is not shown (`device`, `device/property`), why.

    No topic belongs to two.
    """

    places: Mapping[str, Place] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)
    """Base → device."""
    problems: Mapping[str, str] = field(default_factory=dict)


class Topics:
    """The topics of one edge node."""

    def __init__(self, options: PlainMqtt, node: str) -> None:
        self._options = options
        self.prefix = options.prefix.replace("{node}", clean(node))
        self.status = f"{self.prefix}/status"

    def alarm(self, rule: str, device: str) -> str:
        return f"{self.prefix}/alarms/{clean(rule)}/{clean(device)}"

    def layout(self, devices: Mapping[str, DeviceSpec], before: Layout | None = None) -> Layout:
        """Who has a topic (`before`) keeps it; otherwise the first by name has it."""
        held = before.owners if before is not None else {}
        places: dict[str, Place] = {}
        owners: dict[str, str] = {}
        problems: dict[str, str] = {}
        for spec in sorted(
            devices.values(), key=lambda d: (held.get(self.base(d)) != d.name, d.name)
        ):
            base = self.base(spec)
            owner = owners.setdefault(base, spec.name)
            if owner != spec.name:
                problems[spec.name] = f"{base} shows {owner} already; its topics are not shown"
            elif base.removeprefix(f"{self.prefix}/").split("/", 1)[0] in _OF_THE_NODE:
                problems[spec.name] = f"{base} is not for devices; its topics are not shown"
            else:
                places[spec.name] = self._place(spec, base, problems)
        return Layout(places, owners, problems)

    def base(self, spec: DeviceSpec) -> str:
        """Where a device's topics begin: the template, filled from its name and labels."""
        known = {**dict(spec.labels), "device": spec.name, "node": spec.node}

        def filled(found: re.Match[str]) -> str:
            return clean(known.get(found[1], ""))

        return f"{self.prefix}/{_PLACEHOLDER.sub(filled, self._options.device_topic)}"

    def _place(self, spec: DeviceSpec, base: str, problems: dict[str, str]) -> Place:
        if not self._options.property_topics:
            return Place(base)
        shown: dict[str, str] = {}
        settable: dict[str, str] = {}
        owners: dict[str, str] = {}
        for point in spec.points:
            name, level = point.spec.name, clean(point.spec.name)
            owner = owners.setdefault(level, name)
            if level in _OF_EVERY_DEVICE or owner != name:
                what = "every device" if level in _OF_EVERY_DEVICE else owner
                problems[f"{spec.name}/{name}"] = f"{base}/{level} is of {what}; it has no topic"
                continue
            if point.spec.access.readable:
                shown[name] = f"{base}/{level}"
            if point.spec.access.writable:
                settable[level] = name
        return Place(base, shown, settable)

    def commands(self) -> list[str]:
        """Filters; none of them matches what another does, or a message might come twice."""
        template = self._options.device_topic.split("/")
        levels = "/".join("+" if _PLACEHOLDER.search(level) else level for level in template)
        last = "+" if self._options.property_topics else DESIRED
        alarms = (Verb.ACKNOWLEDGE, Verb.SHELVE, Verb.RESET)
        return [
            f"{self.prefix}/{levels}/{last}/set",
            *(f"{self.prefix}/alarms/+/{verb}" for verb in alarms),
        ]

    def target(self, topic: str, layout: Layout) -> Target | None:
        """What a command's topic names; None if it is none."""
        rest = topic.removeprefix(f"{self.prefix}/")
        place, _, last = rest.rpartition("/")
        if place.startswith("alarms/"):
            if last not in (Verb.ACKNOWLEDGE, Verb.SHELVE, Verb.RESET):
                return None
            answer = f"{self.prefix}/{place}/result"
            return Target(Verb(last), "", place.removeprefix("alarms/"), answer)
        base, _, level = place.rpartition("/")
        if last != "set" or not base:
            return None
        base = f"{self.prefix}/{base}"
        verb = Verb.DESIRE if level == DESIRED else Verb.SET
        device = layout.owners.get(base, "")
        known = device in layout.places
        return Target(verb, device if known else "", level, f"{base}/{DESIRED}/result")

    def leftovers(
        self, retained: Mapping[str, str], layout: Layout, alarms: frozenset[str], node: str
    ) -> list[str]:
        """Of topics that the broker keeps, with the node that each names ('' for none): those
        that we left there and would not show now.

        Only what is told by a twin or an alarm to be of this node is ours, and what is a level
        beneath such a twin: other nodes may have the same prefix.
        """
        kept = alarms.union([self.status], *(place.retained for place in layout.places.values()))
        bases = {place.base for place in layout.places.values()}
        bases |= {
            topic.rpartition("/")[0]
            for topic, said in retained.items()
            if said == node and topic.endswith(f"/{TWIN}")
        }
        return [
            topic
            for topic, said in retained.items()
            if topic not in kept and (said == node or self._beneath(topic, bases))
        ]

    def _beneath(self, topic: str, bases: set[str]) -> bool:
        base, _, level = topic.rpartition("/")
        return base in bases and level not in (CHANGES, DESIRED, HISTORY)
