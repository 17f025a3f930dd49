"""Which of several processes serves which device, and runs which part of which rule.

A rule runs next to the machine that it acts on: of a rule that writes to machines of several
processes, each runs the instance with its own writes. Nothing is written twice, nothing is left.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from twinbridge.core.model import PropertyRef
from twinbridge.core.rule import Act, RuleInstance, Trip, Write, inputs
from twinbridge.errors import InvalidInput

_SHARE = re.compile(r"([0-9]{1,4})/([0-9]{1,4})", re.ASCII)

Mine = Callable[[str], bool]
"""Whether this process serves the device of that name."""


@dataclass(frozen=True, slots=True)
class Share:
    """Part `index` of `of`, and of that only the devices with all of `labels`.

    The parts go by endpoint, so the devices behind one stay together. Labels do not see to that:
    a selector must not part devices that share an endpoint, for one process owns its link.
    """

    index: int = 0
    of: int = 1
    labels: tuple[tuple[str, str], ...] = ()

    def owns(self, endpoint: str, labels: Iterable[tuple[str, str]]) -> bool:
        """The same answer in every process, version and run."""
        if not set(self.labels) <= set(labels):
            return False
        digest = hashlib.sha256(endpoint.encode()).digest()
        return int.from_bytes(digest[:8]) % self.of == self.index

    def __str__(self) -> str:
        return " ".join([f"{self.index}/{self.of}", *(f"{k}={v}" for k, v in self.labels)])


def parse_share(text: str, selectors: Iterable[str] = ()) -> Share:
    """`0/3`, `1/3` and `2/3` are the three parts of three; a selector is `label=value`.

    Raises InvalidInput.
    """
    found = _SHARE.fullmatch(text)
    index, of = (int(found[1]), int(found[2])) if found else (0, 0)
    if index >= of:
        raise InvalidInput(
            f"{text!r} is no share; give i/n with 0 ≤ i < n ≤ 9999, such as 0/3, 1/3 or 2/3"
        )
    return Share(index, of, tuple(_label(selector) for selector in selectors))


def _label(selector: str) -> tuple[str, str]:
    label, equals, value = selector.partition("=")
    if not (label and equals and value):
        raise InvalidInput(f"{selector!r} selects nothing; give label=value, such as line=bottling")
    return label, value


def actors(instance: RuleInstance) -> tuple[str, ...]:
    """The devices that the rule writes to, each once; of a plain alarm, its own device."""
    written = tuple(dict.fromkeys(write.target.device for write in _writes(instance)))
    return written or (instance.device,)


def split(instances: Iterable[RuleInstance], mine: Mine) -> list[RuleInstance]:
    """What this process runs, each instance with only the writes to its own machines.

    An instance keeps its id everywhere. What is split already stays as it is.
    """
    own = (_own_part(instance, mine) for instance in instances)
    return [part for part in own if part is not None]


def foreign_inputs(instances: Iterable[RuleInstance], mine: Mine) -> frozenset[PropertyRef]:
    """What this process's part of the rules reads of devices that another process serves."""
    return frozenset(
        ref
        for instance in split(instances, mine)
        for ref in inputs(instance)
        if not mine(ref.device)
    )


def exports(
    instances: Iterable[RuleInstance], owner: Callable[[str], str | None]
) -> frozenset[str]:
    """The devices that may be read by a rule in another process.

    `owner` gives a device's protocol, None where there is no such device. Since a protocol may
    be shared out, that is every device read by a rule that acts on another one.
    """
    return frozenset(
        ref.device
        for instance in instances
        for ref in inputs(instance)
        if owner(ref.device) is not None and _acts_elsewhere(instance, ref.device, owner)
    )


def _acts_elsewhere(
    instance: RuleInstance, device: str, owner: Callable[[str], str | None]
) -> bool:
    return any(actor != device and owner(actor) is not None for actor in actors(instance))


def _writes(instance: RuleInstance) -> Iterator[Write]:
    if instance.trip is not None:
        yield from instance.trip.writes
    if instance.act is not None:
        yield from instance.act.writes
        yield from instance.act.on_clear


def _own_part(instance: RuleInstance, mine: Mine) -> RuleInstance | None:
    owned = [mine(device) for device in actors(instance)]
    if all(owned):
        return instance
    if not any(owned):
        return None
    return replace(instance, trip=_own_trip(instance.trip, mine), act=_own_act(instance.act, mine))


def _own_trip(trip: Trip | None, mine: Mine) -> Trip | None:
    own = _own_writes(trip.writes, mine) if trip is not None else ()
    return replace(trip, writes=own) if trip is not None and own else None


def _own_act(act: Act | None, mine: Mine) -> Act | None:
    if act is None:
        return None
    own = Act(_own_writes(act.writes, mine), _own_writes(act.on_clear, mine))
    return own if own.writes or own.on_clear else None


def _own_writes(writes: tuple[Write, ...], mine: Mine) -> tuple[Write, ...]:
    return tuple(write for write in writes if mine(write.target.device))
