"""Payloads and values, byte by byte."""

from __future__ import annotations

import math
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinbridge.adapters.scada_sparkplug.payload import (
    FIELDS,
    DataType,
    Field,
    Metric,
    Payload,
    Property,
    decode,
    encode,
)
from twinbridge.adapters.scada_sparkplug.values import datatype, pack, quality, unpack
from twinbridge.core.model import PropertySpec, Quality, Reason, Sample, ValueType

UINT32 = st.integers(0, 2**32 - 1)
UINT64 = st.integers(0, 2**64 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FLOAT32 = st.floats(width=32, allow_nan=False)
RAW = {
    Field.INT: UINT32,
    Field.LONG: UINT64,
    Field.FLOAT: FLOAT32,
    Field.DOUBLE: st.floats(allow_nan=False),
    Field.BOOLEAN: st.booleans(),
    Field.STRING: TEXT,
    Field.BYTES: st.binary(max_size=20),
}
WITHOUT_BYTES = [t for t, field in FIELDS.items() if field is not Field.BYTES]


@st.composite
def properties(draw: st.DrawFn) -> Property:
    kind = draw(st.sampled_from(WITHOUT_BYTES))
    return Property(draw(TEXT), int(kind), draw(st.none() | RAW[FIELDS[kind]]))


@st.composite
def metrics(draw: st.DrawFn) -> Metric:
    field = draw(st.none() | st.sampled_from(list(Field)))
    return Metric(
        draw(st.none() | TEXT),
        draw(st.none() | UINT64),
        draw(st.none() | UINT64),
        draw(st.none() | UINT32),
        None if field is None else draw(RAW[field]),
        field,
        draw(st.booleans()),
        draw(st.booleans()),
        tuple(draw(st.lists(properties(), max_size=3))),
    )


PAYLOADS = st.builds(
    Payload,
    st.none() | UINT64,
    st.lists(metrics(), max_size=4).map(tuple),
    st.none() | UINT64,
)


@given(PAYLOADS)
def test_what_is_decoded_is_what_was_encoded(payload: Payload) -> None:
    assert decode(encode(payload)) == payload


@given(st.binary(max_size=200))
def test_garbage_is_a_payload_or_a_value_error(content: bytes) -> None:
    with suppress(ValueError):
        decode(content)


@given(PAYLOADS, st.data())
def test_a_truncated_payload_is_a_payload_or_a_value_error(
    payload: Payload, data: st.DataObject
) -> None:
    content = encode(payload)
    cut = data.draw(st.integers(0, len(content)))
    with suppress(ValueError):
        decode(content[:cut])


def test_the_field_numbers_are_those_of_the_specification() -> None:
    quality = (Property("Quality", DataType.INT32, 192),)
    metric = Metric("a", 1, 2, DataType.DOUBLE, 1.5, Field.DOUBLE, False, True, quality)
    value = b"\x08\x03\x18\xc0\x01"  # type = 3 (1), int_value = 192 (3)
    properties = b"\x0a\x07Quality" + b"\x12" + bytes([len(value)]) + value
    expected = (
        b"\x0a\x01a"  # name (1)
        b"\x10\x01"  # alias (2)
        b"\x18\x02"  # timestamp (3)
        b"\x20\x0a"  # datatype (4): Double is 10
        b"\x28\x01"  # is_historical (5)
        + (b"\x4a" + bytes([len(properties)]) + properties)  # properties (9)
        + (b"\x69" + struct.pack("<d", 1.5))  # double_value (13)
    )
    whole = b"\x08\x07" + b"\x12" + bytes([len(expected)]) + expected + b"\x18\x05"
    assert encode(Payload(7, (metric,), 5)) == whole


@pytest.mark.parametrize(
    ("field", "tag"),
    [
        (Field.INT, 10),
        (Field.LONG, 11),
        (Field.FLOAT, 12),
        (Field.DOUBLE, 13),
        (Field.BOOLEAN, 14),
        (Field.STRING, 15),
        (Field.BYTES, 16),
    ],
)
def test_each_value_stands_in_its_field(field: Field, tag: int) -> None:
    some = {Field.STRING: "x", Field.BYTES: b"x", Field.BOOLEAN: True}.get(field, 1)
    content = encode(Payload(None, (Metric(value=some, field=field),)))
    key, size = content[2], 1
    if key & 0x80:
        key, size = (key & 0x7F) | content[3] << 7, 2
    assert key >> 3 == tag
    assert size == (2 if tag > 15 else 1)


def test_fields_that_are_not_ours_are_passed_over() -> None:
    metric = b"\x0a\x01a" + b"\x42\x02\x08\x01" + b"\x8a\x01\x02\x08\x01"  # metadata, a data set
    known = b"\x12" + bytes([len(metric)]) + metric
    assert decode(known + b"\x32\x03abc" + b"\xf8\x07\x01").metrics == (Metric("a"),)


def test_a_string_that_is_no_utf_8_is_refused() -> None:
    with pytest.raises(ValueError, match="UTF-8"):
        decode(b"\x12\x04\x0a\x02\xff\xfe")


def test_a_property_set_with_a_key_too_many_is_refused() -> None:
    properties = b"\x0a\x01a\x0a\x01b\x12\x02\x08\x03"
    metric = b"\x4a" + bytes([len(properties)]) + properties
    with pytest.raises(ValueError, match="keys"):
        decode(b"\x12" + bytes([len(metric)]) + metric)


# Values.

INTEGERS = [t for t in DataType if DataType.INT8 <= t <= DataType.UINT64]
BITS = dict(zip(INTEGERS, (8, 16, 32, 64) * 2, strict=True))


def bounds(kind: DataType) -> tuple[int, int]:
    bits = BITS[kind]
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if kind <= DataType.INT64 else (0, 2**bits - 1)


@given(st.sampled_from(INTEGERS), st.data())
def test_an_integer_of_a_type_that_is_said_is_read_as_it_was_written(
    kind: DataType, data: st.DataObject
) -> None:
    value = data.draw(st.integers(*bounds(kind)))
    field, raw = pack(kind, value)
    metric = decode(encode(Payload(1, (Metric("a", None, 1, kind, raw, field),)))).metrics[0]
    assert unpack(DataType.UINT64 if value > 2**63 - 1 else DataType.INT64, metric) == value


@given(st.sampled_from([DataType.INT64, DataType.UINT64]), st.data())
def test_an_integer_whose_type_only_the_birth_said_is_of_that_type(
    kind: DataType, data: st.DataObject
) -> None:
    value = data.draw(st.integers(*bounds(kind)))
    field, raw = pack(kind, value)
    assert unpack(kind, Metric(alias=1, value=raw, field=field)) == value


@given(st.integers(), st.sampled_from(INTEGERS))
def test_an_integer_that_does_not_fit_is_refused(value: int, kind: DataType) -> None:
    low, high = bounds(kind)
    if not low <= value <= high:
        with pytest.raises(ValueError, match="does not fit"):
            pack(kind, value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_double_is_read_as_it_was_written(value: float) -> None:
    field, raw = pack(DataType.DOUBLE, value)
    assert unpack(DataType.DOUBLE, Metric(value=raw, field=field)) == value


@pytest.mark.parametrize("value", [math.nan, math.inf, True, "1", 1.5])
def test_what_is_no_integer_is_not_packed_as_one(value: float | str) -> None:
    with pytest.raises(ValueError, match="whole number"):
        pack(DataType.INT64, value)


@pytest.mark.parametrize("value", [math.nan, math.inf, True, "1"])
def test_what_is_no_number_is_not_packed_as_one(value: float | str) -> None:
    with pytest.raises(ValueError, match="no number"):
        pack(DataType.DOUBLE, value)


def test_a_small_integer_in_32_bits_needs_no_type() -> None:
    assert unpack(DataType.INT64, Metric(value=7, field=Field.INT)) == 7


def test_a_32_bit_number_that_may_be_negative_is_not_guessed() -> None:
    with pytest.raises(ValueError, match="may be a negative"):
        unpack(DataType.INT64, Metric(value=2**32 - 5, field=Field.INT))
    said = Metric(value=2**32 - 5, field=Field.INT, datatype=DataType.INT32)
    assert unpack(DataType.INT64, said) == -5
    unsigned = Metric(value=2**32 - 5, field=Field.INT, datatype=DataType.UINT32)
    assert unpack(DataType.INT64, unsigned) == 2**32 - 5


def test_an_int16_that_fills_only_its_own_bits_is_negative_too() -> None:
    said = Metric(value=0xFFFE, field=Field.INT, datatype=DataType.INT16)
    assert unpack(DataType.INT64, said) == -2


def test_a_number_stands_for_a_float() -> None:
    assert unpack(DataType.DOUBLE, Metric(value=1.5, field=Field.FLOAT)) == 1.5
    assert unpack(DataType.DOUBLE, Metric(value=3, field=Field.INT)) == 3
    assert unpack(DataType.DOUBLE, Metric(value=2**64 - 3, field=Field.LONG)) == -3


@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        (DataType.BOOLEAN, Metric(value=1, field=Field.INT)),
        (DataType.BOOLEAN, Metric(value="true", field=Field.STRING)),
        (DataType.INT64, Metric(value=1.0, field=Field.DOUBLE)),
        (DataType.INT64, Metric(value=True, field=Field.BOOLEAN)),
        (DataType.INT64, Metric(value=1, field=Field.LONG, datatype=DataType.DOUBLE)),
        (DataType.INT64, Metric(value=1, field=Field.LONG, datatype=99)),
        (DataType.INT64, Metric(value=1, field=Field.INT, datatype=DataType.INT64)),
        (DataType.DOUBLE, Metric(value=True, field=Field.BOOLEAN)),
        (DataType.DOUBLE, Metric(value="1", field=Field.STRING)),
        (DataType.STRING, Metric(value=b"1", field=Field.BYTES)),
        (DataType.STRING, Metric(value=1, field=Field.INT)),
        (DataType.INT64, Metric()),
        (DataType.INT64, Metric(value=1, field=Field.LONG, is_null=True)),
    ],
)
def test_a_value_of_another_type_is_refused(kind: DataType, metric: Metric) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack(kind, metric)


