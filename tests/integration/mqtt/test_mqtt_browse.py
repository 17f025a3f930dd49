"""Listening to a broker, and the DeviceModel that comes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from mosquitto import Mosquitto, free_port
from mqtt_rig import Peer
from typer.testing import CliRunner

from twinbridge.api.plant import load_plant
from twinbridge.cli.main import app
from twinbridge.errors import InvalidInput, LinkLost, Unreachable
from twinbridge_mqtt import driver
from twinbridge_mqtt.browse import Heard, listen, model_yaml

DEVICE = """
---
apiVersion: devices.twinbridge.io/v1alpha1
kind: Device
metadata: {name: fan-1}
spec:
  modelRef: {name: fan}
  nodeName: edge
  connection:
    mqtt: {url: "mqtt://broker", maxAge: 5m}
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with (
        Mosquitto(tmp_path_factory.mktemp("broker")) as running,
        Peer(running.port) as peer,
    ):
        now = int(time.time() * 1000)
        peer.say("plant/fan-1/state", {"speed": 3, "air": {"t/c": 20.5}, "on": True, "ts": now,
                                       "none": None}, retain=True)  # fmt: skip
        peer.say("plant/fan-1/status", "online", retain=True)
        peer.say("plant/fan-1/switch", "ON", retain=True)
        peer.say("plant/fan-1/line", "1;2.5;-3", retain=True)
        peer.say("plant/fan-1/picture", b"\xff\xd8\xff", retain=True)
        peer.say("plant/fan-2/state", {"speed": 4}, retain=True)
        peer.say("plant/{odd}/fan-1", "1", retain=True)
        yield running


@pytest.fixture(scope="module")
def heard(broker: Mosquitto) -> Heard:
    return asyncio.run(listen(broker.url, 0.5))


def test_topics_are_shown_with_the_shapes_of_their_payloads(heard: Heard) -> None:
    lines = list(heard.describe())
    assert "plant/fan-1/state  1 message, retained" in lines
    assert "    json /air/t~1c  float  e.g. 20.5" in lines
    assert "    csv 2  int  e.g. -3" in lines
    assert "    raw (all of it)  string  e.g. 'ON'" in lines
    assert "    no text, up to 3 bytes" in lines


def test_the_model_of_a_device_is_valid_and_its_name_stands_for_any(
    heard: Heard, tmp_path: Path
) -> None:
    text = model_yaml(heard, "fan", device="fan-1")
    (tmp_path / "fan.yaml").write_text(text + DEVICE)
    plant = load_plant([tmp_path], {"mqtt": driver})
    assert not list(plant.problems)
    given = {p["name"]: p for p in yaml.safe_load(text)["spec"]["properties"]}
    assert given["speed"]["mqtt"] == {
        "topic": "plant/{device}/state",
        "pointer": "/speed",
        "timestamp": {"pointer": "/ts", "unit": "ms"},
    }
    assert given["air_t_c"]["type"] == "float"
    assert given["switch"]["type"] == "bool"
    assert given["switch"]["mqtt"]["labels"] == {"ON": True}
    assert "ts" not in given
    assert "availability: {topic: 'plant/{device}/status'}" in text
    assert "left out: plant/{device}/picture: no text" in text
    assert "fan-2" not in text


def test_without_a_device_every_topic_has_properties_of_its_own(heard: Heard) -> None:
    names = [p["name"] for p in yaml.safe_load(model_yaml(heard, "all"))["spec"]["properties"]]
    assert len(names) == len(set(names))
    assert "speed" in names
    assert "state_speed" in names


def test_live_messages_give_a_rate_and_a_max_age(broker: Mosquitto) -> None:
    async def body() -> Heard:
        with Peer(broker.port) as peer:

            async def speak() -> None:
                while True:
                    peer.say("live/a", 1, qos=0)
                    await asyncio.sleep(0.05)

            async with asyncio.TaskGroup() as tasks:
                speaking = tasks.create_task(speak(), name="speak")
                found = await listen(broker.url, 0.5, topic="live/#")
                speaking.cancel()
            return found

    found = asyncio.run(body())
    assert list(found.topics) == ["live/a"]
    assert found.topics["live/a"].every
    (only,) = yaml.safe_load(model_yaml(found, "m"))["spec"]["properties"]
    assert only["mqtt"] == {"topic": "live/a", "maxAge": "10s"}


def test_a_model_of_nothing_is_refused(heard: Heard) -> None:
    with pytest.raises(InvalidInput, match="a level nobody"):
        model_yaml(heard, "fan", device="nobody")


def test_a_broker_that_is_not_there_is_said_so() -> None:
    with pytest.raises(LinkLost, match="cannot connect"):
        asyncio.run(listen(f"mqtt://127.0.0.1:{free_port()}", 0.1))


def test_the_command_lists_and_writes_a_file(broker: Mosquitto, tmp_path: Path) -> None:
    run = CliRunner().invoke
    listed = run(app, ["browse", "mqtt", broker.url, "--for", "300ms", "--topic", "plant/fan-2/#"])
    assert "plant/fan-2/state" in listed.output
    assert "1 topics in 300ms" in listed.output
    file = tmp_path / "fan.yaml"
    asked = ["--for", "300ms", "--model", "fan", "--device", "fan-1", "-o", str(file)]
    written = run(app, ["browse", "mqtt", broker.url, *asked])
    assert written.exit_code == 0
    assert yaml.safe_load(file.read_text())["metadata"]["name"] == "fan"
    gone = run(app, ["browse", "mqtt", f"mqtt://127.0.0.1:{free_port()}", "--for", "1s"])
    assert isinstance(gone.exception, Unreachable)
    wrong = run(app, ["browse", "mqtt", "http://x", "--for", "1s"])
    assert isinstance(wrong.exception, InvalidInput)
