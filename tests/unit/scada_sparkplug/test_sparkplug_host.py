"""STATE of the primary host application, and topics."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from twinbridge.adapters.scada_sparkplug.host import PrimaryHost
from twinbridge.adapters.scada_sparkplug.topics import Topics, Verb, clean, state
from twinbridge.api.scada import SparkplugB


def said(online: object, timestamp: object) -> bytes:
    return json.dumps({"online": online, "timestamp": timestamp}).encode()


def a_host(*messages: bytes) -> PrimaryHost:
    host = PrimaryHost(awaited=True)
    for message in messages:
        host.hear(message)
    return host


def test_without_a_primary_host_nobody_is_waited_for() -> None:
    host = PrimaryHost(awaited=False)
    host.session_began()
    assert (host.online, host.left) == (True, False)


def test_a_host_is_waited_for_until_it_says_that_it_is_there() -> None:
    assert not a_host().online
    assert not a_host(said(online=False, timestamp=5)).online
    assert a_host(said(online=True, timestamp=5)).online


def test_a_host_that_is_away_from_the_start_has_not_left() -> None:
    assert not a_host(said(online=False, timestamp=5)).left


def test_a_host_that_goes_has_left_also_if_it_is_back_at_once() -> None:
    host = a_host(said(online=True, timestamp=5), said(online=False, timestamp=5))
    assert (host.online, host.left) == (False, True)
    host.hear(said(online=True, timestamp=6))
    assert (host.online, host.left) == (True, True)
    host.session_began()
    assert (host.online, host.left) == (False, False)


def test_a_late_death_of_an_earlier_session_is_no_death() -> None:
    host = a_host(said(online=True, timestamp=9), said(online=False, timestamp=5))
    assert (host.online, host.left) == (True, False)


def test_an_outdated_birth_is_no_birth() -> None:
    host = a_host(said(online=True, timestamp=5), said(online=False, timestamp=9))
    host.hear(said(online=True, timestamp=8))
    assert not host.online
    host.hear(said(online=True, timestamp=9))
    assert host.online


def test_timestamps_count_over_sessions() -> None:
    host = a_host(said(online=True, timestamp=9))
    host.session_began()
    host.hear(said(online=True, timestamp=8))
    assert not host.online
    host.hear(said(online=True, timestamp=9))
    assert host.online


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"ONLINE",
        b"[]",
        b"true",
        b"\xff\xfe",
        b"{}",
        b'{"online": true}',
        b'{"timestamp": 5}',
        said("true", 5),
        said(1, 5),
        said(True, "5"),
        said(True, True),
        said(True, None),
        said(True, -1),
        said(True, 2**63),
        b'{"online": true, "timestamp": NaN}',
        b'{"online": true, "timestamp": Infinity}',
        b'{"online": true, "timestamp": 5}' + b" " * 5000,
        b"[" * 4000,
    ],
)
def test_garbage_is_counted_and_changes_nothing(garbage: bytes) -> None:
    name = "twinbridge_scada_sparkplug_states_ignored_total"
    before = REGISTRY.get_sample_value(name) or 0
    assert not a_host(garbage).online
    there = a_host(said(online=True, timestamp=5), garbage)
    assert (there.online, there.left) == (True, False)
    assert REGISTRY.get_sample_value(name) == before + 2


@given(st.binary(max_size=100))
def test_no_bytes_break_it(content: bytes) -> None:
    a_host(content)


def test_topics_are_those_of_the_namespace() -> None:
    topics = Topics("Group 1", "edge-1")
    assert topics.of_node(Verb.NBIRTH) == "spBv1.0/Group 1/NBIRTH/edge-1"
    assert topics.of_device(Verb.DDATA, "pump-1") == "spBv1.0/Group 1/DDATA/edge-1/pump-1"
    assert state("scada") == "spBv1.0/STATE/scada"


def test_a_command_names_its_device() -> None:
    topics = Topics("g", "n")
    assert topics.commanded("spBv1.0/g/DCMD/n/pump-1") == "pump-1"
    assert topics.commanded("spBv1.0/g/DCMD/m/pump-1") is None
    assert topics.commanded("spBv1.0/g/NCMD/n") is None


@given(st.text())
def test_a_cleaned_name_has_nothing_that_topics_reserve(name: str) -> None:
    assert not set(clean(name)) & set("+/#\0")
    assert len(clean(name)) == len(name)


def test_a_group_is_not_named_as_the_place_of_host_applications() -> None:
    with pytest.raises(ValueError, match="STATE is where"):
        SparkplugB(broker="mqtt://127.0.0.1", group="STATE")
