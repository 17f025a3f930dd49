"""Boiler, fan and leak sensor obey their physics, and what they publish is read back the same."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinbridge.core.model import Access, Point, PropertyRef, PropertySpec, ValueType
from twinbridge.errors import InvalidInput
from twinbridge_mqtt.address import bind_address, bound
from twinbridge_mqtt.commands import payload_of as command_of
from twinbridge_mqtt.config import MqttAddress, MqttConnection
from twinbridge_simulators.faults import FaultKind
from twinbridge_simulators.machines import boiler, fan
from twinbridge_simulators.machines.base import Machine
from twinbridge_simulators.machines.boiler import Boiler, BoilerOptions, Kettle
from twinbridge_simulators.machines.fan import Fan, FanOptions, Wheel
from twinbridge_simulators.machines.leak_sensor import LeakSensor
from twinbridge_simulators.mqtt.orders import parse_order
from twinbridge_simulators.mqtt.packets import (
    Malformed,
    Message,
    cut,
    matches,
    parse_publish,
    publish,
)
from twinbridge_simulators.mqtt.payload import payload_of

TICK = 0.05
PLATE = BoilerOptions(users={})
NOW = 1_795_000_000_123_000_000


def pass_time(machine: Machine, seconds: float) -> None:
    for _tick in range(round(seconds / TICK)):
        machine.step(TICK)


def test_the_thermostat_holds_the_boiler_near_its_setpoint() -> None:
    machine = Boiler(BoilerOptions(temperature=110, setpoint=140, users={}))
    pass_time(machine, 60)
    assert 136 < machine.temperature < 142


def test_an_overheating_boiler_is_stopped_by_its_burner_and_not_by_its_thermostat() -> None:
    machine = Boiler(PLATE)
    machine.faults.add(FaultKind.OVERHEAT)
    pass_time(machine, 10)
    assert machine.pressure_is_high
    machine.set_burner(on=False)
    assert not machine.burner
    hot = machine.temperature
    pass_time(machine, 2)
    assert machine.temperature < hot


def test_a_shutdown_stands_until_it_is_reset_and_starts_nothing_by_itself() -> None:
    machine = Boiler(PLATE)
    machine.emergency_shutdown()
    with pytest.raises(InvalidInput, match="shut down"):
        machine.set_burner(on=True)
    machine.reset()
    pass_time(machine, 60)
    assert not machine.burner
    machine.set_burner(on=True)
    assert machine.burner


@given(st.floats(0, 100), st.floats(0, 100), st.floats(100, 180))
def test_a_wider_valve_never_means_more_pressure(one: float, other: float, at: float) -> None:
    low, high = sorted((one, other))
    now = Kettle(at)
    after = [
        boiler.step(replace(now, valve=v, wanted_valve=v), PLATE, 140, 1.0) for v in (low, high)
    ]
    assert after[1].pressure <= after[0].pressure


def test_the_valve_follows_its_setpoint_with_a_lag() -> None:
    machine = Boiler(BoilerOptions(valve=0, valveTime=1, users={}))
    machine.write("valve-setpoint", 100)
    pass_time(machine, 1)
    assert 60 < machine.valve < 66
    with pytest.raises(InvalidInput, match="allowed is 0 to 100"):
        machine.write("valve-setpoint", 100.5)
    with pytest.raises(InvalidInput, match=r"temperature cannot be written; allowed is enabled"):
        machine.write("temperature", 20)


@given(
    speed=st.floats(0, 100), setpoint=st.floats(0, 100), dt=st.floats(0.001, 5), run=st.booleans()
)
def test_a_fan_nears_its_setpoint_and_never_passes_it(
    speed: float, setpoint: float, dt: float, *, run: bool
) -> None:
    target = setpoint if run else 0.0
    after = fan.step(Wheel(run, setpoint, speed), FanOptions(), dt)
    assert min(speed, target) - 1e-9 <= after.speed <= max(speed, target) + 1e-9


def test_a_jammed_fan_does_not_turn_though_it_is_told_to_run() -> None:
    machine = Fan(FanOptions(running=True))
    machine.faults.add(FaultKind.JAM)
    pass_time(machine, 1)
    assert machine.values["run"] is True
    assert not machine.running


def test_a_leak_sensor_is_wet_while_it_leaks() -> None:
    sensor = LeakSensor()
    assert sensor.values["wet"] is False
    sensor.faults.add(FaultKind.LEAK)
    sensor.step(TICK)
    assert sensor.values["wet"] is True


def point(kind: ValueType, name: str = "p", **address: object) -> Point:
    spec = PropertySpec(name, kind, Access.READ_WRITE)
    connection = MqttConnection.model_validate({"url": "mqtt://h", "maxAge": "5s"})
    model = MqttAddress.model_validate({"topic": "t", **address})
    return Point(PropertyRef("d", name), spec, bind_address(spec, connection, model), 10**9)


ADDRESSES = [
    {"pointer": "/a/b"},
    {"path": "$.a[2].b"},
    {},
    {"format": "raw"},
    {"format": "csv", "column": 3, "separator": ";"},
    {"format": "hex", "encoding": "int32", "order": "CDAB", "byteOffset": 3},
    {"format": "binary", "encoding": "int64", "order": "BADC"},
]


@pytest.mark.parametrize("address", ADDRESSES, ids=str)
@given(value=st.integers(-(2**31), 2**31 - 1))
def test_what_a_device_publishes_is_what_the_driver_reads(
    address: dict[str, object], value: int
) -> None:
    where = point(ValueType.INT, **address)
    reader = bound(where).reader
    assert reader is not None
    assert reader.codec.decode(payload_of([where], {"p": value}, NOW)) == value


@given(st.integers(-(2**70), 2**70))
def test_a_number_that_an_encoding_does_not_hold_is_told_as_the_nearest(value: int) -> None:
    where = point(ValueType.INT, format="hex", encoding="int16")
    raw = bytes.fromhex(payload_of([where], {"p": value}, NOW).decode())
    told = int.from_bytes(raw, "big", signed=True)
    assert told == min(max(value, -(2**15)), 2**15 - 1)


@given(st.binary(max_size=60))
def test_no_bytes_on_a_command_topic_break_a_device(payload: bytes) -> None:
    for command in COMMANDS:
        for kind in ValueType:
            with suppress(InvalidInput):
                parse_order(point(kind, command=command), payload)


def test_a_payload_carries_the_time_where_the_address_says() -> None:
    where = point(ValueType.FLOAT, pointer="/v", timestamp={"pointer": "/at/ts", "unit": "ms"})
    payload = payload_of([where], {"p": 1.5}, NOW)
    assert payload == b'{"v":1.5,"at":{"ts":1795000000123}}'
    reader = bound(where).reader
    assert reader is not None
    assert reader.stamp is not None
    assert reader.stamp(reader.codec.parse(payload)) == NOW


COMMANDS = [
    {"topic": "c"},
    {"topic": "c", "payload": "raw"},
    {"topic": "c", "payload": '[{"set": {value}, "n": {id}}]'},
    {"topic": "c", "payload": "SET {value} #{id} UNTIL {expires}"},
]


@pytest.mark.parametrize("command", COMMANDS, ids=str)
@given(value=st.integers(-(2**31), 2**31 - 1))
def test_what_the_driver_sends_is_what_a_device_understands(
    command: dict[str, object], value: int
) -> None:
    where = point(ValueType.INT, command=command, scale=2.0)
    model = bound(where).model
    sent = command_of(where.spec, model, value * 2, command_id="k1", expires=99)
    order = parse_order(where, sent)
    assert order.value == value * 2
    assert order.id in {"k1", ""}


def test_an_order_by_label_or_table_of_values_is_understood() -> None:
    labelled = point(ValueType.BOOL, labels={"ON": True, "OFF": False}, command={"topic": "c"})
    assert parse_order(labelled, b'{"id": "1", "value": "OFF", "expires": 5}').value is False
    table = {"topic": "c", "payload": "raw", "values": {"true": "start", "false": "stop"}}
    listed = point(ValueType.BOOL, command=table)
    assert parse_order(listed, b"start").value is True
    with pytest.raises(InvalidInput, match="no such command"):
        parse_order(listed, b"jump")


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="+#\0"), min_size=1, max_size=40),
    st.binary(max_size=20_000),
    st.sampled_from([4, 5]),
    st.integers(0, 1),
    st.integers(0, 200),
)
def test_a_message_is_cut_out_of_the_stream_as_it_was_wrapped(
    topic: str, payload: bytes, version: int, qos: int, more: int
) -> None:
    message = Message(topic, payload, qos, True)
    stream = publish(message, version, 7)
    assert cut(stream[: len(stream) - 1])[0] is None
    got, rest = cut(stream + bytes(more))
    assert got is not None
    assert rest == bytes(more)
    assert parse_publish(got, version) == (message, 7 * qos)


def test_bytes_that_are_no_packet_are_malformed() -> None:
    with pytest.raises(Malformed):
        cut(b"\x30\xff\xff\xff\xff\xff")


@pytest.mark.parametrize(
    ("pattern", "topic", "so"),
    [
        ("a/+/c", "a/b/c", True),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/+", "a/b/c", False),
        ("#", "$SYS/x", False),
        ("+", "a", True),
        ("a/b", "a/c", False),
        ("a/b/c", "a/b", False),
    ],
)
def test_a_filter_takes_in_what_the_standard_says(pattern: str, topic: str, *, so: bool) -> None:
    assert matches(pattern, topic) is so
