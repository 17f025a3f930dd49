"""What a wire tap has seen of a Sparkplug node, as the checks look at it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from sparkplug_wire import HEARD, MARK, Connect, Seen

from twinbridge.adapters.scada_sparkplug.payload import Metric, Payload, decode
from twinbridge_simulators.mqtt.packets import Message

GROUP = "Anlage Süd"
NODE = "edge-1"
HOST = "scada"

NODE_VERBS = ("NBIRTH", "NDATA", "NDEATH")
DEVICE_VERBS = ("DBIRTH", "DDATA", "DDEATH")
NUMBERED = ("NBIRTH", "NDATA", *DEVICE_VERBS)
BIRTHS = ("NBIRTH", "DBIRTH")
DATA = ("NDATA", "DDATA")


@dataclass(frozen=True)
class Said:
    """A message of the node. `place` is its index among all that was seen."""

    place: int
    session: int
    at: int
    message: Message

    @cached_property
    def levels(self) -> list[str]:
        return self.message.topic.split("/")

    @property
    def verb(self) -> str:
        return self.levels[2] if len(self.levels) > 2 else ""

    @property
    def device(self) -> str:
        return "/".join(self.levels[4:])

    @cached_property
    def payload(self) -> Payload:
        """Empty for what is no payload: then it has nothing that any check wants."""
        try:
            return decode(self.message.payload)
        except ValueError:
            return Payload()

    def metric(self, name: str) -> Metric:
        found = [m for m in self.payload.metrics if m.name == name]
        assert len(found) == 1, f"{self.verb} {self.device} has {len(found)} metrics {name}"
        return found[0]


class Recording:
    """Never changed: doctored ones are made by `but`."""

    def __init__(self, seen: Iterable[Seen]) -> None:
        self.seen = tuple(seen)
        self._by_verbs: dict[tuple[str, ...], list[Said]] = {}

    @cached_property
    def said(self) -> list[Said]:
        """All that the node published, in order."""
        return [
            Said(place, seen.session, seen.at, seen.content)
            for place, seen in enumerate(self.seen)
            if seen.kind == "PUBLISH" and seen.up and isinstance(seen.content, Message)
        ]

    def of(self, *verbs: str) -> list[Said]:
        """Those of these verbs. There must be some."""
        if verbs not in self._by_verbs:
            self._by_verbs[verbs] = [said for said in self.said if said.verb in verbs]
        found = self._by_verbs[verbs]
        assert found, f"no {verbs} at all"
        return found

    @cached_property
    def sessions(self) -> list[int]:
        return [seen.session for seen in self.seen if seen.kind == "CONNECT"]

    @cached_property
    def connects(self) -> list[Connect]:
        return [seen.content for seen in self.seen if isinstance(seen.content, Connect)]

    @property
    def wills(self) -> list[Message]:
        """One of each CONNECT."""
        wills = [connect.will for connect in self.connects]
        assert all(wills)
        return [will for will in wills if will is not None]

    def first(self, kind: str, session: int) -> int:
        """Where the first packet of a kind stands in a session."""
        for place, seen in enumerate(self.seen):
            if seen.kind == kind and seen.session == session:
                return place
        raise AssertionError(f"no {kind} in session {session}")

    def span(self, mark: str) -> tuple[int, int]:
        """From a mark to the next."""
        marks = [(p, seen.content) for p, seen in enumerate(self.seen) if seen.kind == MARK]
        at = [content for _, content in marks].index(mark)
        end = marks[at + 1][0] if at + 1 < len(marks) else len(self.seen)
        return marks[at][0], end

    def part(self, mark: str) -> Sequence[Seen]:
        start, end = self.span(mark)
        return self.seen[start:end]

    def said_in(self, mark: str) -> list[Said]:
        start, end = self.span(mark)
        return [said for said in self.said if start <= said.place < end]

    def verbs_in(self, mark: str) -> list[str]:
        return [f"{said.verb} {said.device}".strip() for said in self.said_in(mark)]

    def kinds_in(self, mark: str) -> list[str]:
        """Of what the node sent, and of its connections."""
        return [s.kind for s in self.part(mark) if s.up or s.kind in ("OPENED", "CLOSED")]

    def heard_in(self, mark: str) -> list[Message]:
        """What a host got."""
        return [
            s.content for s in self.part(mark) if s.kind == HEARD and isinstance(s.content, Message)
        ]

    def but(self, places: Iterable[int], *instead: Seen) -> Recording:
        """Without what stands at `places`, and with `instead` at the first of them."""
        gone = sorted(places)
        kept = [seen for place, seen in enumerate(self.seen) if place not in set(gone)]
        return Recording([*kept[: gone[0]], *instead, *kept[gone[0] :]])

    def with_message(self, said: Said, message: Message) -> Recording:
        return self.but([said.place], replace(self.seen[said.place], content=message))


def form(verb: str, device: str = "") -> str:
    """The topic that a verb of our node has."""
    return f"spBv1.0/{GROUP}/{verb}/{NODE}" + (f"/{device}" if device else "")
