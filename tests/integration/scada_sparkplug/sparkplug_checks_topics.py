"""Where a node speaks: ids, topics, QoS and retain flags."""

from __future__ import annotations

from sparkplug_checks import Checker, tck
from sparkplug_record import DEVICE_VERBS, GROUP, NODE, NODE_VERBS, Recording, Said, form

VERBS = (*NODE_VERBS, *DEVICE_VERBS)
RESERVED = set("+#/\0")


def level(place: int) -> Checker:
    """A level of every topic is an id that topics allow."""

    def checker(recording: Recording) -> None:
        found = [said for said in recording.said if len(said.levels) > place]
        assert found
        for said in found:
            # What stands behind a device is no level of its own: the id would have a slash.
            id_ = said.device if place == 4 else said.levels[place]
            assert id_, said.message.topic
            assert not RESERVED & set(id_), said.message.topic
            id_.encode()
        if place == 4:
            assert "tank_1_β" in {said.device for said in found}, (
                "what is reserved was not replaced"
            )
        else:
            assert {said.levels[place] for said in found} == {GROUP if place == 1 else NODE}

    return checker


tck(
    ("intro-group-id-string", "A group id is UTF-8 text and stands in topics."),
    ("intro-group-id-chars", "A group id has only characters that topics allow."),
    ("topic-structure-namespace-valid-group-id", "A group id has no `+`, `/` or `#`."),
)(level(1))
tck(
    ("intro-edge-node-id-string", "A node id is UTF-8 text and stands in topics."),
    ("intro-edge-node-id-chars", "A node id has only characters that topics allow."),
    ("topic-structure-namespace-valid-edge-node-id", "A node id has no `+`, `/` or `#`."),
)(level(3))
tck(
    ("intro-device-id-string", "A device id is UTF-8 text and stands in topics."),
    ("intro-device-id-chars", "A device id has only characters that topics allow."),
    ("topic-structure-namespace-valid-device-id", "A device id has no `+`, `/` or `#`."),
)(level(4))


@tck(
    ("intro-edge-node-id-uniqueness", "A node speaks as one pair of group and node id only."),
    (
        "topic-structure-namespace-unique-edge-node-descriptor",
        "The pair of group and node id is the node's own: all its topics have it.",
    ),
    ("payloads-nbirth-edge-node-descriptor", "Births of a node are of one pair of ids."),
)
def one_descriptor(recording: Recording) -> None:
    assert {(s.levels[1], s.levels[3]) for s in recording.of(*VERBS)} == {(GROUP, NODE)}
    assert len({connect.client for connect in recording.connects}) == 1


@tck(
    (
        "topic-structure-namespace-unique-device-id",
        "No two devices of a node have the same id.",
    ),
    (
        "topic-structure-namespace-duplicate-device-id-across-edge-node",
        "A device id need only be unique within its node: the topic always names both.",
    ),
)
def one_device_per_id(recording: Recording) -> None:
    """A second birth without a death or a new NBIRTH between them would be another device's."""
    alive: set[str] = set()
    for said in recording.of("NBIRTH", "DBIRTH", "DDEATH"):
        if said.verb == "NBIRTH":
            alive.clear()
        elif said.verb == "DBIRTH":
            assert said.levels[3] == NODE
            assert said.device not in alive, f"{said.device} is born twice"
            alive.add(said.device)
        else:
            alive.discard(said.device)


@tck(
    ("topic-structure", "Topics are namespace, group, verb, node and, of devices, device."),
)
def structure(recording: Recording) -> None:
    assert recording.said
    for said in recording.said:
        assert said.verb in VERBS, said.message.topic
        assert len(said.levels) == (5 if said.verb in DEVICE_VERBS else 4), said.message.topic


@tck(("topic-structure-namespace-a", "The namespace is `spBv1.0`."))
def namespace(recording: Recording) -> None:
    assert {said.levels[0] for said in recording.said} == {"spBv1.0"}


@tck(
    (
        "topic-structure-namespace-device-id-associated-message-types",
        "Topics of DBIRTH, DDATA, DDEATH and DCMD name a device.",
    )
)
def with_device(recording: Recording) -> None:
    for verb in DEVICE_VERBS:
        assert all(said.device for said in recording.of(verb))
    assert all(len(f.split("/")) == 5 for f in filters(recording) if "/DCMD/" in f)


