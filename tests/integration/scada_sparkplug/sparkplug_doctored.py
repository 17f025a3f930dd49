"""Recordings with one fault each, to see that the checks see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeAlias

from sparkplug_checks_metrics import REBIRTH
from sparkplug_record import BIRTHS, DATA, DEVICE_VERBS, NODE_VERBS, NUMBERED, Recording, Said
from sparkplug_wire import MARK, Connect, Seen

from twinbridge.adapters.scada_sparkplug.payload import Metric, Payload, Property, encode
from twinbridge_simulators.mqtt.packets import Message

Fault: TypeAlias = Callable[[Recording], Recording]
VERBS = (*NODE_VERBS, *DEVICE_VERBS)
HOUR = 3_600_000
NO_FAULTS = {
    *("NDEATH with QoS 1", "NDEATH retained"),  # asked of the will, not of what a node says itself
    "DDEATH says nothing",  # it need not say more
    "DBIRTH's metrics with type",  # they have one
    *(
        f"{verb}'s metrics without {what}"
        for verb in ("NDATA", "DDATA")
        for what in ("name", "type")
    ),
    *("NDATA's metrics always null", "DDATA's metrics always null"),  # a host sees them as they are
}
"""Changes that break nothing which the specification asks."""


def messages(change: Callable[[Said], Message | None], *verbs: str) -> Fault:
    """Change every message of these verbs; None leaves it out."""

    def doctor(recording: Recording) -> Recording:
        changed = {said.place: change(said) for said in recording.of(*verbs)}
        return Recording(_with(recording, changed))

    return doctor


def _with(recording: Recording, changed: dict[int, Message | None]) -> Iterator[Seen]:
    for place, seen in enumerate(recording.seen):
        if place not in changed:
            yield seen
        elif (message := changed[place]) is not None:
            yield replace(seen, content=message)


def payloads(change: Callable[[Payload], Payload], *verbs: str) -> Fault:
    return messages(
        lambda said: said.message._replace(payload=encode(change(said.payload))), *verbs
    )


def metrics(change: Callable[[Metric], Metric | None], *verbs: str) -> Fault:
    def changed(payload: Payload) -> Payload:
        found = [change(metric) for metric in payload.metrics]
        return replace(payload, metrics=tuple(metric for metric in found if metric is not None))

    return payloads(changed, *verbs)


def of_name(name: str, change: Callable[[Metric], Metric | None]) -> Fault:
    return metrics(lambda metric: change(metric) if metric.name == name else metric, "NBIRTH")


def properties(change: Callable[[Property], Property]) -> Fault:
    return metrics(
        lambda metric: replace(metric, properties=tuple(map(change, metric.properties))),
        *BIRTHS,
        *DATA,
    )


def connects(change: Callable[[Connect], Connect]) -> Fault:
    def doctor(recording: Recording) -> Recording:
        return Recording(
            replace(seen, content=change(seen.content))
            if isinstance(seen.content, Connect)
            else seen
            for seen in recording.seen
        )

    return doctor


def wills(change: Callable[[Message], Message]) -> Fault:
    return connects(lambda c: replace(c, will=change(c.will) if c.will else None))


def without(kind: str) -> Fault:
    return lambda recording: Recording(seen for seen in recording.seen if seen.kind != kind)


def late(kind: str) -> Fault:
    """As if it had come at the very end of its session."""

    def doctor(recording: Recording) -> Recording:
        kept = [seen for seen in recording.seen if seen.kind != kind]
        return Recording([*kept, *(seen for seen in recording.seen if seen.kind == kind)])

    return doctor


def subscriptions(change: Callable[[str, int], tuple[str, int]]) -> Fault:
    def doctor(recording: Recording) -> Recording:
        return Recording(
            replace(seen, content=tuple(change(*wanted) for wanted in seen.content))
            if seen.kind == "SUBSCRIBE"
            else seen
            for seen in recording.seen
        )

    return doctor


def said_in(chapter: str, verb: str) -> Fault:
    """A message of that verb once more, in a chapter in which it has no place."""

    def doctor(recording: Recording) -> Recording:
        start, _ = recording.span(chapter)
        again = recording.seen[recording.of(verb)[-1].place]
        return Recording([*recording.seen[: start + 1], again, *recording.seen[start + 1 :]])

    return doctor


def silent_in(chapter: str) -> Fault:
    """What the node did in a chapter did not happen."""

    def doctor(recording: Recording) -> Recording:
        start, end = recording.span(chapter)
        gone = [
            place
            for place in range(start, end)
            if recording.seen[place].kind != MARK
            and (recording.seen[place].up or recording.seen[place].kind in ("OPENED", "CLOSED"))
        ]
        return recording.but(gone) if gone else recording

    return doctor


def renamed(level: int, name: str) -> Callable[[Said], Message]:
    def change(said: Said) -> Message:
        levels = list(said.levels)
        levels[level : level + 1] = [name]
        return said.message._replace(topic="/".join(levels))

    return change


def twice(verb: str) -> Fault:
    def doctor(recording: Recording) -> Recording:
        place = recording.of(verb)[0].place
        return Recording([*recording.seen[: place + 1], *recording.seen[place:]])

    return doctor


def data_before_births(recording: Recording) -> Recording:
    """In every session a DDATA comes first."""
    data = recording.of("DDATA")[0].message
    first = {
        min(s.place for s in recording.said if s.session == session)
        for session in recording.sessions
    }
    seen: list[Seen] = []
    for place, each in enumerate(recording.seen):
        if place in first:
            seen.append(replace(each, content=data))
        seen.append(each)
    return Recording(seen)


def longer_topic(said: Said) -> Message:
    return said.message._replace(topic=f"{said.message.topic}/more")


def shorter_topic(said: Said) -> Message:
    return said.message._replace(topic="/".join(said.levels[:4]))


def upper(said: Said) -> Message:
    device = said.device.upper() if said.place % 2 else said.device
    return said.message._replace(topic="/".join([*said.levels[:4], device]))


def with_names_alike(payload: Payload) -> Payload:
    first = next(metric for metric in payload.metrics if metric.name)
    return replace(payload, metrics=(*payload.metrics, replace(first, name=first.name.swapcase())))  # type: ignore[union-attr]  # it has one


def bd_seq_plus(metric: Metric) -> Metric:
    return replace(metric, value=int(metric.value or 0) + 1)


def reversed_in_time(payload: Payload) -> Payload:
    found = [
        replace(metric, timestamp=1_000_000 - place, is_historical=False)
        for place, metric in enumerate((*payload.metrics, *payload.metrics))
    ]
    return replace(payload, metrics=tuple(found))


def faults() -> dict[str, Fault]:
    """By what is wrong."""
    found: dict[str, Fault] = {}
    for verb in VERBS:
        found |= {
            f"{verb} with QoS 1": messages(
                lambda s: s.message._replace(qos=1 - s.message.qos), verb
            ),
            f"{verb} retained": messages(lambda s: s.message._replace(retain=True), verb),
            f"{verb} of another group": messages(renamed(1, "other"), verb),
            f"{verb} of another node": messages(renamed(3, "other"), verb),
            f"{verb} of another namespace": messages(renamed(0, "spAv1.0"), verb),
            f"{verb} is garbage": messages(lambda s: s.message._replace(payload=b"\xff"), verb),
            f"{verb} says nothing": payloads(lambda p: replace(p, metrics=()), verb),
            f"{verb} has a longer topic": messages(longer_topic, verb),
            f"no {verb}": messages(lambda _: None, verb),
            f"{verb} twice": twice(verb),
        }
    for verb in NUMBERED:
        found |= {
            f"{verb} without seq": payloads(lambda p: replace(p, seq=None), verb),
            f"{verb} with another seq": payloads(lambda p: replace(p, seq=(p.seq or 0) + 7), verb),
            f"{verb} without time": payloads(lambda p: replace(p, timestamp=None), verb),
            f"{verb} an hour off": payloads(
                lambda p: replace(p, timestamp=(p.timestamp or 0) + HOUR), verb
            ),
        }
    for verb in DEVICE_VERBS:
        found |= {
            f"{verb} without device": messages(shorter_topic, verb),
            f"{verb} with a reserved character": messages(renamed(4, "a+b"), verb),
            f"{verb} in capitals now and then": messages(upper, verb),
        }
    for verb in ("NBIRTH", "DBIRTH", "NDATA", "DDATA"):
        found |= {
            f"{verb}'s metrics without time": metrics(lambda m: replace(m, timestamp=None), verb),
            f"{verb}'s metrics an hour off": metrics(
                lambda m: replace(m, timestamp=(m.timestamp or 0) + HOUR), verb
            ),
            f"{verb}'s metrics out of order": payloads(reversed_in_time, verb),
            f"{verb}'s metrics without alias": metrics(lambda m: replace(m, alias=None), verb),
            f"{verb}'s metrics have one alias": metrics(
                lambda m: replace(m, alias=7) if m.alias else m, verb
            ),
            f"{verb}'s metrics without name": metrics(lambda m: replace(m, name=None), verb),
            f"{verb}'s metrics with name": metrics(lambda m: replace(m, name="x"), verb),
            f"{verb}'s metrics without type": metrics(lambda m: replace(m, datatype=None), verb),
            f"{verb}'s metrics with type": metrics(lambda m: replace(m, datatype=3), verb),
            f"{verb}'s metrics of no known type": metrics(lambda m: replace(m, datatype=99), verb),
            f"{verb}'s metrics without value": metrics(
                lambda m: replace(m, value=None, field=None, is_null=False), verb
            ),
            f"{verb}'s metrics always null": metrics(lambda m: replace(m, is_null=True), verb),
        }
    for verb in BIRTHS:
        found[f"{verb} has names alike"] = payloads(with_names_alike, verb)
        found[f"{verb} lists only its first"] = payloads(
            lambda p: replace(p, metrics=p.metrics[:1]), verb
        )
    found |= _session_faults() | _rebirth_faults() | _property_faults() | _chapter_faults()
    return {what: fault for what, fault in found.items() if what not in NO_FAULTS}


def _session_faults() -> dict[str, Fault]:
    return {
        "sessions are not clean": connects(lambda c: replace(c, clean=False)),
        "MQTT 5": connects(lambda c: replace(c, level=5)),
        "no will": connects(lambda c: replace(c, will=None)),
        "will with QoS 0": wills(lambda w: w._replace(qos=0)),
        "will retained": wills(lambda w: w._replace(retain=True)),
        "will elsewhere": wills(lambda w: w._replace(topic="elsewhere")),
        "will is garbage": wills(lambda w: w._replace(payload=b"\xff")),
        "will with a seq": wills(
            lambda w: w._replace(payload=encode(Payload(None, (Metric("bdSeq"),), 3)))
        ),
        "will says more": wills(
            lambda w: w._replace(payload=encode(Payload(None, (Metric("a"), Metric("b")))))
        ),
        "NDEATH with a seq": payloads(lambda p: replace(p, seq=1), "NDEATH"),
        "NDEATH says more": payloads(
            lambda p: replace(p, metrics=(*p.metrics, Metric("more"))), "NDEATH"
        ),
        "NDEATH of another bdSeq": metrics(bd_seq_plus, "NDEATH"),
        "NBIRTH of another bdSeq": of_name("bdSeq", bd_seq_plus),
        "NBIRTH without bdSeq": of_name("bdSeq", lambda _: None),
        "another client in every session": lambda recording: Recording(
            replace(seen, content=replace(seen.content, client=str(place)))
            if isinstance(seen.content, Connect)
            else seen
            for place, seen in enumerate(recording.seen)
        ),
        "nothing subscribed": without("SUBSCRIBE"),
        "subscribed late": late("SUBSCRIBE"),
        "subscribed with QoS 0": subscriptions(lambda name, _: (name, 0)),
        "subscribed to more levels": subscriptions(lambda name, qos: (f"{name}/x", qos)),
        "commands of everybody": subscriptions(
            lambda name, qos: (name.replace("/edge-1", "/+"), qos)
        ),
        "no answer to CONNECT": late("CONNACK"),
        "no DISCONNECT": without("DISCONNECT"),
        "DISCONNECT first": late("PUBLISH"),
        "connections stay open": without("CLOSED"),
        "data before births": data_before_births,
    }


def _rebirth_faults() -> dict[str, Fault]:
    return {
        "no rebirth offered": of_name(REBIRTH, lambda _: None),
        "rebirth is true": of_name(REBIRTH, lambda m: replace(m, value=True)),
        "rebirth is a number": of_name(REBIRTH, lambda m: replace(m, datatype=3)),
        "rebirth has an alias": of_name(REBIRTH, lambda m: replace(m, alias=999)),
    }


def _property_faults() -> dict[str, Fault]:
    return {
        "properties without type": properties(lambda p: replace(p, type=0, value=None)),
        "properties of no known type": properties(lambda p: replace(p, type=77, value=None)),
        "qualities are texts": properties(lambda p: replace(p, type=12, value="good")),
        "qualities are numbers of ours": properties(
            lambda p: replace(p, value=7) if p.name == "Quality" else p
        ),
        "no properties": metrics(lambda m: replace(m, properties=()), *BIRTHS, *DATA),
    }


def _chapter_faults() -> dict[str, Fault]:
    quiet = (
        "the host is offline",
        "another host is online",
        "an older message says that the host is online",
        "nothing changes",
        "the host asks for a rebirth",
        "an older message says that the host is offline",
        "the host goes",
    )
    found = {f"{verb} while {c}": said_in(c, verb) for c in quiet for verb in ("NBIRTH", "DDATA")}
    busy = (
        "the host asks for a rebirth",
        "pump-2 answers",
        "pump-1 is lost",
        "pump-1 is back",
        "definitions change",
        "values change",
        "an older message says that the host is offline",
        "the host goes",
        "the host is back",
        "the node is stopped",
        "the node is stopped again",
    )
    return found | {f"silent while {chapter}": silent_in(chapter) for chapter in busy}
