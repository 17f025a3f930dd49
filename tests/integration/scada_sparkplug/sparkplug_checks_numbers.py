"""Sequence numbers, bdSeq, timestamps, and the order of messages."""

from __future__ import annotations

from sparkplug_checks import Checker, tck
from sparkplug_record import BIRTHS, DATA, NUMBERED, Recording, Said

from twinbridge.adapters.scada_sparkplug.payload import DataType, Field, decode

MINUTE = 60_000
"""ms: more than a message can take, and less than any time zone is away from UTC."""


def number(said: Said) -> int:
    seq = said.payload.seq
    assert seq is not None, f"{said.verb} has no seq"
    assert 0 <= seq <= 255
    return seq


def numbered(*verbs: str) -> Checker:
    """They have a number."""

    def checker(recording: Recording) -> None:
        for said in recording.of(*verbs):
            number(said)

    return checker


def counted(*verbs: str) -> Checker:
    """Each is numbered one more than the message before it, whatever that was."""

    def checker(recording: Recording) -> None:
        before: int | None = None
        assert recording.of(*verbs)
        for said in recording.of(*NUMBERED):
            # What is wrong with others is theirs: only a number that is said counts for the next.
            if said.verb in verbs and said.verb != "NBIRTH":
                assert before is not None, f"{said.verb} before any NBIRTH"
                assert number(said) == (before + 1) % 256, f"{said.verb} {said.payload.seq}"
            before = said.payload.seq if said.payload.seq is not None else before

    return checker


@tck(("payloads-sequence-num-always-included", "Every message of a node but NDEATH has a `seq`."))
def all_numbered(recording: Recording) -> None:
    numbered(*NUMBERED)(recording)


@tck(
    (
        "payloads-sequence-num-incrementing",
        "After NBIRTH, each message's `seq` is one more than the last; 0 follows 255.",
    )
)
def all_counted(recording: Recording) -> None:
    counted(*NUMBERED)(recording)
    assert 255 in {said.payload.seq for said in recording.of("DDATA")}, "it never went around"


@tck(("topics-nbirth-seq-num", "NBIRTH has `seq` 0."))
def begins_at_zero(recording: Recording) -> None:
    assert {number(said) for said in recording.of("NBIRTH")} == {0}


tck(
    ("payloads-sequence-num-req-nbirth", "NBIRTH has a `seq` from 0 to 255."),
    ("payloads-nbirth-seq", "NBIRTH has a `seq` from 0 to 255."),
    (
        "message-flow-edge-node-birth-publish-nbirth-payload-seq",
        "NBIRTH has the `seq` from which the messages after it count on.",
    ),
)(numbered("NBIRTH"))
for _verb in ("DBIRTH", "NDATA", "DDATA", "DDEATH"):
    _low = _verb.lower()
    _topic = f"topics-{_low}-seq" if _verb == "DBIRTH" else f"topics-{_low}-seq-num"
    _more = f"{_verb} has a `seq` one more than the message before it."
    _ids = [(_topic, _more), (f"payloads-{_low}-seq-inc", f"{_more[:-1]}, never above 255.")]
    if _verb == "DBIRTH":
        _ids.append(("message-flow-device-birth-publish-dbirth-payload-seq", _more))
    tck(*_ids)(counted(_verb))
    _ids = [(f"payloads-{_low}-seq", f"{_verb} has a `seq`.")]
    if _verb == "DDEATH":
        _ids.append(("payloads-ddeath-seq-number", "DDEATH has a `seq`, for hosts to order it."))
    tck(*_ids)(numbered(_verb))


@tck(
    ("topics-ndeath-seq", "NDEATH has no `seq`."),
    ("payloads-ndeath-seq", "NDEATH has no `seq`, neither said nor as will."),
)
def death_is_not_numbered(recording: Recording) -> None:
    deaths = [said.message for said in recording.of("NDEATH")]
    for message in (*deaths, *recording.wills):
        assert decode(message.payload).seq is None


def in_time(said: Said) -> None:
    stamp = said.payload.timestamp
    assert stamp is not None, f"{said.verb} has no timestamp"
    assert abs(said.at - stamp) < MINUTE, f"{said.verb} has another time than UTC"


def timed(*verbs: str) -> Checker:
    def checker(recording: Recording) -> None:
        for said in recording.of(*verbs):
            in_time(said)

    return checker


for _verb in NUMBERED:
    _low = _verb.lower()
    _says = f"{_verb} says when it was sent."
    _ids = [(f"payloads-{_low}-timestamp", _says)]
    if _verb != "DDEATH":
        _ids.append((f"topics-{_low}-timestamp", _says))
    tck(*_ids)(timed(_verb))

tck(("payloads-timestamp-in-UTC", "The time of a message is UTC, in ms."))(timed(*NUMBERED))


@tck(
    (
        "payloads-name-birth-data-requirement",
        "Every metric of births and data has a timestamp.",
    )
)
def metrics_are_timed(recording: Recording) -> None:
    for said in recording.of(*BIRTHS, *DATA):
        assert all(metric.timestamp for metric in said.payload.metrics), said.verb


@tck(("payloads-metric-timestamp-in-UTC", "The time of a metric is UTC, in ms."))
def metrics_are_timed_in_utc(recording: Recording) -> None:
    """The whole record takes seconds, so values of the past are no older than a minute."""
    metrics_are_timed(recording)
    for said in recording.of(*BIRTHS, *DATA):
        for metric in said.payload.metrics:
            assert abs(said.at - (metric.timestamp or 0)) < MINUTE, metric


def chronological(*verbs: str) -> Checker:
    def checker(recording: Recording) -> None:
        for said in recording.of(*verbs):
            times = [m.timestamp or 0 for m in said.payload.metrics if not m.is_historical]
            assert times == sorted(times), said.verb

    return checker


