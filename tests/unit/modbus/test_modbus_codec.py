from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twinbridge.core.model import Access, PropertySpec, Value, ValueType
from twinbridge_modbus import driver
from twinbridge_modbus.codec import BadValue, Codec, Refused, compile_codec
from twinbridge_modbus.config import ModbusAddress

ORDERS = ("ABCD", "CDAB", "BADC", "DCBA")
BITS = {"int16": 16, "uint16": 16, "int32": 32, "uint32": 32, "int64": 64, "uint64": 64}


def codec(kind: str, limits: tuple[float, float] | None = None, **address: Any) -> Codec:
    low, high = limits or (None, None)
    spec = PropertySpec("p", ValueType(kind), Access.READ_WRITE, minimum=low, maximum=high)
    place = {"table": "holding", "address": 0} if "table" not in address else {"address": 0}
    return compile_codec(spec, ModbusAddress.model_validate(place | address))


def round_trip(compiled: Codec, value: Value) -> Value:
    return compiled.decode(compiled.encode(value, 0, b""), 0)


def limits_of(encoding: str) -> tuple[int, int]:
    bits = BITS[encoding]
    if encoding.startswith("u"):
        return 0, 2**bits - 1
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


@given(st.data(), st.sampled_from(sorted(BITS)), st.sampled_from(ORDERS))
def test_an_integer_survives_the_way_out_and_back(
    data: st.DataObject, encoding: str, order: str
) -> None:
    low, high = limits_of(encoding)
    value = data.draw(st.sampled_from((low, high, 0)) | st.integers(low, high))
    assert round_trip(codec("int", encoding=encoding, order=order), value) == value


@pytest.mark.parametrize("encoding", sorted(BITS))
@pytest.mark.parametrize("beyond", [-1, 1])
def test_a_value_outside_the_encoding_is_refused_with_the_range(encoding: str, beyond: int) -> None:
    low, high = limits_of(encoding)
    with pytest.raises(Refused, match=f"{low} to {high}"):
        codec("int", encoding=encoding).encode((high if beyond > 0 else low) + beyond, 0, b"")


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(ORDERS))
@example(5e-324, "DCBA")
@example(-0.0, "CDAB")
def test_a_float64_survives(value: float, order: str) -> None:
    assert round_trip(codec("float", encoding="float64", order=order), value) == value


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.sampled_from(ORDERS))
def test_a_float32_survives(value: float, order: str) -> None:
    assert round_trip(codec("float", encoding="float32", order=order), value) == value


@given(st.integers(0, 99_999_999), st.sampled_from(ORDERS))
def test_bcd_survives(value: int, order: str) -> None:
    assert round_trip(codec("int", encoding="bcd32", order=order), value) == value
    assert round_trip(codec("int", encoding="bcd16", order=order), value % 10_000) == value % 10_000


@given(st.text(st.characters(codec="latin-1", exclude_characters="\0 "), max_size=10))
def test_a_string_survives_in_both_byte_orders(value: str) -> None:
    for order in ("ABCD", "BADC"):
        compiled = codec("string", encoding="string", length=5, order=order)
        assert round_trip(compiled, value) == value


@given(st.integers(-32768, 32767), st.sampled_from((0.1, 0.01, 0.001, 0.25, 3.0, -0.5, 1e-9)))
def test_a_scaled_register_survives_reading_and_writing_back(raw: int, scale: float) -> None:
    compiled = codec("float", encoding="int16", scale=scale, offset=-40.0)
    registers = struct.pack(">h", raw)
    assert compiled.encode(compiled.decode(registers, 0), 0, b"") == registers


@given(register=st.integers(0, 0xFFFF), bit=st.integers(0, 15), value=st.booleans())
def test_writing_a_bit_leaves_the_other_bits_alone(register: int, bit: int, *, value: bool) -> None:
    compiled = codec("bool", encoding="uint16", bit=bit)
    written = struct.unpack(">H", compiled.encode(value, 0, struct.pack(">H", register)))[0]
    assert written == (register | 1 << bit if value else register & ~(1 << bit))
    assert compiled.masks is not None
    and_mask, or_mask = compiled.masks(value)
    assert (register & and_mask) | (or_mask & ~and_mask & 0xFFFF) == written


@given(st.integers(0, 0xFFFFFFFF), st.data(), st.sampled_from(ORDERS))
def test_writing_a_field_leaves_the_other_bits_alone(
    register: int, data: st.DataObject, order: str
) -> None:
    low = data.draw(st.integers(0, 31))
    high = data.draw(st.integers(low, 31))
    value = data.draw(st.integers(0, 2 ** (high - low + 1) - 1))
    field = {"from": low, "to": high}
    compiled = codec("int", encoding="uint32", field=field, order=order)
    whole = codec("int", encoding="uint32", order=order)
    written = compiled.encode(value, 0, whole.encode(register, 0, b""))
    mask = (2 ** (high - low + 1) - 1) << low
    assert whole.decode(written, 0) == register & ~mask | value << low
    assert compiled.decode(written, 0) == value


@pytest.mark.parametrize(
    ("order", "registers"),
    [
        ("ABCD", "3f9d70a4"),
        ("CDAB", "70a43f9d"),
        ("BADC", "9d3fa470"),
        ("DCBA", "a4709d3f"),
    ],
)
def test_the_orders_are_those_of_the_field(order: str, registers: str) -> None:
    value = codec("float", encoding="float32", order=order).decode(bytes.fromhex(registers), 0)
    assert value == pytest.approx(1.23, rel=1e-6)


def test_sixty_four_bits_keep_the_pattern_of_the_orders() -> None:
    value = 0x0102030405060708
    expected = {
        "ABCD": "0102030405060708",
        "CDAB": "0708050603040102",
        "BADC": "0201040306050807",
        "DCBA": "0807060504030201",
    }
    for order, registers in expected.items():
        assert codec("int", encoding="int64", order=order).encode(value, 0, b"").hex() == registers