@given(metrics(), st.sampled_from([DataType.INT64, DataType.DOUBLE, DataType.STRING]))
def test_a_command_of_any_shape_is_a_value_or_a_value_error(metric: Metric, kind: DataType) -> None:
    try:
        value = unpack(kind, metric)
    except ValueError:
        return
    assert isinstance(value, int | float | str)


def test_types_follow_the_property() -> None:
    types = {t: datatype(PropertySpec("p", t)) for t in ValueType}
    assert types == {
        ValueType.BOOL: DataType.BOOLEAN,
        ValueType.INT: DataType.INT64,
        ValueType.FLOAT: DataType.DOUBLE,
        ValueType.STRING: DataType.STRING,
    }
    large = PropertySpec("p", ValueType.INT, minimum=0, maximum=2**64 - 1)
    assert datatype(large) is DataType.UINT64


@pytest.mark.parametrize(
    ("of", "reason", "code"),
    [
        (Quality.GOOD, Reason.NONE, 192),
        (Quality.BAD, Reason.COMM_LOST, 0),
        (Quality.BAD, Reason.DEVICE_FAULT, 0),
        (Quality.BAD, Reason.NOT_READ, 0),
        (Quality.BAD, Reason.STALE, 500),
        (Quality.UNCERTAIN, Reason.STALE, 500),
        (Quality.UNCERTAIN, Reason.OUT_OF_RANGE, 500),
    ],
)
def test_quality_is_one_of_three_codes(of: Quality, reason: Reason, code: int) -> None:
    assert quality(Sample(1, of, reason, 1, 1)) == code


