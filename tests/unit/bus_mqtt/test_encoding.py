"""What crosses the bus comes out as it went in, and nothing else comes out at all."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinbridge.adapters.bus_mqtt.encoding import (
    LARGEST,
    AgentStatus,
    Answer,
    Asked,
    DriverStatus,
    Frame,
    Malformed,
    Portion,
    decode_agent,
    decode_answer,
    decode_asked,
    decode_frame,
    decode_handover,
    decode_portion,
    decode_status,
    encode_agent,
    encode_answer,
    encode_asked,
    encode_frame,
    encode_handover,
    encode_portion,
    encode_status,
)
from twinbridge.adapters.driver_store import KeptRecord, encode_record
from twinbridge.core.alarm import Alarm, TripState
from twinbridge.core.messages import (
    Acknowledge,
    AlarmChanged,
    Audit,
    Contact,
    Desire,
    DesiredState,
    Outcome,
    Request,
    ResetTrip,
    Samples,
    SetMode,
    Shelve,
    TellAll,
)
from twinbridge.core.model import Quality, Reason, Sample
from twinbridge.core.rule import Mode, Severity
from twinbridge.errors import (
    Conflict,
    Interlocked,
    InvalidDesired,
    ResetRefused,
    TwinBridgeError,
    UnknownName,
)

DECODERS: tuple[Callable[[bytes], object], ...] = (
    decode_agent,
    decode_answer,
    decode_asked,
    decode_frame,
    decode_handover,
    decode_portion,
    decode_status,
)
names = st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable())
whole = st.integers(-(2**62), 2**62)
values = st.one_of(st.booleans(), whole, st.floats(allow_nan=False, allow_infinity=False), names)
samples = st.builds(
    Sample,
    st.none() | values,
    st.sampled_from(Quality),
    st.sampled_from(Reason),
    whole,
    whole,
    st.just("") | names,
)
events = st.one_of(
    st.builds(Samples, names, st.lists(st.tuples(names, samples), max_size=4).map(tuple)),
    st.builds(Contact, names, st.booleans(), whole, names),
)
requests: st.SearchStrategy[Request] = st.one_of(
    st.builds(Desire, names, names, values, whole, names, whole, st.none() | whole, whole, names),
    st.builds(ResetTrip, names, names, names),
    st.builds(Acknowledge, names, names, names),
    st.builds(Shelve, names, whole, names, names),
    st.builds(SetMode, names, st.sampled_from(Mode), names),
    st.builds(TellAll, st.lists(names, max_size=3).map(tuple)),
)


@given(names, whole, st.lists(events, max_size=4))
def test_a_frame_comes_out_as_it_went_in(boot: str, number: int, told: list[Samples]) -> None:
    assert decode_frame(encode_frame(Frame(boot, number, told))) == Frame(boot, number, told)


@given(requests)
def test_a_request_comes_out_as_it_went_in(request: Request) -> None:
    asked = Asked("agent", "boot", 7, request, "system")
    found = decode_asked(encode_asked(asked))
    assert found == asked
    assert type(found.request) is type(request)


@pytest.mark.parametrize(
    "error",
    [
        None,
        UnknownName("no pump"),
        Conflict("busy"),
        Interlocked("held"),
        ResetRefused("hot"),
        InvalidDesired("too high", field="speed", allowed="0 to 100"),
    ],
)
def test_an_answer_comes_out_as_it_went_in(error: TwinBridgeError | None) -> None:
    found = decode_answer(encode_answer(Answer(3, "driver", error)))
    assert (found.number, found.owner, type(found.error)) == (3, "driver", type(error))
    assert str(found.error) == str(error)
    if isinstance(error, InvalidDesired):
        assert isinstance(found.error, InvalidDesired)
        assert (found.error.field, found.error.allowed) == (error.field, error.allowed)


def test_an_error_of_a_later_version_is_an_error_all_the_same() -> None:
    told = orjson.dumps([1, 3, "driver", {"error": "NewKindOfError", "message": "it says"}])
    assert str(decode_answer(told).error) == "it says"


def test_records_come_out_as_they_went_in() -> None:
    alarm = Alarm(
        "a", "hot", "p", Severity.LOW, "m", 1, latched=True, trip=TripState.FAILED,
        inputs=(("p/t", 1.5, "good"),), holds=(("p", "run", False),),
    )  # fmt: skip
    records = [
        AlarmChanged(alarm),
        Audit("write", "p/run", "test", {"new": True, "version": 2}, 3, 4),
        Outcome("p", "run", 2, DesiredState.APPLIED, "", 5, "epoch"),
    ]
    kept = [KeptRecord(n, encode_record(record)) for n, record in enumerate(records, 10)]
    assert decode_handover(encode_handover(kept)) == list(enumerate(records, 10))


def test_statuses_and_definitions_come_out_as_they_went_in() -> None:
    status = DriverStatus(
        True, "modbus", "0/2", "1.0", "boot", "hash", ("a", "b"), ("c",), (("Device/d", "no"),)
    )
    assert decode_status(encode_status(status)) == status
    assert decode_agent(encode_agent(AgentStatus(True, "a", "b", "c"))) == AgentStatus(
        True, "a", "b", "c"
    )
    portion = Portion(
        "h", "e", "v", (("f.yaml:3", {"kind": "Device"}),), (("r", "DryRun"),), ("a",)
    )
    assert decode_portion(encode_portion(portion)) == portion


def test_what_a_later_version_adds_to_a_status_is_passed_over() -> None:
    assert decode_status(b'[1,{"online":true,"mood":"good"}]') == DriverStatus(online=True)


json_like = st.recursive(
    st.none() | values,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=300)
@given(st.binary(max_size=60) | json_like.map(orjson.dumps))
def test_whatever_comes_is_decoded_or_malformed(payload: bytes) -> None:
    for decode in DECODERS:
        try:
            decode(payload)
        except Malformed:
            continue


@pytest.mark.parametrize("decode", DECODERS)
def test_what_is_too_large_is_not_looked_at(decode: Callable[[bytes], object]) -> None:
    with pytest.raises(Malformed, match="more than"):
        decode(b" " * (LARGEST + 1))
