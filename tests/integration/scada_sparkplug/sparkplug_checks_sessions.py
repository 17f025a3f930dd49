"""Sessions: CONNECT and its will, subscriptions, the primary host, and how a session ends."""

from __future__ import annotations

from sparkplug_checks import Checker, tck
from sparkplug_checks_topics import filters
from sparkplug_record import GROUP, HOST, NODE, Recording, form

from twinbridge.adapters.scada_sparkplug.payload import decode

STATE = f"spBv1.0/STATE/{HOST}"
V311 = 4


def connects_first(recording: Recording) -> None:
    for session in recording.sessions:
        connected = recording.first("CONNECT", session)
        assert connected < recording.first("CONNACK", session)
        answered = recording.first("CONNACK", session)
        said = [s.place for s in recording.said if s.session == session]
        assert said
        assert min(said) > answered, "something is published before the session stands"


tck(
    (
        "message-flow-edge-node-birth-publish-connect",
        "Births are published within a session that the broker has accepted.",
    )
)(connects_first)


@tck(("principles-persistence-clean-session-311", "CONNECT of 3.1.1 asks for a clean session."))
def clean(recording: Recording) -> None:
    assert {connect.level for connect in recording.connects} == {V311}
    assert all(connect.clean for connect in recording.connects)


def with_will(recording: Recording) -> None:
    assert len(recording.wills) == len(recording.connects) == len(recording.sessions)


tck(
    ("message-flow-edge-node-birth-publish-will-message", "Every CONNECT has a will."),
    ("payloads-ndeath-will-message", "NDEATH is registered as the will of every CONNECT."),
)(with_will)


@tck(
    (
        "message-flow-edge-node-birth-publish-will-message-topic",
        "The will's topic is that of the node's NDEATH.",
    )
)
def will_topic(recording: Recording) -> None:
    with_will(recording)
    assert {will.topic for will in recording.wills} == {form("NDEATH")}


@tck(
    (
        "message-flow-edge-node-birth-publish-will-message-payload",
        "The will's payload is a Sparkplug payload.",
    )
)
def will_payload(recording: Recording) -> None:
    with_will(recording)
    for will in recording.wills:
        readable(will.payload)


def readable(content: bytes) -> None:
    try:
        payload = decode(content)
    except ValueError as error:
        raise AssertionError(str(error)) from error
    assert payload.metrics


@tck(("topics-ndeath-payload", "NDEATH has one metric only, `bdSeq`."))
def death_says_one_thing(recording: Recording) -> None:
    said = [said.message.payload for said in recording.of("NDEATH")]
    for content in (*said, *(will.payload for will in recording.wills)):
        readable(content)
        assert [metric.name for metric in decode(content).metrics] == ["bdSeq"]


def will_is(*, qos: int | None = None, retain: bool | None = None) -> Checker:
    def checker(recording: Recording) -> None:
        with_will(recording)
        for will in recording.wills:
            assert qos is None or will.qos == qos
            assert retain is None or will.retain == retain

    return checker


tck(
    ("message-flow-edge-node-birth-publish-will-message-qos", "The will has QoS 1."),
    ("payloads-ndeath-will-message-qos", "The will has QoS 1."),
)(will_is(qos=1))
tck(
    (
        "message-flow-edge-node-birth-publish-will-message-will-retained",
        "The will is not retained.",
    ),
    ("payloads-ndeath-will-message-retain", "The will is not retained."),
)(will_is(retain=False))


def subscribed(recording: Recording, wanted: str) -> None:
    """With QoS 1, in every session, before anything is published."""
    for session in recording.sessions:
        asked = [
            (place, qos)
            for place, seen in enumerate(recording.seen)
            if seen.kind == "SUBSCRIBE" and seen.session == session
            for name, qos in seen.content
            if name == wanted
        ]
        assert asked, f"{wanted} is not subscribed in session {session}"
        assert {qos for _, qos in asked} == {1}
        first = min(said.place for said in recording.said if said.session == session)
        assert min(place for place, _ in asked) < first, "subscribed after something was said"


@tck(
    (
        "message-flow-edge-node-ncmd-subscribe",
        "The node subscribes to its NCMD topic with QoS 1, before its births.",
    )
)
def hears_node_commands(recording: Recording) -> None:
    subscribed(recording, f"spBv1.0/{GROUP}/NCMD/{NODE}")


