"""Frames, the queue, what is kept of a topic, and the words for every code of the library."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import Client
from paho.mqtt.enums import ConnackCode, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from twinbridge.core.model import (
    SECOND,
    Point,
    PropertyRef,
    PropertySpec,
    Quality,
    Reason,
    ValueType,
)
from twinbridge.mqtt import faults
from twinbridge.mqtt.frames import Malformed, frame_at, plain_message
from twinbridge_mqtt import driver
from twinbridge_mqtt.config import MqttAddress, MqttConnection
from twinbridge_mqtt.entry import SET_BACK_AFTER
from twinbridge_mqtt.message import Waiting, message
from twinbridge_mqtt.request import MqttRequest

NOW = 1_800_000_000 * SECOND


def test_every_code_of_the_client_library_has_its_words() -> None:
    assert {int(c) for c in MQTTErrorCode} - set(faults.FAILURES) == {0}
    assert {int(c) for c in ConnackCode} - set(faults.CONNACK) == {0}
    assert {c for c in ReasonCode.names if faults.refused(c)} <= set(faults.REASONS)
    assert faults.NOBODY_LISTENS in ReasonCode.names


def test_the_inner_parts_of_the_client_library_that_are_used_are_there() -> None:
    assert callable(Client._create_socket)
    assert callable(Client._send_pingreq)


def publish(topic: str, payload: bytes, *, first: int = 0x30, properties: bytes = b"") -> bytes:
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name + properties + payload
    size, length = len(body), bytearray()
    while True:
        size, low = divmod(size, 128)
        length.append(low | (0x80 if size else 0))
        if not size:
            return bytes([first, *length]) + body


@given(
    topic=st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
    payload=st.binary(max_size=20_000),
    before=st.binary(max_size=5),
    five=st.booleans(),
)
def test_a_plain_message_is_read_as_it_was_sent(
    topic: str, payload: bytes, before: bytes, *, five: bool
) -> None:
    sent = publish(topic, payload, properties=b"\0" if five else b"")
    held = before + sent + b"\x30"
    frame = frame_at(held, len(before))
    assert frame is not None
    assert frame.plain
    assert frame.end == len(before) + len(sent)
    assert plain_message(held, frame, properties=five) == (topic, payload)
    for cut in range(len(before) + 1, frame.body):
        assert frame_at(held[:cut], len(before)) is None


@given(held=st.binary(min_size=1, max_size=60), five=st.booleans())
def test_any_bytes_are_a_message_or_malformed(held: bytes, *, five: bool) -> None:
    try:
        frame = frame_at(held, 0)
        if frame is not None and frame.plain and frame.end <= len(held):
            plain_message(held, frame, properties=five)
    except Malformed:
        return


def test_what_has_properties_or_an_acknowledgement_is_left_to_the_library() -> None:
    held = publish("a", b"x", properties=b"\x02\x01\x00")
    frame = frame_at(held, 0)
    assert frame is not None
    assert plain_message(held, frame, properties=True) is None
    for first in (0x32, 0x38, 0x40):
        other = frame_at(publish("a", b"x", first=first), 0)
        assert other is not None
        assert not other.plain


@pytest.mark.parametrize("first", [0x00, 0x10, 0x36, 0x82, 0xC0, 0x21, 0x60])
def test_what_no_broker_sends_is_malformed_at_its_first_byte(first: int) -> None:
    with pytest.raises(Malformed, match="no packet begins with"):
        frame_at(bytes([first]), 0)


def test_a_length_of_more_than_four_bytes_is_malformed() -> None:
    with pytest.raises(Malformed, match="more than 4 bytes"):
        frame_at(b"\x30\xff\xff\xff\xff\x01", 0)


def test_a_full_queue_keeps_the_latest_of_each_topic_and_counts() -> None:
    waiting: Waiting[str] = Waiting(100)
    for number in range(101):
        waiting.put("ab"[number % 2], message(str(number).encode(), NOW, number))
    assert waiting.dropped == 99
    assert [(r, m.payload) for r, m in (waiting.take(), waiting.take())] == [
        ("b", b"99"),
        ("a", b"100"),
    ]
    assert not waiting


def test_a_queue_is_bounded_in_bytes_too() -> None:
    waiting: Waiting[str] = Waiting(10_000)
    large = message(b"x" * 200_000, NOW, 0)
    for _ in range(1000):
        waiting.put("a", large)
    assert len(waiting) * 200_000 <= 64 * 1024 * 1024


def a_request(connection: dict[str, Any] | None = None, **address: Any) -> MqttRequest:
    at = MqttConnection.model_validate({"url": "mqtt://h", "maxAge": "5m", **(connection or {})})
    spec = PropertySpec("t", ValueType.FLOAT)
    model = MqttAddress.model_validate({"topic": "s", "pointer": "/t", **address})
    point = Point(PropertyRef("d", "t"), spec, driver.bind(spec, at, model), SECOND)
    return MqttRequest("s", (point,))


def said(value: object, *, at: int = 0, ts: int | None = None, retained: bool = False) -> Any:
    """At `at` seconds; `ts` likewise."""
    stamp = "" if ts is None else f', "ts": {NOW // SECOND + ts}'
    text = f'{{"t": {value}{stamp}}}'.encode()
    return message(text, NOW + at * SECOND, at * SECOND, retained=retained)


STAMPED = {"timestamp": {"pointer": "/ts", "unit": "s"}}


def test_a_repeated_payload_is_unchanged_and_keeps_the_value_from_growing_old() -> None:
    request = a_request()
    assert request.take(said(1)).readings
    assert not request.take(said(1, at=200)).readings
    assert not request.confirm(400 * SECOND).readings
    (stale,) = request.confirm(501 * SECOND).readings
    assert (stale.quality, stale.reason) == (Quality.BAD, Reason.STALE)
    (again,) = request.take(said(1, at=502)).readings
    assert again.value == 1


def test_after_an_error_every_point_is_told_again() -> None:
    request = a_request()
    request.take(said(1))
    request.forget()
    (again,) = request.take(said(1)).readings
    assert again.value == 1


def test_a_timestamp_from_the_future_becomes_the_time_of_receipt() -> None:
    request = a_request(**STAMPED)
    (reading,) = request.take(said(1, ts=3600)).readings
    assert reading.source_time == NOW
    (next_one,) = request.take(said(2, at=1, ts=1)).readings
    assert next_one.value == 2


def test_a_clock_that_was_set_back_does_not_silence_a_device_for_ever() -> None:
    request = a_request(**STAMPED, maxAge="5h")
    request.take(said(1, at=0, ts=0))
    assert not request.take(said(2, at=1, ts=-3600)).readings
    after = 2 + SET_BACK_AFTER // SECOND
    (reading,) = request.take(said(3, at=after, ts=-3600 + after)).readings
    assert (reading.value, reading.source_time) == (3, None)
    assert request.take(said(4, at=after + 1, ts=-3600 + after + 1)).readings[0].value == 4


def test_a_message_without_its_timestamp_is_bad() -> None:
    (reading,) = a_request(**STAMPED).take(said(1)).readings
    assert reading.quality is Quality.BAD
    assert "nothing at /ts" in reading.message


def test_a_retained_value_with_availability_needs_no_time() -> None:
    request = a_request({"availability": {"topic": "a"}})
    (reading,) = request.take(said(1, retained=True)).readings
    assert reading.quality is Quality.GOOD


def test_a_retained_value_that_is_young_enough_is_good() -> None:
    (reading,) = a_request(**STAMPED).take(said(1, ts=-60, retained=True)).readings
    assert reading.quality is Quality.GOOD
    (old,) = a_request(**STAMPED).take(said(1, ts=-301, retained=True)).readings
    assert old.reason is Reason.STALE


@pytest.mark.parametrize("retained", [True, False])
def test_an_old_value_says_of_when_it_is(*, retained: bool) -> None:
    (old,) = a_request(**STAMPED).take(said(1, ts=-86_400 * 365, retained=retained)).readings
    assert "is of 2026-01-15T08:00:00Z, older than maxAge, 5m" in old.message
