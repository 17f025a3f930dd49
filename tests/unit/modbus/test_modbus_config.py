from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from modbus_points import make_point
from pydantic import ValidationError

from twinbridge_modbus import driver
from twinbridge_modbus.config import ModbusAddress, ModbusConnection


def test_importing_the_driver_loads_no_client_library() -> None:
    code = "import sys, twinbridge_modbus; sys.exit('pymodbus' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert finished.returncode == 0


@pytest.mark.parametrize(
    ("reference", "place"),
    [
        ("40001", ("holding", 0)),
        ("400001", ("holding", 0)),
        ("465536", ("holding", 65535)),
        ("30010", ("input", 9)),
        ("10001", ("discrete", 0)),
        ("00001", ("coil", 0)),
    ],
)
def test_a_reference_is_one_based(reference: str, place: tuple[str, int]) -> None:
    address = ModbusAddress.model_validate({"reference": reference, "encoding": "int16"})
    assert address.place == place


@pytest.mark.parametrize(
    "address",
    [
        {"reference": "40000"},
        {"reference": "465537"},
        {"reference": "20001"},
        {"reference": "40001", "table": "holding", "address": 0},
        {"reference": "40001", "table": "input"},
        {"address": 1},
        {"table": "holding"},
        {"table": "holding", "address": 65536},
        {"table": "holding", "address": 0, "encodng": "int16"},
        {"table": "holding", "address": "0"},
        {"table": "holding", "address": 0, "order": "ABCD", "wordOrder": "big"},
        {"table": "holding", "address": 0, "field": {"from": 3, "to": 2}},
    ],
)
def test_a_wrong_address_is_refused(address: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ModbusAddress.model_validate(address)


@pytest.mark.parametrize(
    "connection",
    [
        {},
        {"host": "plc", "timeout": "0s"},
        {"host": "plc", "timeout": "soon"},
        {"host": "plc", "timeout": 500},
        {"host": "plc", "unit": 256},
        {"host": "plc", "transport": "serial"},
        {"host": "plc", "transport": "serial", "serial": {"device": "/dev/ttyS0"}},
        {"transport": "serial", "serial": {"device": "/dev/ttyS0"}, "maxConnections": 2},
        {"host": "plc", "transport": "tls"},
        {"host": "plc", "transport": "tls", "tls": {"ca": "ca.pem", "cert": "c.pem"}},
        {"host": "plc", "tls": {"ca": "ca.pem"}},
    ],
)
def test_a_wrong_connection_is_refused(connection: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ModbusConnection.model_validate(connection)


def test_units_of_one_gateway_share_its_link_and_may_be_dealt_out() -> None:
    def endpoint(**fields: Any) -> str:
        return driver.endpoint(ModbusConnection.model_validate({"host": "gw", **fields}))

    assert endpoint(unit=1) == endpoint(unit=9) == "modbus-tcp://gw:502"
    dealt = {endpoint(unit=n, maxConnections=2) for n in range(1, 9)}
    assert dealt == {"modbus-tcp://gw:502#0", "modbus-tcp://gw:502#1"}
    assert endpoint(transport="tls", tls={"ca": "ca.pem"}) == "modbus-tls://gw:802"


def overlap(one: dict[str, Any], other: dict[str, Any]) -> str | None:
    first = make_point("a", one.pop("kind", "int"), table="holding", **one)
    second = make_point("b", other.pop("kind", "int"), table="holding", **other)
    return driver.overlap(first.address, second.address)


def test_registers_read_in_two_ways_are_said() -> None:
    long = {"address": 0, "encoding": "int32"}
    assert overlap({**long}, {"address": 1, "encoding": "int16"})
    assert overlap({**long}, {**long, "order": "CDAB"})
    assert overlap({"address": 4, "encoding": "int16"}, {"address": 4, "encoding": "bcd16"})


def test_bits_and_their_register_may_be_read_together() -> None:
    word = {"address": 4, "encoding": "uint16"}
    assert overlap({**word}, {"address": 4, "bit": 3, "kind": "bool"}) is None
    assert overlap({**word}, {**word}) is None
    assert overlap({**word}, {"address": 5, "encoding": "int32"}) is None


def test_an_atomic_group_wider_than_a_request_is_said() -> None:
    low = {"address": 0, "encoding": "int16", "atomicGroup": "counters"}
    said = overlap(low, {"address": 200, "encoding": "int16", "atomicGroup": "counters"})
    assert said is not None
    assert "201" in said