@tck(
    (
        "topic-structure-namespace-device-id-non-associated-message-types",
        "Topics of NBIRTH, NDATA, NDEATH, NCMD and STATE name no device.",
    )
)
def without_device(recording: Recording) -> None:
    for verb in NODE_VERBS:
        assert not any(said.device for said in recording.of(verb))
    assert all(len(f.split("/")) == 4 for f in filters(recording) if "/NCMD/" in f)
    assert all(len(f.split("/")) == 3 for f in filters(recording) if "/STATE/" in f)


def filters(recording: Recording) -> list[str]:
    """What the node subscribed to."""
    return [f for seen in recording.seen if seen.kind == "SUBSCRIBE" for f, _ in seen.content]


@tck(
    (
        "case-sensitivity-sparkplug-ids",
        "No two ids of a node's devices differ only by upper and lower case.",
    )
)
def ids_apart(recording: Recording) -> None:
    ids = {said.device for said in recording.of(*DEVICE_VERBS)}
    assert len({id_.lower() for id_ in ids}) == len(ids)
    assert {(s.levels[1], s.levels[3]) for s in recording.said} == {(GROUP, NODE)}


@tck(
    (
        "case-sensitivity-metric-names",
        "No two metrics of a birth differ only by upper and lower case.",
    )
)
def names_apart(recording: Recording) -> None:
    for said in recording.of("NBIRTH", "DBIRTH"):
        names = [(m.name or "").lower() for m in said.payload.metrics]
        assert len(set(names)) == len(names), names


def on_its_topic(said: Said) -> None:
    assert said.message.topic == form(said.verb, said.device)
    assert bool(said.device) is (said.verb in DEVICE_VERBS)


def topic_of(verb: str) -> Checker:
    def checker(recording: Recording) -> None:
        for said in recording.of(verb):
            on_its_topic(said)

    return checker


for _verb in VERBS:
    _what = "group, verb, node and device" if _verb in DEVICE_VERBS else "group, verb and node"
    _ids = [(f"topics-{_verb.lower()}-topic", f"{_verb} has a topic of namespace, {_what}.")]
    if _verb == "NBIRTH":
        _flow = "message-flow-edge-node-birth-publish-nbirth-topic"
        _ids.append((_flow, "NBIRTH has the topic of its group and node."))
    if _verb == "DBIRTH":
        _flow = "message-flow-device-birth-publish-dbirth-topic"
        _ids.append((_flow, "DBIRTH has the topic of its group, node and device."))
    tck(*_ids)(topic_of(_verb))


@tck(
    (
        "message-flow-device-birth-publish-dbirth-match-edge-node-topic",
        "DBIRTH has group and node of the NBIRTH before it.",
    )
)
def as_its_node(recording: Recording) -> None:
    node: list[str] = []
    for said in recording.of("NBIRTH", "DBIRTH"):
        if said.verb == "NBIRTH":
            node = [said.levels[1], said.levels[3]]
        else:
            assert [said.levels[1], said.levels[3]] == node


def qos_of(verb: str) -> Checker:
    def checker(recording: Recording) -> None:
        assert {said.message.qos for said in recording.of(verb)} == {0}

    return checker


def retain_of(verb: str) -> Checker:
    def checker(recording: Recording) -> None:
        assert not any(said.message.retain for said in recording.of(verb))

    return checker


def qos_and_retain_of(verb: str) -> Checker:
    def checker(recording: Recording) -> None:
        qos_of(verb)(recording)
        retain_of(verb)(recording)

    return checker


for _verb in ("NBIRTH", "NDATA", "DBIRTH", "DDATA", "DDEATH"):
    _low = _verb.lower()
    _both = f"{_verb} has QoS 0 and is not retained."
    tck((f"topics-{_low}-mqtt", _both))(qos_and_retain_of(_verb))
    if _verb == "DDEATH":
        continue
    _qos = [(f"payloads-{_low}-qos", f"{_verb} has QoS 0.")]
    _retain = [(f"payloads-{_low}-retain", f"{_verb} is not retained.")]
    if _verb in ("NBIRTH", "DBIRTH"):
        _of = "edge-node" if _verb == "NBIRTH" else "device"
        _flow = f"message-flow-{_of}-birth-publish-{_low}"
        _qos.append((f"{_flow}-qos", f"{_verb} has QoS 0."))
        _retain.append((f"{_flow}-retained", f"{_verb} is not retained."))
    tck(*_qos)(qos_of(_verb))
    tck(*_retain)(retain_of(_verb))
