"""Topics, requests, messages and allowances, without a broker."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinbridge.adapters.scada_kubeedge import messages, requests
from twinbridge.adapters.scada_kubeedge.allowance import Allowance
from twinbridge.adapters.scada_kubeedge.messages import Event
from twinbridge.adapters.scada_kubeedge.requests import Refused, parse, patch, twin_update
from twinbridge.adapters.scada_kubeedge.shown import Shown, twins_of
from twinbridge.adapters.scada_kubeedge.topics import Asked, Topics, Verb
from twinbridge.api.wire import Json
from twinbridge.core.model import (
    NOT_READ,
    Access,
    DeviceSpec,
    Point,
    PropertyRef,
    PropertySpec,
    Quality,
    Reason,
    Sample,
    Value,
    ValueType,
)
from twinbridge.ports import TwinView

SPEED = PropertySpec("speed", ValueType.INT, Access.READ_WRITE)
RUN = PropertySpec("run", ValueType.BOOL, Access.READ_WRITE)
START = PropertySpec("start", ValueType.BOOL, Access.WRITE_ONLY)
LABEL = PropertySpec("label", ValueType.STRING, Access.READ_WRITE)


def a_device(*specs: PropertySpec, namespace: str = "default") -> DeviceSpec:
    points = tuple(Point(PropertyRef("pump-1", s.name), s, None, 1) for s in specs)
    return DeviceSpec("pump-1", "pump", "edge-1", "fake", None, points, namespace=namespace)


def a_view(spec: DeviceSpec, samples: dict[str, Sample] | None = None) -> TwinView:
    return TwinView(spec, samples or {}, True, 1_700_000_000_000_000_000, "")


def wish(value: Value, state: str = "pending") -> Json:
    stamp = "2026-01-31T08:00:00.250Z"
    return {"value": value, "state": state, "message": "", "timestamp": stamp}


def good(value: Value) -> Sample:
    return Sample(value, Quality.GOOD, Reason.NONE, 5_000_000, 1)


# Topics.


@pytest.mark.parametrize(
    ("topic", "asked"),
    [
        ("$hw/events/device/ns/p/twin/update", Asked(Verb.TWIN_UPDATE, "ns/p")),
        ("$hw/events/device/ns/p/twin/get", Asked(Verb.TWIN_GET, "ns/p")),
        ("$hw/events/device/ns/p/state/update", Asked(Verb.STATE_UPDATE, "ns/p")),
        ("$hw/events/node/edge-1/membership/get", Asked(Verb.MEMBERSHIP_GET, "")),
        ("$hw/events/node/edge-1/membership/detail", Asked(Verb.MEMBERSHIP_DETAIL, "")),
        ("$hw/events/node/edge-2/membership/get", None),
        ("$hw/events/device/p/twin/update", None),
        ("$hw/events/device/ns/p/twin/update/result", None),
        ("$hw/events/device/ns/p/membership/get", None),
        ("$hw/events/node/edge-1/twin/get", None),
        ("$hw/events/device/", None),
        ("SYS/dis/upload_records", None),
    ],
)
def test_a_topic_says_what_is_asked_of_whom(topic: str, asked: Asked | None) -> None:
    assert Topics("edge-1", namespaced=True).asked(topic) == asked


def test_without_namespaces_the_name_is_one_level() -> None:
    topics = Topics("edge-1", namespaced=False)
    assert topics.asked("$hw/events/device/p/twin/get") == Asked(Verb.TWIN_GET, "p")
    assert topics.asked("$hw/events/device/ns/p/twin/get") is None
    assert topics.filters[0] == ("$hw/events/device/+/twin/update", 1)


def test_a_device_is_found_by_its_whole_id_only() -> None:
    topics = Topics("edge-1", namespaced=True)
    devices = {"pump-1": a_device(SPEED, namespace="plant")}
    assert topics.find(devices, "plant/pump-1") is devices["pump-1"]
    assert topics.find(devices, "default/pump-1") is None
    assert topics.find(devices, "plant/") is None


# Values as strings.

VALUES: dict[ValueType, st.SearchStrategy[Any]] = {
    ValueType.BOOL: st.booleans(),
    ValueType.INT: st.integers(-(2**63), 2**64 - 1),
    ValueType.FLOAT: st.floats(allow_nan=False, allow_infinity=False),
    ValueType.STRING: st.text(st.characters(exclude_categories=["Cs"])),
}


@given(st.data(), st.sampled_from(ValueType))
def test_a_value_as_a_string_is_that_value_again(data: st.DataObject, kind: ValueType) -> None:
    value = data.draw(VALUES[kind])
    again = parse(kind, messages.text(value))
    assert again == value
    assert type(again) is type(value)


@given(st.text(max_size=30), st.sampled_from(ValueType))
def test_whatever_a_string_is_it_becomes_a_value_of_the_type_or_none(
    said: str, kind: ValueType
) -> None:
    value = parse(kind, said)
    kinds = {"bool": bool, "int": int, "float": float, "string": str}
    assert value is None or type(value) is kinds[kind.value]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (ValueType.BOOL, "True"),
        (ValueType.BOOL, ""),
        (ValueType.INT, "1_000"),
        (ValueType.INT, " 1"),
        (ValueType.INT, "\u0661"),
        (ValueType.INT, "1.0"),
        (ValueType.INT, "9" * 5000),
        (ValueType.FLOAT, "nan"),
        (ValueType.FLOAT, "Infinity"),
        (ValueType.FLOAT, "0x1p3"),
        (ValueType.FLOAT, "1,5"),
    ],
)
def test_what_only_looks_like_a_value_is_none(kind: ValueType, said: str) -> None:
    assert parse(kind, said) is None


# Requests.


def test_unknown_fields_and_nulls_are_passed_over_as_in_go() -> None:
    content = {"event_id": None, "more": [1.5], "twin": {"speed": {"actual": None}}}
    event_id, asked = twin_update(json.dumps(content).encode())
    assert event_id == ""
    assert list(asked) == ["speed"]


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ({"event_id": "e", "twin": {"speed": {"expected": {"value": 5}}}}, "expected.value"),
        ({"event_id": "e", "timestamp": 1.5, "twin": {}}, "timestamp"),
        ({"event_id": "e"}, "twin"),
        ({"event_id": "e", "twin": {"speed": "5"}}, "twin.speed"),
    ],
)
def test_what_is_wrong_is_named(content: dict[str, object], where: str) -> None:
    with pytest.raises(Refused) as refused:
        twin_update(json.dumps(content).encode())
    assert where in refused.value.reason
    assert refused.value.code == 400
    assert refused.value.malformed


@given(st.binary(max_size=200), st.sampled_from([twin_update, requests.state_update]))
def test_any_bytes_are_read_or_refused_with_an_answer(
    payload: bytes, read: Callable[[bytes], object]
) -> None:
    refused = None
    try:
        read(payload)
    except Refused as error:
        refused = messages.refusal(Event(0, error.event_id), error.code, error.reason)
    assert refused is None or json.loads(refused)["code"] == 400


def test_a_reason_does_not_repeat_a_large_request() -> None:
    content = {"twin": {"x" * 60_000: {"expected": {"value": 5}}}}
    with pytest.raises(Refused) as refused:
        twin_update(json.dumps(content).encode())
    assert len(refused.value.reason) < 600
    with pytest.raises(Refused) as refused:
        patch(a_device(SPEED), {"x" * 60_000: None}, "")
    assert len(refused.value.reason) < 600


def test_an_update_that_expects_nothing_is_refused() -> None:
    _, asked = twin_update(b'{"twin": {"speed": {"metadata": {"type": "int"}}}}')
    with pytest.raises(Refused, match=r"speed: expected\.value: missing"):
        patch(a_device(SPEED), asked, "")


# What differs.


@pytest.mark.parametrize(
    ("spec", "sample", "desired", "differs"),
    [
        (SPEED, good(900), wish(1200), "1200"),
        (SPEED, good(1200), wish(1200), None),
        (SPEED, NOT_READ, wish(1200), "1200"),
        (SPEED, good(900), wish(1200, "applied"), "1200"),
        (SPEED, good(900), wish(1200, "rejected"), None),
        (SPEED, good(900), wish(1200, "expired"), None),
        (SPEED, good(900), wish(1200, "blocked"), None),
        (SPEED, good(900), wish(1200, "overridden"), None),
        (SPEED, good(900), None, None),
        (START, None, wish(value=True), "true"),
        (START, None, wish(value=True, state="applied"), None),
        (replace(RUN, pulse=True), good(value=False), wish(value=True, state="applied"), None),
        (replace(SPEED, tolerance=5.0), good(1198), wish(1200), None),
        (RUN, good(value=True), wish(value=True), None),
    ],
)
def test_what_is_still_asked_for_and_not_so_differs(
    spec: PropertySpec, sample: Sample | None, desired: Json | None, differs: str | None
) -> None:
    assert messages.difference(spec, sample, desired) == differs


SAMPLES = st.none() | st.builds(
    Sample,
    st.none() | st.integers(0, 3),
    st.sampled_from(Quality),
    st.sampled_from(Reason),
    st.integers(0, 2),
    st.just(0),
)
WISHES = st.none() | st.builds(
    wish, st.integers(0, 3), st.sampled_from(["pending", "applied", "rejected"])
)
STEPS = st.lists(
    st.tuples(
        st.sets(st.sampled_from(["a", "b", "c"])),
        st.dictionaries(st.sampled_from(["a", "b", "c"]), st.tuples(SAMPLES, WISHES)),
    ),
    max_size=8,
)


@given(STEPS)
def test_who_follows_the_documents_has_the_twin(
    steps: list[tuple[set[str], dict[str, tuple[Sample | None, Json | None]]]],
) -> None:
    """Over any changes of values, wishes and definitions; `last` is what was told before."""
    view = a_view(a_device())
    shown = Shown("default/pump-1", view, lambda _: None)
    followed: dict[str, Any] = {}
    wishes: dict[str, Json | None] = {}
    samples: dict[str, Sample] = {}
    for defined, changed in steps:
        spec = a_device(*(replace(SPEED, name=name) for name in sorted(defined)))
        for name, (sample, desired) in changed.items():
            wishes[name] = desired
            if sample is not None:
                samples[name] = sample
        view = a_view(spec, samples)
        changes = shown.update(view, wishes.get, sorted(shown.redefine(view)))
        document = json.loads(messages.document(Event(0), changes))
        for name, told in document["twin"].items():
            assert told["last"] == followed.get(name)
            followed[name] = told["current"]
            if told["current"] is None:
                del followed[name]
        assert followed == {n: json.loads(t) for n, t in twins_of(view, wishes.get).items()}
        assert set(shown.differing) <= set(shown.asked) <= defined


# Messages.


def test_an_event_without_an_id_gets_one_of_its_own_and_an_answer_none() -> None:
    first, second = (json.loads(messages.document(Event(5_000_000), {})) for _ in range(2))
    assert first["timestamp"] == 5
    assert first["event_id"] != second["event_id"]
    assert json.loads(messages.twin_result(Event(0), {}))["event_id"] == ""


def test_attributes_that_are_gone_are_null() -> None:
    before = messages.attributes(replace(a_device(), labels=(("line", "a"), ("site", "b"))))
    now = messages.attributes(replace(a_device(), labels=(("line", "c"),)))
    said = json.loads(messages.attributes_updated(Event(0), before, now))
    assert said["attributes"]["line"]["value"] == "c"
    assert said["attributes"]["site"] is None
    assert set(said["attributes"]) == {"line", "site"}


def test_a_text_that_no_json_can_carry_is_shown_with_question_marks() -> None:
    assert json.loads(messages.twin(LABEL, good("a\ud800b"), None))["actual"]["value"] == "a?b"


def test_a_device_that_never_answered_is_unknown() -> None:
    never = TwinView(a_device(), {}, False, 0, "not contacted yet")
    lost = never._replace(last_contact=1)
    said = [messages.state(view) for view in (never, lost, lost._replace(connected=True))]
    assert said == ["unknown", "offline", "online"]


def test_the_description_is_the_label_of_that_name() -> None:
    spec = replace(a_device(), labels=(("description", "the old one"),))
    assert messages.device("default/pump-1", a_view(spec))["description"] == "the old one"


# Allowances.


def test_an_allowance_gives_a_burst_and_then_its_rate() -> None:
    now = 0.0
    allowance = Allowance(10, 5, lambda: now)
    assert sum(allowance.take() for _ in range(100)) == 5
    now = 0.1
    assert [allowance.take() for _ in range(2)] == [True, False]
    now = 1e9
    assert sum(allowance.take() for _ in range(100)) == 5


def test_what_costs_more_than_is_left_is_a_debt() -> None:
    now = 0.0
    allowance = Allowance(10, 5, lambda: now)
    assert allowance.take()
    allowance.charge(14)
    now = 1.0
    assert not allowance.take()
    now = 1.2
    assert allowance.take()