@tck(
    (
        "message-flow-device-dcmd-subscribe",
        "The node subscribes to the DCMD topics of its devices with QoS 1, before its births.",
    )
)
def hears_device_commands(recording: Recording) -> None:
    found = [f for f in filters(recording) if "/DCMD/" in f]
    assert found
    for wanted in set(found):
        assert wanted.startswith(f"spBv1.0/{GROUP}/DCMD/{NODE}/")
        subscribed(recording, wanted)


@tck(
    (
        "operational-behavior-edge-node-birth-sequence-wait",
        "With a primary host, births wait until a STATE message says that it is online.",
    )
)
def waits_for_the_host(recording: Recording) -> None:
    subscribed(recording, STATE)
    for chapter in (
        "the host is offline",
        "another host is online",
        "an older message says that the host is online",
    ):
        assert recording.verbs_in(chapter) == [], chapter
    for chapter in ("the host is online", "the host is back"):
        assert recording.verbs_in(chapter)[:1] == ["NBIRTH"], chapter


@tck(
    (
        "operational-behavior-edge-node-termination-host-offline",
        "When the primary host says, not earlier than before, that it is offline, the node ends.",
    )
)
def leaves_with_the_host(recording: Recording) -> None:
    assert recording.verbs_in("the host goes") == ["NDEATH"]
    kinds = recording.kinds_in("the host goes")
    assert "DISCONNECT" in kinds
    assert "CLOSED" in kinds
    assert kinds.index("DISCONNECT") < kinds.index("CLOSED")


@tck(
    (
        "operational-behavior-edge-node-termination-host-offline-reconnect",
        "After that it connects again, to begin a new session.",
    )
)
def comes_back_to_wait(recording: Recording) -> None:
    kinds = recording.kinds_in("the host goes")
    assert "CLOSED" in kinds
    assert "CONNECT" in kinds[kinds.index("CLOSED") :]
    assert recording.verbs_in("the host is back")[:1] == ["NBIRTH"]


@tck(
    (
        "operational-behavior-edge-node-termination-host-offline-timestamp",
        "An offline message that is older than the last online one changes nothing.",
    )
)
def older_words_change_nothing(recording: Recording) -> None:
    chapter = "an older message says that the host is offline"
    kinds = recording.kinds_in(chapter)
    assert "DISCONNECT" not in kinds
    assert "CLOSED" not in kinds
    assert "DDATA pump-1" in recording.verbs_in(chapter), "it goes on as before"


def said_goodbye(recording: Recording) -> None:
    """NDEATH comes right before every DISCONNECT, in its session."""
    ends = [p for p, seen in enumerate(recording.seen) if seen.kind == "DISCONNECT" and seen.up]
    assert len(ends) == 3, "the host went, and the node was stopped twice"
    for place in ends:
        session = recording.seen[place].session
        said = [s for s in recording.said if s.session == session and s.place < place]
        assert said, "nothing is said"
        assert said[-1].verb == "NDEATH", f"{said[-1].verb} is the last word"
        after = [s for s in recording.said if s.session == session and s.place > place]
        assert not after


tck(
    (
        "operational-behavior-edge-node-intentional-disconnect-ndeath",
        "A node that ends on purpose publishes NDEATH before it disconnects.",
    ),
    (
        "payloads-ndeath-will-message-publisher",
        "Before it ends on purpose it says NDEATH.",
    ),
    (
        "payloads-ndeath-will-message-publisher-disconnect-mqtt311",
        "With MQTT 3.1.1, NDEATH is published before DISCONNECT: the broker says no will then.",
    ),
)(said_goodbye)


@tck(
    (
        "operational-behavior-edge-node-intentional-disconnect-packet",
        "A node that ends on purpose may send DISCONNECT after its NDEATH; ours does.",
    )
)
def disconnects(recording: Recording) -> None:
    for chapter in ("the node is stopped", "the node is stopped again"):
        kinds = recording.kinds_in(chapter)
        assert "DISCONNECT" in kinds, chapter
        assert "PUBLISH" in kinds[: kinds.index("DISCONNECT")], chapter


@tck(
    (
        "operational-behavior-device-ddeath",
        "When a device is lost, the node publishes its DDEATH.",
    )
)
def lost_devices_die(recording: Recording) -> None:
    assert recording.verbs_in("pump-1 is lost")[:1] == ["DDEATH pump-1"]
    assert recording.verbs_in("pump-1 is back")[:1] == ["DBIRTH pump-1"]
    assert "DDEATH tank_1_β" in recording.verbs_in("definitions change")
