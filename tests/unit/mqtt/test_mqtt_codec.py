"""From payload bytes to values and back."""

from __future__ import annotations

import math
import struct
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinbridge.core.model import Access, PropertySpec, Reason, Value, ValueType
from twinbridge_mqtt.checks import complaints
from twinbridge_mqtt.commands import parse_answer, payload_of
from twinbridge_mqtt.config import MqttAddress, PayloadTime, Response
from twinbridge_mqtt.payload import Codec, compile_codec
from twinbridge_mqtt.refusal import BadPayload, Missing
from twinbridge_mqtt.stamps import compile_stamp

FLOAT, INT, BOOL, STRING = ValueType.FLOAT, ValueType.INT, ValueType.BOOL, ValueType.STRING


def a_codec(kind: ValueType, **address: Any) -> Codec:
    model = MqttAddress.model_validate({"topic": "t", **address})
    spec = PropertySpec("p", kind)
    assert not list(complaints(spec, model))
    return compile_codec(spec, model)


def worded(error: BadPayload) -> None:
    assert 0 < len(str(error)) < 300


FORMS: list[dict[str, Any]] = [
    {},
    {"pointer": "/a/0"},
    {"path": "$.a[-1].b"},
    {"format": "raw"},
    {"format": "csv", "column": 2},
    {"format": "hex", "encoding": "int16"},
    {"format": "binary", "encoding": "float64", "order": "CDAB"},
]


@pytest.mark.parametrize("address", FORMS)
@pytest.mark.parametrize("kind", [FLOAT, INT])
@given(payload=st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_any_bytes_give_a_number_or_say_why_not(
    address: dict[str, Any], kind: ValueType, payload: bytes
) -> None:
    try:
        value = a_codec(kind, **address).decode(payload)
    except BadPayload as error:
        worded(error)
    else:
        assert type(value) is (float if kind is FLOAT else int)
        assert math.isfinite(value)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.text(max_size=5)
    | st.integers(-(2**63), 2**64 - 1),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=8,
)


@pytest.mark.parametrize("kind", [FLOAT, INT, BOOL, STRING])
@given(document=JSON)
def test_any_json_gives_a_value_of_the_propertys_type_or_says_why_not(
    kind: ValueType, document: object
) -> None:
    codec = a_codec(kind, pointer="/a")
    try:
        value = codec.decode(orjson.dumps(document))
    except BadPayload as error:
        worded(error)
    else:
        assert type(value) is {FLOAT: float, INT: int, BOOL: bool, STRING: str}[kind]


@given(payload=st.binary(max_size=30))
def test_any_bytes_are_an_answer_or_say_why_not(payload: bytes) -> None:
    try:
        parse_answer(Response(topic="t"), payload)
    except BadPayload as error:
        worded(error)


@given(document=JSON, unit=st.sampled_from(["s", "ms", "us", "ns", "iso"]))
def test_any_timestamp_is_a_time_between_1970_and_2262_or_says_why_not(
    document: object, unit: Any
) -> None:
    try:
        stamp = compile_stamp(PayloadTime(pointer="/a", unit=unit))(document)
    except BadPayload as error:
        worded(error)
    else:
        assert 0 <= stamp < 2**63


@pytest.mark.parametrize(
    ("unit", "raw", "stamp"),
    [
        ("s", 1_700_000_000, 1_700_000_000_000_000_000),
        ("s", 1.5, 1_500_000_000),
        ("ms", "1700000000123", 1_700_000_000_123_000_000),
        ("us", 7, 7_000),
        ("ns", 1_700_000_000_123_456_789, 1_700_000_000_123_456_789),
        ("iso", "2023-11-14T22:13:20.000001Z", 1_700_000_000_000_001_000),
        ("iso", "2023-11-15T00:13:20+02:00", 1_700_000_000_000_000_000),
    ],
)
def test_timestamps_are_exact(unit: Any, raw: object, stamp: int) -> None:
    assert compile_stamp(PayloadTime(pointer="/a", unit=unit))({"a": raw}) == stamp


