"""Metrics: what births list, how data refers to it, types, values and properties; rebirth."""

from __future__ import annotations

from collections.abc import Iterator

from sparkplug_checks import Checker, tck
from sparkplug_checks_numbers import bd_seq
from sparkplug_record import BIRTHS, DATA, Recording, Said

from twinbridge.adapters.scada_sparkplug.payload import (
    FIELDS,
    DataType,
    Field,
    Metric,
    Property,
    decode,
)

REBIRTH = "Node Control/Rebirth"
NAMED_ALWAYS = {"bdSeq", REBIRTH}
"""Metrics of the session itself, which a host must know without any birth."""
QUALITIES = {0, 192, 500}
GOOD = 192
STALE = 500
BAD = 0
PROPERTY_TYPES = {kind.value for kind in FIELDS}


def payload_of(verb: str) -> Checker:
    def checker(recording: Recording) -> None:
        for said in recording.of(verb):
            try:
                payload = decode(said.message.payload)
            except ValueError as error:
                raise AssertionError(f"{verb}: {error}") from error
            assert payload.metrics, f"{verb} says nothing"

    return checker


tck(
    (
        "message-flow-edge-node-birth-publish-nbirth-payload",
        "NBIRTH is a Sparkplug payload.",
    )
)(payload_of("NBIRTH"))
tck(("message-flow-device-birth-publish-dbirth-payload", "DBIRTH is a Sparkplug payload."))(
    payload_of("DBIRTH")
)


def metrics(recording: Recording, *verbs: str) -> Iterator[tuple[Said, Metric]]:
    for said in recording.of(*verbs):
        for metric in said.payload.metrics:
            yield said, metric


def stated(metric: Metric) -> None:
    """A value, or the word that there is none."""
    assert (metric.value is None) == metric.is_null, metric
    assert (metric.field is None) == metric.is_null, metric


def complete(verb: str) -> Checker:
    """Name, datatype and value of each."""

    def checker(recording: Recording) -> None:
        for _, metric in metrics(recording, verb):
            assert metric.name, metric
            assert metric.datatype, metric
            stated(metric)

    return checker


tck(("topics-nbirth-metrics", "Metrics of NBIRTH have name, datatype and value."))(
    complete("NBIRTH")
)
tck(("topics-dbirth-metrics", "Metrics of DBIRTH have name, datatype and value."))(
    complete("DBIRTH")
)


def valued(verb: str) -> Checker:
    def checker(recording: Recording) -> None:
        for _, metric in metrics(recording, verb):
            stated(metric)
        if verb == "DBIRTH":
            nulls = [m for _, m in metrics(recording, verb) if m.is_null]
            assert nulls, "what was never read has a value"

    return checker


tck(
    (
        "operational-behavior-data-publish-nbirth-values",
        "Each metric of NBIRTH has its value of now, or says that it is null.",
    )
)(valued("NBIRTH"))
tck(
    (
        "operational-behavior-data-publish-dbirth-values",
        "Each metric of DBIRTH has its value of now, or says that it is null.",
    )
)(valued("DBIRTH"))


def born_before(birth: str, data: str) -> Checker:
    """What data refers to stands in the last birth of the same node or device."""

    def checker(recording: Recording) -> None:
        known: dict[str, set[object]] = {}
        assert recording.of(data)
        for said in recording.of(birth, data):
            names = {metric.alias or metric.name for metric in said.payload.metrics}
            if said.verb == birth:
                known[said.device] = names
            else:
                assert names <= known.get(said.device, set()), f"{said.device}: {names}"

    return checker


tck(
    ("topics-nbirth-metric-reqs", "NBIRTH lists every metric that NDATA will ever have."),
    (
        "operational-behavior-data-publish-nbirth",
        "NBIRTH lists every metric of the node that is published in its session.",
    ),
)(born_before("NBIRTH", "NDATA"))
tck(
    ("topics-dbirth-metric-reqs", "DBIRTH lists every metric that DDATA will ever have."),
    (
        "operational-behavior-data-publish-dbirth",
        "DBIRTH lists every metric of the device that is published in its session.",
    ),
)(born_before("DBIRTH", "DDATA"))


def changes_only(birth: str, data: str) -> Checker:
    """No value of now is said that was said before; what is said again as past is another thing."""

    def checker(recording: Recording) -> None:
        last: dict[tuple[str, object], object] = {}
        for said in recording.of(birth, data):
            for metric in said.payload.metrics:
                key = (said.device, metric.alias or metric.name)
                now = (metric.value, metric.is_null, quality(metric))
                if said.verb == data and not metric.is_historical:
                    assert last.get(key) != now, f"{said.device} {metric} is no change"
                if not metric.is_historical:
                    last[key] = now
        assert recording.verbs_in("nothing changes") == []

    return checker


