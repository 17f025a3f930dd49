"""What a Device and a property may say, and how what is wrong is told."""

from __future__ import annotations

import sys
from subprocess import run
from typing import Any

import pytest
from pydantic import ValidationError

from twinbridge.api.structural import structural
from twinbridge.core.model import SECOND, Access, Point, PropertyRef, PropertySpec, ValueType
from twinbridge.errors import InvalidDefinition
from twinbridge.mqtt.session import client_id
from twinbridge_mqtt import driver
from twinbridge_mqtt.address import resolve
from twinbridge_mqtt.config import MqttAddress, MqttConnection


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"url": "http://h"}, "write mqtt://host:1883 or mqtts://host:8883"),
        ({"url": "mqtt://h:99999"}, "write mqtt://"),
        ({"url": "mqtt://h:0"}, "write mqtt://"),
        ({"url": "mqtt://u:p@h"}, "passwordFile"),
        ({"url": "mqtt://h/path"}, "more than a host and a port"),
        ({"url": "mqtt://h", "tls": {}}, "tls is for mqtts://"),
        ({"url": "mqtts://h", "tls": {"certificate": "c"}}, "belong together"),
        ({"url": "mqtt://h", "passwordFile": "f"}, "needs a username"),
        ({"url": "mqtt://h", "keepalive": "1500ms"}, "multiple of"),
        ({"url": "mqtt://h", "availability": {"topic": "a/#"}}, "wildcard"),
        ({"url": "mqtt://h", "availability": {"topic": "a/{property}"}}, "only {device}"),
        (
            {"url": "mqtt://h", "availability": {"topic": "a", "online": "x", "offline": "x"}},
            "different",
        ),
    ],
)
def test_a_wrong_connection_is_refused_in_words(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        MqttConnection.model_validate(given)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "give a topic, a command or both"),
        ({"topic": "a/+/b"}, "wildcard"),
        ({"topic": "a/{devise}"}, "only {device} and {property} may stand in braces"),
        ({"topic": "a/{device"}, "may stand in braces"),
        ({"topic": ""}, "1 to 65535 bytes"),
        ({"topic": "t", "pointer": "temp"}, "begins with /"),
        ({"topic": "t", "pointer": "/a~2"}, "~ is written ~0"),
        ({"topic": "t", "path": "$..a"}, "no path of names and indices"),
        ({"topic": "t", "path": "$.a", "pointer": "/a"}, "not both"),
        ({"topic": "t", "timestamp": {}}, "exactly one of pointer, path and column"),
    ],
)
def test_a_wrong_address_is_refused_in_words(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        MqttAddress.model_validate(given)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "access", "given", "words"),
    [
        ("float", "ReadOnly", {"command": {"topic": "s"}}, "needs a topic"),
        ("float", "ReadWrite", {"topic": "t"}, "needs a command"),
        ("float", "ReadOnly", {"topic": "t", "command": {"topic": "s"}}, "takes no command"),
        ("float", "WriteOnly", {"topic": "t", "command": {"topic": "s"}}, "is not read"),
        ("float", "ReadWrite", {"topic": "t", "command": {"topic": "t"}}, "own topic"),
        ("float", "ReadOnly", {"topic": "t", "format": "csv"}, "needs a column"),
        ("float", "ReadOnly", {"topic": "t", "format": "hex"}, "needs an encoding"),
        ("float", "ReadOnly", {"topic": "t", "format": "raw", "pointer": "/a"}, "not raw"),
        ("float", "ReadOnly", {"topic": "t", "column": 1}, "not json"),
        ("float", "ReadOnly", {"topic": "t", "bit": 1}, "not json"),
        ("float", "ReadOnly", {"topic": "t", "scale": 0.0}, "must not be zero"),
        ("bool", "ReadOnly", {"topic": "t", "scale": 2.0}, "not for a bool"),
        ("bool", "ReadOnly", {"topic": "t", "labels": {"ON": 1}}, "1 is no bool"),
        (
            "bool",
            "ReadOnly",
            {"topic": "t", "format": "hex", "encoding": "uint8"},
            "is no bool; map it with labels",
        ),
        (
            "bool",
            "ReadOnly",
            {"topic": "t", "format": "hex", "encoding": "uint8", "bit": 8},
            "has no bit 8",
        ),
        (
            "float",
            "ReadOnly",
            {"topic": "t", "format": "raw", "timestamp": {"pointer": "/t"}},
            "not in raw",
        ),
        (
            "float",
            "ReadOnly",
            {"topic": "t", "timestamp": {"column": 1}},
            "column is for format csv",
        ),
        (
            "string",
            "WriteOnly",
            {"command": {"topic": "s", "payload": '{"v": "{value}"}'}},
            "makes no JSON",
        ),
        ("bool", "WriteOnly", {"command": {"topic": "s", "payload": "go"}}, "no {value}"),
        (
            "bool",
            "WriteOnly",
            {"command": {"topic": "s", "payload": "raw", "response": {"topic": "r"}}},
            "needs {id}",
        ),
    ],
)
def test_what_does_not_go_together_is_told(
    kind: str, access: str, given: dict[str, Any], words: str
) -> None:
    spec = PropertySpec("p", ValueType(kind), Access(access))
    said = " ".join(driver.check(spec, MqttAddress.model_validate(given)))
    assert words in said