@pytest.mark.parametrize("raw", ["2023-11-14T22:13:20", "yesterday", 12, None, True])
def test_a_time_without_an_offset_is_none(raw: object) -> None:
    with pytest.raises(BadPayload):
        compile_stamp(PayloadTime(pointer="/a", unit="iso"))({"a": raw})


@pytest.mark.parametrize(
    ("kind", "address", "payload", "value"),
    [
        (FLOAT, {}, b"12", 12.0),
        (FLOAT, {"pointer": "/a~1b/1"}, b'{"a/b": [1, 2.5]}', 2.5),
        (FLOAT, {"pointer": "/0"}, b'{"0": 3}', 3.0),
        (FLOAT, {"path": "$['a b'][-1]"}, b'{"a b": [1, 2]}', 2.0),
        (FLOAT, {"scale": 0.1, "offset": -40}, b"625", 22.5),
        (INT, {"scale": 0.1}, b"30", 3),
        (INT, {}, b"12.0", 12),
        (INT, {}, b"-9223372036854775808", -(2**63)),
        (BOOL, {"labels": {"1": True, "0": False}}, b"1", True),
        (BOOL, {"labels": {"on": True, "off": False}, "pointer": "/s"}, b'{"s":"off"}', False),
        (STRING, {"labels": {"2": "running"}}, b"2", "running"),
        (STRING, {"labels": {"null": "none"}}, b"null", "none"),
        (BOOL, {"format": "raw"}, b" TRUE\n", True),
        (FLOAT, {"format": "raw"}, b"-1.5e3", -1500.0),
        (STRING, {"format": "csv", "column": 0}, b'"a, b",2\r\n', "a, b"),
        (INT, {"format": "hex", "encoding": "uint32", "order": "CDAB"}, b"0x0002-0001", 65538),
        (INT, {"format": "hex", "encoding": "uint16", "order": "BADC"}, b"0100", 1),
        (INT, {"format": "hex", "encoding": "int8", "byteOffset": 1}, b"00:ff", -1),
        (BOOL, {"format": "binary", "encoding": "uint8", "bit": 7}, b"\x80", True),
        (BOOL, {"format": "binary", "encoding": "bool"}, b"\x02", True),
        (STRING, {"format": "binary", "encoding": "string", "length": 4}, b"ab\0x", "ab"),
        (STRING, {"format": "binary", "encoding": "string", "byteOffset": 1}, b"xabc", "abc"),
    ],
)
def test_a_payload_gives_its_value(
    kind: ValueType, address: dict[str, Any], payload: bytes, value: Value
) -> None:
    found = a_codec(kind, **address).decode(payload)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "address", "payload", "reason"),
    [
        (FLOAT, {}, b'"12.5"', Reason.DEVICE_FAULT),
        (FLOAT, {}, b"true", Reason.DEVICE_FAULT),
        (BOOL, {}, b"1", Reason.DEVICE_FAULT),
        (STRING, {}, b"1", Reason.DEVICE_FAULT),
        (INT, {}, b"12.5", Reason.OUT_OF_RANGE),
        (INT, {}, b"1e300000", Reason.DEVICE_FAULT),
        (FLOAT, {"format": "raw"}, b"nan", Reason.DEVICE_FAULT),
        (FLOAT, {"format": "raw"}, b"1e999", Reason.OUT_OF_RANGE),
        (INT, {"format": "raw"}, b"1_000", Reason.DEVICE_FAULT),
        (FLOAT, {"scale": 1e300}, b"1e300", Reason.OUT_OF_RANGE),
        (FLOAT, {"format": "binary", "encoding": "float32"}, b"\x7f\xc0\0\0", Reason.OUT_OF_RANGE),
        (BOOL, {"labels": {"ON": True}}, b'"OFF"', Reason.OUT_OF_RANGE),
        (STRING, {"format": "raw"}, b"\xff", Reason.DEVICE_FAULT),
        (FLOAT, {"format": "hex", "encoding": "float32"}, b"xyz", Reason.DEVICE_FAULT),
    ],
)
def test_what_is_no_value_says_so(
    kind: ValueType, address: dict[str, Any], payload: bytes, reason: Reason
) -> None:
    with pytest.raises(BadPayload) as error:
        a_codec(kind, **address).decode(payload)
    assert error.value.reason is reason