tck(
    (
        "operational-behavior-data-publish-nbirth-change",
        "NDATA is published only when a metric of the node changes.",
    )
)(changes_only("NBIRTH", "NDATA"))
tck(
    (
        "operational-behavior-data-publish-dbirth-change",
        "DDATA is published only when a metric of the device changes.",
    )
)(changes_only("DBIRTH", "DDATA"))


@tck(("principles-rbe-recommended", "Data is published when it changes, not by the clock."))
def by_exception(recording: Recording) -> None:
    for chapter in ("nothing changes", "another host is online"):
        assert recording.verbs_in(chapter) == [], chapter
    changes_only("DBIRTH", "DDATA")(recording)


def quality(metric: Metric) -> object:
    """Good where nothing is said."""
    return next((p.value for p in metric.properties if p.name == "Quality"), GOOD)


@tck(("topics-ndata-payload", "NDATA has the node's metrics that changed."))
def node_data(recording: Recording) -> None:
    changes_only("NBIRTH", "NDATA")(recording)
    for chapter in ("pump-2 answers", "pump-1 is lost"):
        assert "NDATA" in recording.verbs_in(chapter), chapter


@tck(("topics-ddata-payload", "DDATA has the device's metrics that changed."))
def device_data(recording: Recording) -> None:
    """Every value that the device had is there, in its order."""
    births = [s for s in recording.said_in("the host is online") if s.device == "pump-1"]
    alias = births[0].metric("speed").alias
    told = [
        metric.value
        for said in recording.said_in("values change")
        for metric in said.payload.metrics
        if metric.alias == alias and said.device == "pump-1" and not metric.is_historical
    ]
    assert told == list(range(1, 258))


# Names and aliases.


@tck(("payloads-name-requirement", "A metric has its name, unless an alias stands for it."))
def named(recording: Recording) -> None:
    for said, metric in metrics(recording, *BIRTHS, *DATA):
        assert metric.name or (said.verb in DATA and metric.alias is not None), metric


@tck(
    (
        "payloads-alias-birth-requirement",
        "In births, metrics have both name and alias (but those of the session itself).",
    )
)
def both_in_births(recording: Recording) -> None:
    for _, metric in metrics(recording, *BIRTHS):
        assert metric.name, metric
        assert (metric.alias is None) == (metric.name in NAMED_ALWAYS), metric


@tck(("payloads-alias-data-cmd-requirement", "In data, metrics have their alias and no name."))
def aliases_in_data(recording: Recording) -> None:
    for _, metric in metrics(recording, *DATA):
        assert metric.alias is not None, metric
        assert metric.name is None, metric


@tck(("payloads-alias-uniqueness", "No alias stands for two metrics of a node or its devices."))
def aliases_are_unique(recording: Recording) -> None:
    meaning: dict[int, tuple[str, str | None]] = {}
    for said, metric in metrics(recording, *BIRTHS):
        if said.verb == "NBIRTH" and metric is said.payload.metrics[0]:
            meaning.clear()
        if metric.alias is not None:
            whose = (said.device, metric.name)
            assert meaning.setdefault(metric.alias, whose) == whose, metric


# Types and values.


@tck(("payloads-metric-datatype-req", "In births, every metric has its datatype."))
def typed_in_births(recording: Recording) -> None:
    assert all(metric.datatype is not None for _, metric in metrics(recording, *BIRTHS))


@tck(("payloads-metric-datatype-not-req", "In data, metrics have no datatype."))
def untyped_in_data(recording: Recording) -> None:
    assert all(metric.datatype is None for _, metric in metrics(recording, *DATA))


def type_known(recording: Recording) -> None:
    for _, metric in metrics(recording, *BIRTHS):
        assert metric.datatype in set(DataType), metric
        assert metric.datatype != DataType.UNKNOWN, metric


tck(
    (
        "payloads-metric-datatype-value-type",
        "A datatype is an unsigned 32-bit number.",
    ),
    ("payloads-metric-datatype-value", "A datatype is one of the specification's list."),
)(type_known)


# Properties.


def properties(recording: Recording) -> Iterator[tuple[Said, Metric, Property]]:
    found = False
    for said, metric in metrics(recording, *BIRTHS, *DATA):
        for of in metric.properties:
            found = True
            yield said, metric, of
    assert found, "no metric has properties"


@tck(
    (
        "payloads-propertyset-keys-array-size",
        "A property set has as many keys as values.",
    ),
    (
        "payloads-propertyset-values-array-size",
        "A property set has as many values as keys.",
    ),
)
def sets_are_whole(recording: Recording) -> None:
    """The codec refuses any other, so that a payload with one has no metrics at all."""
    for said in recording.of(*BIRTHS, *DATA):
        assert said.payload.metrics, f"{said.verb} cannot be read"
    assert any(len(metric.properties) > 1 for _, metric in metrics(recording, "DBIRTH"))