def test_word_and_byte_order_say_the_same_as_order() -> None:
    one = codec("int", encoding="int32", wordOrder="little")
    assert one.encode(1, 0, b"") == codec("int", encoding="int32", order="CDAB").encode(1, 0, b"")


def test_a_half_is_rounded_away_from_zero_in_decimal() -> None:
    compiled = codec("float", encoding="int16", scale=0.1)
    for value, raw in ((0.15, 2), (0.25, 3), (-0.15, -2), (0.149, 1), (1.0, 10)):
        assert struct.unpack(">h", compiled.encode(value, 0, b""))[0] == raw


def test_tenths_read_as_people_write_them() -> None:
    assert codec("float", encoding="int16", scale=0.1).decode(b"\0\3", 0) == 0.3


def test_a_scale_factor_register_scales_by_powers_of_ten() -> None:
    compiled = codec("float", encoding="int16", scaleFactor={"address": 5})
    assert compiled.decode(b"\x03\xe8", -2) == 10.0
    assert compiled.decode(b"\x00\x05", 3) == 5000.0
    assert compiled.encode(12.34, -2, b"") == struct.pack(">h", 1234)
    with pytest.raises(BadValue, match="scale factor"):
        compiled.decode(b"\0\1", -32768)


@pytest.mark.parametrize(("encoding", "size"), [("float32", 4), ("float64", 8)])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_bad_and_never_written(
    encoding: str, size: int, number: float
) -> None:
    compiled = codec("float", encoding=encoding)
    with pytest.raises(BadValue):
        compiled.decode(struct.pack(">f" if size == 4 else ">d", number), 0)
    with pytest.raises(Refused):
        compiled.encode(number, 0, b"")


def test_a_float32_too_large_is_refused_with_the_range() -> None:
    with pytest.raises(Refused, match=r"3\.4028"):
        codec("float", encoding="float32").encode(1e39, 0, b"")


def test_an_invalid_pattern_means_the_number_that_it_encodes() -> None:
    compiled = codec("int", encoding="int16", invalidValues=[0x8000])
    with pytest.raises(BadValue, match="-32768"):
        compiled.decode(b"\x80\x00", 0)
    assert compiled.decode(b"\x80\x01", 0) == -32767


def test_a_bcd_digit_above_nine_is_bad() -> None:
    with pytest.raises(BadValue, match="BCD"):
        codec("int", encoding="bcd16").decode(b"\x1a\x00", 0)


def test_labels_name_numbers_both_ways() -> None:
    compiled = codec("string", encoding="uint16", labels={"1": "off", "7": "fault"})
    assert compiled.decode(b"\0\7", 0) == "fault"
    assert compiled.encode("off", 0, b"") == b"\0\1"
    with pytest.raises(BadValue, match="9 has no label"):
        compiled.decode(b"\0\x09", 0)
    with pytest.raises(Refused, match="off, fault"):
        compiled.encode("on", 0, b"")


def test_a_unix_time_is_a_number_or_a_timestamp() -> None:
    raw = struct.pack(">I", 1_700_000_000)
    assert codec("int", encoding="unixtime").decode(raw, 0) == 1_700_000_000
    compiled = codec("string", encoding="unixtime")
    assert compiled.decode(raw, 0) == "2023-11-14T22:13:20Z"
    assert compiled.encode("2023-11-14T23:13:20+01:00", 0, b"") == raw
    with pytest.raises(Refused, match="RFC 3339"):
        compiled.encode("yesterday", 0, b"")


def test_clamp_holds_what_is_read_within_the_limits() -> None:
    compiled = codec("float", (0.0, 10.0), encoding="int16", clamp=True)
    assert [compiled.decode(struct.pack(">h", n), 0) for n in (-1, 5, 11)] == [0.0, 5.0, 10.0]


def test_a_long_string_is_refused_with_the_length() -> None:
    with pytest.raises(Refused, match="4 characters"):
        codec("string", encoding="string", length=2).encode("pumps", 0, b"")


@pytest.mark.parametrize(
    ("kind", "address", "complaint"),
    [
        ("bool", {"encoding": "int16"}, "type bool needs"),
        ("int", {"encoding": "float32"}, "gives fractions"),
        ("int", {"encoding": "int16", "scale": 0.1}, "type must be float"),
        ("float", {}, "encoding is missing"),
        ("bool", {"bit": 16}, "outside the 16 bits"),
        ("bool", {"bit": 1, "field": {"from": 0, "to": 1}}, "not both"),
        ("string", {"encoding": "string"}, "length is missing"),
        ("string", {"encoding": "string", "length": 2, "order": "CDAB"}, "order ABCD or BADC"),
        ("string", {"encoding": "int16", "labels": {1: "a", 2: "a"}}, "labels are the same"),
        ("float", {"encoding": "int16", "scale": 0.0}, "scale must be"),
        ("float", {"encoding": "int16", "clamp": True}, "clamp needs"),
        ("int", {"encoding": "int32", "address": 65535}, "ends at address 65536"),
        ("bool", {"table": "coil", "bit": 1}, "a coil has none"),
        ("bool", {"table": "discrete"}, "cannot be written"),
        ("int", {"encoding": "int32", "writeFunction": "single"}, "writes one register"),
    ],
)
def test_a_property_that_does_not_fit_its_address_is_said(
    kind: str, address: dict[str, Any], complaint: str
) -> None:
    spec = PropertySpec("p", ValueType(kind), Access.READ_WRITE)
    model = ModbusAddress.model_validate({"table": "holding", "address": 0} | address)
    assert any(complaint in said for said in driver.check(spec, model))