@pytest.mark.parametrize("nested", [b'{"b": 1}', b"[]", b'"a"', b"3", b"[" * 500 + b"]" * 500])
def test_what_is_left_out_is_told_apart_from_what_is_wrong(nested: bytes) -> None:
    with pytest.raises(Missing):
        a_codec(FLOAT, pointer="/a").decode(nested)


SCALES = st.sampled_from([None, 0.1, 0.001, 2.0, -0.5, 100.0])
NUMBERS = st.integers(-(10**9), 10**9)


@given(raw=NUMBERS, scale=SCALES, offset=st.sampled_from([0.0, -40.0, 0.5]))
def test_a_written_number_comes_back_as_itself(
    raw: int, scale: float | None, offset: float
) -> None:
    value = raw * (scale or 1.0) + offset
    spec = PropertySpec("p", FLOAT, Access.READ_WRITE)
    address = MqttAddress.model_validate(
        {"topic": "t", "pointer": "/value", "scale": scale, "offset": offset,
         "command": {"topic": "s"}}
    )  # fmt: skip
    sent = payload_of(spec, address, value, command_id="1", expires=2)
    back = compile_codec(spec, address).decode(sent)
    assert back == pytest.approx(value, rel=1e-12, abs=1e-9)


@given(text=st.text(max_size=20))
def test_a_written_text_comes_back_as_itself_whatever_is_in_it(text: str) -> None:
    spec = PropertySpec("p", STRING, Access.READ_WRITE)
    command = {"topic": "s", "payload": '{"value": {value}, "id": {id}}'}
    address = MqttAddress.model_validate({"topic": "t", "pointer": "/value", "command": command})
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    sent = payload_of(spec, address, text, command_id="1", expires=2)
    assert compile_codec(spec, address).decode(sent) == text


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_bytes_in_any_order_are_put_in_order(value: float) -> None:
    raw = struct.pack(">d", value)
    words = [raw[at : at + 2] for at in range(0, 8, 2)]
    orders = {
        "ABCD": raw,
        "CDAB": b"".join(reversed(words)),
        "BADC": b"".join(w[::-1] for w in words),
        "DCBA": raw[::-1],
    }
    for order, payload in orders.items():
        codec = a_codec(FLOAT, format="binary", encoding="float64", order=order)
        assert codec.decode(payload) == value


@pytest.mark.parametrize(
    ("kind", "address", "value", "payload"),
    [
        (BOOL, {}, True, b'{"id": "i", "value": true, "expires": 9}'),
        (STRING, {}, "{id}", b'{"id": "i", "value": "{id}", "expires": 9}'),
        (BOOL, {"payload": "raw"}, False, b"false"),
        (INT, {"payload": "SET {value};"}, 3, b"SET 3;"),
        (BOOL, {"payload": "raw", "values": {True: "ON", False: 0}}, True, b"ON"),
        (BOOL, {"payload": "raw", "values": {True: "ON", False: 0}}, False, b"0"),
        (FLOAT, {"payload": '{"v": {value}}', "values": {1: "max"}}, 1.0, b'{"v": "max"}'),
    ],
)
def test_a_command_is_rendered(
    kind: ValueType, address: dict[str, Any], value: Value, payload: bytes
) -> None:
    spec = PropertySpec("p", kind, Access.WRITE_ONLY)
    model = MqttAddress.model_validate({"command": {"topic": "s", **address}})
    assert not list(complaints(spec, model))
    assert payload_of(spec, model, value, command_id="i", expires=9) == payload


def test_labels_work_the_other_way_round_for_a_command() -> None:
    spec = PropertySpec("p", BOOL, Access.READ_WRITE)
    model = MqttAddress.model_validate(
        {"topic": "t", "labels": {"ON": True, "OFF": False},
         "command": {"topic": "s", "payload": '{"s": {value}}'}}
    )  # fmt: skip
    assert payload_of(spec, model, False, command_id="i", expires=9) == b'{"s": "OFF"}'
