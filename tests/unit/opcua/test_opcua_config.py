"""What a Device may say of its OPC UA server, and a property of its node."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from twinbridge.core.model import Access, PropertySpec, ValueType
from twinbridge_opcua import driver
from twinbridge_opcua.config import OpcUaAddress, OpcUaConnection
from twinbridge_opcua.nodes import parse_node

PLAIN = {"url": "opc.tcp://10.0.0.5:4840", "allowInsecure": True}
SECURE = {"url": "opc.tcp://10.0.0.5", "security": {"policy": "Basic256Sha256"}}
USER = {"name": "operator", "passwordFile": "/run/secrets/opcua"}
NODE = {"node": "nsu=http://acme.com/boiler;s=T"}


def connection(**said: Any) -> OpcUaConnection:
    return OpcUaConnection.model_validate(said)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"url": "opc.tcp://10.0.0.5"}, "allowInsecure: true"),
        ({**PLAIN, "url": "http://10.0.0.5"}, "no address such as opc.tcp://10.0.0.5:4840"),
        ({**PLAIN, "url": "opc.tcp://"}, "no address such as"),
        ({**PLAIN, "url": "opc.tcp://plc:99999"}, "no address such as"),
        ({**PLAIN, "url": "opc.tcp://a:b@plc"}, "with its password in a file"),
        ({**PLAIN, "user": USER}, "never sent unprotected"),
        (
            {**PLAIN, "userCertificate": {"certificate": "a.der", "key": "a.pem"}},
            "never sent unprotected",
        ),
        (
            {**SECURE, "user": USER, "userCertificate": {"certificate": "a", "key": "b"}},
            "not both",
        ),
        ({**PLAIN, "security": {"policy": "None"}}, "Basic256Sha256"),
        ({**PLAIN, "security": {"policy": "Basic128Rsa15"}}, "Basic256Sha256"),
    ],
)
def test_a_connection_that_cannot_be_is_refused_with_what_could(
    said: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        connection(**said)


def test_security_signs_and_encrypts_unless_told_otherwise() -> None:
    security = connection(**SECURE).security
    assert security is not None
    assert security.mode == "SignAndEncrypt"


def test_devices_share_a_link_only_with_the_same_server_security_and_user() -> None:
    said = [
        PLAIN,
        SECURE,
        {**SECURE, "security": {"policy": "Basic256Sha256", "mode": "Sign"}},
        {**SECURE, "user": USER},
        {**SECURE, "user": {**USER, "name": "viewer"}},
        {**PLAIN, "url": "opc.tcp://10.0.0.5:4841"},
        {**PLAIN, "url": "opc.tcp://10.0.0.5:4840/other"},
    ]
    endpoints = [driver.endpoint(connection(**each)) for each in said]
    assert len(set(endpoints)) == len(said)
    same = {**PLAIN, "url": "opc.tcp://10.0.0.5", "queueSize": 3}
    assert driver.endpoint(connection(**same)) == endpoints[0] == "opcua://10.0.0.5:4840"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"node": "ns=2;s=T"}, "its number may change"),
        ({"node": "T"}, "no node id such as"),
        ({"node": "i=4294967296"}, "a number of 0 to 4294967295"),
        ({"node": "nsu=u;g=1"}, "takes a GUID"),
        ({"path": "Boiler/T"}, "path and namespace belong together"),
        ({"path": "Boiler//T", "namespace": "u"}, "a name is empty"),
        ({**NODE, "path": "Boiler/T", "namespace": "u"}, "not both"),
        ({}, "give node, path or method"),
        ({**NODE, "deadband": {}}, "exactly one of absolute and percent"),
        ({**NODE, "deadband": {"absolute": 1.0, "percent": 1.0}}, "exactly one"),
        ({**NODE, "scale": 0.0}, "must not be 0"),
        ({**NODE, "method": {"object": "ns=3;i=1", "method": "i=2"}}, "its number may change"),
    ],
)
def test_an_address_that_cannot_be_is_refused_with_what_could(
    said: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        OpcUaAddress.model_validate(said)


@pytest.mark.parametrize(
    ("kind", "access", "said", "words"),
    [
        (ValueType.BOOL, Access.READ_ONLY, {"scale": 2.0}, "scale and offset are for numbers"),
        (ValueType.STRING, Access.READ_ONLY, {"deadband": {"absolute": 1.0}}, "deadband is for"),
        (ValueType.INT, Access.READ_ONLY, {"labels": {0: "off"}}, "labels name numbers for a str"),
        (ValueType.STRING, Access.READ_ONLY, {"labels": {0: "a", 1: "a"}}, "two labels are the sa"),
    ],
)
def test_an_address_that_does_not_fit_its_property_is_complained_of(
    kind: ValueType, access: Access, said: dict[str, Any], words: str
) -> None:
    address = OpcUaAddress.model_validate(NODE | said)
    (complaint,) = driver.check(PropertySpec("p", kind, access), address)
    assert words in complaint


def test_a_method_is_only_for_what_is_written() -> None:
    call = {"object": "i=85", "method": "i=1"}
    spec = PropertySpec("p", ValueType.INT)
    said = list(driver.check(spec, OpcUaAddress.model_validate({"method": call})))
    assert any("needs node or path" in complaint for complaint in said)
    assert any("a method is called when" in complaint for complaint in said)


@given(st.integers(0, 2**32 - 1), st.text("abc:/.-", min_size=1))
def test_a_node_is_shown_as_it_is_written(number: int, uri: str) -> None:
    text = f"nsu={uri};i={number}"
    assert str(parse_node(text)) == text


def test_the_driver_is_imported_without_its_library() -> None:
    code = "import sys, twinbridge_opcua; sys.exit('asyncua' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
