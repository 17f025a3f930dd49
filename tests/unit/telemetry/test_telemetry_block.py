"""What the `telemetry` block takes."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from twinbridge.api.telemetry import Telemetry

URL = "https://metrics.plant:8428/api/v1/write"


def test_an_engine_is_named_by_its_url() -> None:
    block = {"prometheus": {"url": URL, "tokenFile": "/run/token", "labels": {"site": "n"}}}
    prometheus = Telemetry.model_validate(block).prometheus
    assert prometheus is not None
    assert (prometheus.url, prometheus.token_file) == (URL, "/run/token")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"url": "metrics:8428"}, "http"),
        ({"url": "http://me:secret@host/"}, "tokenFile"),
        ({"url": "http://[x"}, "allowed"),
        ({"url": URL, "labels": {"device": "x"}}, "own label"),
        ({"url": URL, "labels": {"a-b": "x"}}, "no label"),
    ],
)
def test_what_is_wrong_is_refused_with_what_is_allowed(wrong: object, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Telemetry.model_validate({"prometheus": wrong})


def test_a_broker_upstream_is_named_as_those_of_scada() -> None:
    block = {"mqtt": {"broker": "mqtts://edge@hub.example:8883?passwordFile=/run/password"}}
    mqtt = Telemetry.model_validate(block).mqtt
    assert mqtt is not None
    assert mqtt.prefix == "twinbridge/upstream/v1/{node}"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"broker": "http://hub"}, "mqtt://"),
        ({"broker": "mqtt://a:b@hub"}, "passwordFile"),
        ({"broker": "mqtt://hub", "prefix": "a/{device}"}, "allowed: {node}"),
        ({"broker": "mqtt://hub", "prefix": "a//b"}, "empty"),
        ({"broker": "mqtt://hub", "prefix": "a/#"}, "pattern"),
    ],
)
def test_a_wrong_broker_upstream_is_refused(wrong: object, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Telemetry.model_validate({"mqtt": wrong})