def test_a_property_whose_device_could_die_unnoticed_is_refused_with_what_to_add() -> None:
    spec, address = PropertySpec("p", ValueType.FLOAT), MqttAddress(topic="t")
    with pytest.raises(InvalidDefinition, match=r"maxAge.*availability"):
        driver.bind(spec, MqttConnection(url="mqtt://h"), address)
    for more in ({"maxAge": "5m"}, {"availability": {"topic": "s"}}):
        driver.bind(spec, MqttConnection.model_validate({"url": "mqtt://h", **more}), address)
    own = MqttAddress.model_validate({"topic": "t", "maxAge": "1m"})
    driver.bind(spec, MqttConnection(url="mqtt://h"), own)
    command = MqttAddress.model_validate({"command": {"topic": "s"}})
    only = PropertySpec("p", ValueType.FLOAT, Access.WRITE_ONLY)
    driver.bind(only, MqttConnection(url="mqtt://h"), command)


def test_devices_share_a_link_unless_what_makes_the_connection_differs() -> None:
    def endpoint(**more: Any) -> str:
        given = {"url": "mqtt://h", "maxAge": "5m", **more}
        return driver.endpoint(MqttConnection.model_validate(given))

    assert endpoint() == "mqtt://h:1883"
    assert endpoint(availability={"topic": "a"}) == endpoint(device="x") == endpoint()
    assert endpoint(username="u") == "mqtt://h:1883#u"
    assert endpoint(url="mqtts://[::1]") == "mqtts://[::1]:8883"
    assert endpoint(version="5", clientId="c") == "mqtt://h:1883?version=5&clientId=c"


def test_names_of_device_and_property_stand_in_topics() -> None:
    spec = PropertySpec("temp", ValueType.FLOAT)
    address = MqttAddress(topic="plant/{device}/{property}")
    for given, topic in (({}, "plant/pump-1/temp"), ({"device": "PUMP 01"}, "plant/PUMP 01/temp")):
        at = MqttConnection.model_validate({"url": "mqtt://h", "maxAge": "5m", **given})
        point = Point(PropertyRef("pump-1", "temp"), spec, driver.bind(spec, at, address), SECOND)
        assert resolve(address.topic or "", point) == topic


def test_the_models_fit_a_structural_schema() -> None:
    for model in (MqttConnection, MqttAddress):
        schema = structural(model)
        assert all(field.get("description") for field in schema["properties"].values())


def test_a_client_id_is_the_same_for_an_endpoint_and_takes_no_odd_letters() -> None:
    assert client_id("mqtt://a:1883") == client_id("mqtt://a:1883")
    assert client_id("mqtt://a:1883") != client_id("mqtt://b:1883")
    assert len(client_id("mqtt://a:1883")) <= 23
    assert client_id("mqtt://a:1883").isalnum()


def test_importing_the_driver_loads_no_client_library() -> None:
    code = "import sys, twinbridge_mqtt; sys.exit('paho' in sys.modules)"
    assert run([sys.executable, "-c", code], check=False).returncode == 0