@tck(("payloads-metric-propertyvalue-type-type", "A property's type is an unsigned number."))
def property_types_are_numbers(recording: Recording) -> None:
    for _, _, of in properties(recording):
        assert isinstance(of.type, int)
        assert of.type >= 0


@tck(
    (
        "payloads-metric-propertyvalue-type-value",
        "A property's type is one of the specification's list.",
    )
)
def property_types_are_known(recording: Recording) -> None:
    assert {of.type for _, _, of in properties(recording)} <= PROPERTY_TYPES


@tck(
    (
        "payloads-metric-propertyvalue-type-req",
        "In births, every property has its type.",
    )
)
def properties_are_typed(recording: Recording) -> None:
    assert all(of.type for said, _, of in properties(recording) if said.verb in BIRTHS)


@tck(("payloads-propertyset-quality-value-type", "The property `Quality` is an Int32."))
def quality_type(recording: Recording) -> None:
    found = {of.type for _, _, of in properties(recording) if of.name == "Quality"}
    assert found == {DataType.INT32}


@tck(("payloads-propertyset-quality-value-value", "`Quality` is 0, 192 or 500."))
def quality_value(recording: Recording) -> None:
    found = {of.value for _, _, of in properties(recording) if of.name == "Quality"}
    assert found == QUALITIES, "good, bad and stale were all told"
    last = [m for _, m in metrics(recording, "DDATA") if quality(m) == BAD]
    assert last, "a failed input is bad"


# Rebirth.


def rebirth_of(recording: Recording) -> Iterator[Metric]:
    for said in recording.of("NBIRTH"):
        yield said.metric(REBIRTH)


def rebirth_offered(recording: Recording) -> None:
    for metric in rebirth_of(recording):
        assert metric.datatype == DataType.BOOLEAN
        assert metric.value is False


tck(
    ("topics-nbirth-rebirth-metric", "NBIRTH has a metric `Node Control/Rebirth`."),
    ("payloads-nbirth-rebirth-req", "NBIRTH has `Node Control/Rebirth`, which is false."),
)(rebirth_offered)


@tck(
    (
        "operational-behavior-data-commands-rebirth-name",
        "The metric that asks for a rebirth is named `Node Control/Rebirth`.",
    )
)
def rebirth_name(recording: Recording) -> None:
    assert len(list(rebirth_of(recording))) == len(recording.of("NBIRTH"))


@tck(
    (
        "operational-behavior-data-commands-rebirth-datatype",
        "`Node Control/Rebirth` is a Boolean.",
    )
)
def rebirth_type(recording: Recording) -> None:
    for metric in rebirth_of(recording):
        assert metric.datatype == DataType.BOOLEAN
        assert metric.field is Field.BOOLEAN


@tck(
    (
        "operational-behavior-data-commands-rebirth-value",
        "`Node Control/Rebirth` is false in NBIRTH.",
    )
)
def rebirth_value(recording: Recording) -> None:
    assert [metric.value for metric in rebirth_of(recording)] == [False] * len(
        recording.of("NBIRTH")
    )


@tck(
    (
        "operational-behavior-data-commands-rebirth-name-aliases",
        "`Node Control/Rebirth` has no alias, so that any host can ask.",
    )
)
def rebirth_has_no_alias(recording: Recording) -> None:
    assert all(metric.alias is None for metric in rebirth_of(recording))


@tck(
    (
        "operational-behavior-data-commands-rebirth-action-1",
        "When a rebirth is asked for, the node stops sending data at once.",
    )
)
def stops_for_a_rebirth(recording: Recording) -> None:
    said = recording.verbs_in("the host asks for a rebirth")
    assert "NBIRTH" in said
    assert not [verb for verb in said[: said.index("NBIRTH")] if "DATA" in verb]


@tck(
    (
        "operational-behavior-data-commands-rebirth-action-2",
        "Then it sends NBIRTH and the DBIRTH of every device that is there.",
    )
)
def is_born_again(recording: Recording) -> None:
    said = recording.verbs_in("the host asks for a rebirth")
    assert said[:3] == ["NBIRTH", "DBIRTH pump-1", "DBIRTH tank_1_β"]


@tck(
    (
        "operational-behavior-data-commands-rebirth-action-3",
        "The NBIRTH of a rebirth has the `bdSeq` of the session's will.",
    )
)
def is_the_same_session(recording: Recording) -> None:
    asked = [s for s in recording.said_in("the host asks for a rebirth") if s.verb == "NBIRTH"]
    assert asked, "no rebirth"
    wills = dict(zip(recording.sessions, recording.wills, strict=True))
    for said in asked:
        assert bd_seq(said.message.payload) == bd_seq(wills[said.session].payload)