# Of another implementation: npm sparkplug-payload 1.0.3 has encoded this.

FOREIGN = bytes.fromhex(
    "0880d095ffbc31122f0a05737065656410071881d095ffbc3120044a100a075175616c69747912050803"
    "18c00158fbffffffffffffffff01120d0a03733332200350f9ffffff0f120d0a03733136200250d4fdff"
    "ff0f120c0a027338200150f9ffffff0f12090a027538200550c801120b0a03753136200650e0d403120d"
    "0a0375333220075880d0acf30e12120a03753634200858ffffffffffffffffff0112090a0372756e200b"
    "7001120e0a0164200a69000000000000f83f120a0a0166200965000080be120d0a056c6162656c200c7a"
    "02c3a9120d0a076e6f7468696e67200a38011803"
)


def test_what_another_implementation_has_written_is_read() -> None:
    payload = decode(FOREIGN)
    by_name = {m.name: m for m in payload.metrics}
    nothing = by_name.pop("nothing")
    types = {"run": DataType.BOOLEAN, "label": DataType.STRING, "u64": DataType.UINT64}
    types |= {"d": DataType.DOUBLE, "f": DataType.DOUBLE}
    values = {n: unpack(types.get(n or "", DataType.INT64), m) for n, m in by_name.items()}
    assert (payload.timestamp, payload.seq) == (1_700_000_000_000, 3)
    assert values == {
        "speed": -5,
        "s32": -7,
        "s16": -300,
        "s8": -7,
        "u8": 200,
        "u16": 60_000,
        "u32": 4_000_000_000,
        "u64": 2**64 - 1,
        "run": True,
        "d": 1.5,
        "f": -0.25,
        "label": "é",
    }
    speed = by_name["speed"]
    assert (speed.alias, speed.timestamp) == (7, 1_700_000_000_001)
    assert speed.properties == (Property("Quality", DataType.INT32, 192),)
    assert (nothing.is_null, nothing.field) == (True, None)