tck(
    (
        "operational-behavior-data-publish-nbirth-order",
        "Metrics of NBIRTH and NDATA that are not historical stand in the order of time.",
    )
)(chronological("NBIRTH", "NDATA"))
tck(
    (
        "operational-behavior-data-publish-dbirth-order",
        "Metrics of DBIRTH and DDATA that are not historical stand in the order of time.",
    )
)(chronological("DBIRTH", "DDATA"))


def bd_seq(content: bytes) -> int:
    """Of NBIRTH, NDEATH or a will."""
    try:
        found = [m for m in decode(content).metrics if m.name == "bdSeq"]
    except ValueError as error:
        raise AssertionError(str(error)) from error
    assert len(found) == 1, "no bdSeq"
    assert found[0].datatype == DataType.INT64
    assert found[0].field is Field.LONG
    value = found[0].value
    assert isinstance(value, int)
    assert 0 <= value <= 255
    return value


@tck(
    ("topics-nbirth-bdseq-included", "NBIRTH has a metric `bdSeq`."),
    ("payloads-nbirth-bdseq", "NBIRTH has a metric `bdSeq`."),
)
def birth_has_bd_seq(recording: Recording) -> None:
    for said in recording.of("NBIRTH"):
        bd_seq(said.message.payload)


@tck(
    ("topics-nbirth-bdseq-matching", "NBIRTH has the `bdSeq` of the will of its connection."),
    ("payloads-nbirth-bdseq-repeat", "NBIRTH has the `bdSeq` of the last CONNECT's will."),
    (
        "message-flow-edge-node-birth-publish-nbirth-payload-bdSeq",
        "NBIRTH has an Int64 metric `bdSeq` with the number of the last CONNECT.",
    ),
)
def births_match_their_wills(recording: Recording) -> None:
    of_session = dict(zip(recording.sessions, recording.wills, strict=True))
    for said in recording.of("NBIRTH"):
        assert bd_seq(said.message.payload) == bd_seq(of_session[said.session].payload)


@tck(
    ("payloads-ndeath-bdseq", "NDEATH has the `bdSeq` of the NBIRTH that it ends."),
)
def deaths_match_their_births(recording: Recording) -> None:
    births = {said.session: bd_seq(said.message.payload) for said in recording.of("NBIRTH")}
    for said in recording.of("NDEATH"):
        assert bd_seq(said.message.payload) == births[said.session]
    for session, will in zip(recording.sessions, recording.wills, strict=True):
        assert bd_seq(will.payload) == births[session]


@tck(
    (
        "topics-nbirth-bdseq-increment",
        "`bdSeq` begins at 0 and is one more at every CONNECT, also after a restart.",
    ),
    (
        "message-flow-edge-node-birth-publish-will-message-payload-bdSeq",
        "The will has an Int64 metric `bdSeq`, one more than at the CONNECT before; 0 follows 255.",
    ),
)
def bd_seq_counts_connects(recording: Recording) -> None:
    assert len(recording.wills) == 4
    assert [bd_seq(will.payload) for will in recording.wills] == [0, 1, 2, 3]


def births_first(recording: Recording, *verbs: str) -> None:
    """In every session nothing of `verbs` comes before NBIRTH and the DBIRTHs that go with it."""
    assert recording.of(*verbs)
    for session in recording.sessions:
        said = [s.verb for s in recording.said if s.session == session]
        assert said[:2] == ["NBIRTH", "DBIRTH"], said[:3]
        for place, verb in enumerate(said):
            if verb == "NBIRTH":
                assert said[place + 1] == "DBIRTH", "births are interrupted"
    for chapter, births in BORN.items():
        assert recording.verbs_in(chapter)[: len(births)] == births, chapter


BORN = {
    "the host is online": ["NBIRTH", "DBIRTH pump-1", "DBIRTH tank_1_β"],
    "the host asks for a rebirth": ["NBIRTH", "DBIRTH pump-1", "DBIRTH tank_1_β"],
    "the host is back": ["NBIRTH", "DBIRTH pump-1", "DBIRTH pump-2"],
    "the connection is cut": ["NBIRTH", "DBIRTH pump-1", "DBIRTH pump-2"],
    "the node is started again": ["NBIRTH", "DBIRTH pump-1", "DBIRTH pump-2"],
}
"""The births of all devices that answer, by chapter."""


@tck(("payloads-dbirth-order", "All DBIRTHs follow NBIRTH at once, before any data."))
def device_births_first(recording: Recording) -> None:
    births_first(recording, "DBIRTH")


@tck(("payloads-ndata-order", "No NDATA before NBIRTH and all DBIRTHs."))
def births_before_node_data(recording: Recording) -> None:
    births_first(recording, "NDATA")


@tck(("payloads-ddata-order", "No DDATA before NBIRTH and all DBIRTHs."))
def births_before_device_data(recording: Recording) -> None:
    births_first(recording, "DDATA")


@tck(("principles-birth-certificates-order", "A birth is the first that a node publishes."))
def birth_is_first(recording: Recording) -> None:
    for session in recording.sessions:
        first = next(said for said in recording.said if said.session == session)
        assert first.verb == "NBIRTH", first.verb


@tck(
    (
        "message-flow-device-birth-publish-nbirth-wait",
        "No DBIRTH before the NBIRTH of the same session.",
    )
)
def no_device_before_its_node(recording: Recording) -> None:
    born: set[int] = set()
    for said in recording.of("NBIRTH", "DBIRTH"):
        if said.verb == "NBIRTH":
            born.add(said.session)
        assert said.session in born, f"{said.device} is born before the node"
