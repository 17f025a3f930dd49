"""Commands: what goes out, who acknowledges, and what a refusal or a silence becomes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from mosquitto import Mosquitto
from mqtt_rig import Peer, a_point, connection, followed
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from twinbridge.core.model import Access, ValueType
from twinbridge.errors import NoResponse, WriteRejected

STATE, SET, ANSWER = "plant/{device}/state", "plant/{device}/set", "plant/{device}/answer"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    acl = ["topic readwrite plant/#", "topic read forbidden/#"]
    with Mosquitto(tmp_path_factory.mktemp("broker"), acl=acl) as running:
        yield running


def a_command(at: Any, kind: ValueType = ValueType.BOOL, *, topic: str = SET, **more: Any) -> Any:
    address = {k: more.pop(k) for k in ("scale", "labels", "format") if k in more}
    return a_point(
        at,
        "run",
        kind,
        access=Access.READ_WRITE,
        topic=STATE,
        command={"topic": topic, **more},
        **address,
    )


def test_a_command_has_id_value_and_expiry_and_is_not_retained(broker: Mosquitto) -> None:
    async def body() -> None:
        at = connection(broker.port)
        point = a_command(at, expiry="3s")
        with Peer(broker.port) as machine:
            machine.listen("plant/d/set")
            async with followed(at, point) as link:
                await link.link.write(point, True)
                await link.link.write(point, False)
                await link.until(lambda: len(machine.heard) == 2)
        first, second = (orjson.loads(m.payload) for m in machine.heard)
        assert (first["value"], second["value"]) == (True, False)
        assert first["id"] != second["id"]
        assert 0 < first["expires"] - time.time() * 1000 <= 3000
        assert not machine.heard[0].retain

    asyncio.run(body())


def test_a_written_value_is_proven_by_the_devices_own_report(broker: Mosquitto) -> None:
    async def body() -> None:
        at = connection(broker.port)
        point = a_command(at, payload="raw", values={"true": "ON", "false": "OFF"}, format="raw",
                          labels={"ON": True, "OFF": False})  # fmt: skip
        with Peer(broker.port) as machine:
            machine.hear = lambda message: (
                machine.client.publish(  # type: ignore[method-assign]  # a machine that obeys
                    "plant/d/state", message.payload
                )
                and None
            )
            machine.listen("plant/d/set")
            async with followed(at, point) as link:
                await link.until(lambda: link.answers, "the subscription")
                await link.link.write(point, True)
                await link.shows("d/run", True)
                (reading,) = (await link.link.read(link.requests[0])).readings
                assert reading.value is True

    asyncio.run(body())


def test_mqtt_5_tells_when_nobody_listens(broker: Mosquitto) -> None:
    async def body() -> None:
        at = connection(broker.port, version="5")
        point = a_command(at)
        async with followed(at, point) as link:
            with pytest.raises(NoResponse, match="does not listen on plant/d/set"):
                await link.link.write(point, True)

    asyncio.run(body())


def test_mqtt_5_tells_what_the_broker_does_not_allow(broker: Mosquitto) -> None:
    async def body() -> None:
        at = connection(broker.port, version="5")
        point = a_command(at, topic="forbidden/set")
        async with followed(at, point) as link:
            with pytest.raises(WriteRejected, match="not authorized"):
                await link.link.write(point, True)

    asyncio.run(body())


def test_mqtt_5_carries_expiry_response_topic_and_correlation(broker: Mosquitto) -> None:
    async def body() -> None:
        at = connection(broker.port, version="5")
        point = a_command(at, response={"topic": ANSWER})

        with Peer(broker.port, v5=True) as machine:

            def answer(message: Any) -> None:
                machine.heard.append(message)
                properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's own
                properties.CorrelationData = message.properties.CorrelationData
                topic = message.properties.ResponseTopic
                machine.client.publish(topic, b'{"status": "ok"}', properties=properties)

            machine.hear = answer  # type: ignore[method-assign]  # a machine that answers
            machine.listen("plant/d/set")
            async with followed(at, point) as link:
                await link.link.write(point, True)
        (message,) = machine.heard
        assert message.properties.MessageExpiryInterval == 10
        assert message.properties.CorrelationData.decode() == orjson.loads(message.payload)["id"]

    asyncio.run(body())


def answering(machine: Peer, reply: Callable[[dict[str, Any]], object]) -> None:
    def answer(message: Any) -> None:
        content = reply(orjson.loads(message.payload))
        machine.client.publish("plant/d/answer", orjson.dumps(content))

    machine.hear = answer  # type: ignore[method-assign]  # a machine that answers


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_a_device_that_refuses_a_command_is_quoted(broker: Mosquitto, version: str) -> None:
    async def body() -> None:
        at = connection(broker.port, version=version)
        point = a_command(at, response={"topic": ANSWER})
        with Peer(broker.port) as machine:
            answering(
                machine,
                lambda asked: {"id": asked["id"], "status": "refused", "message": "door is open"},
            )
            machine.listen("plant/d/set")
            async with followed(at, point) as link:
                with pytest.raises(WriteRejected, match="'refused': door is open"):
                    await link.link.write(point, True)

    asyncio.run(body())


def test_only_the_answer_with_the_commands_id_counts(broker: Mosquitto) -> None:
    async def body() -> None:
        at = connection(broker.port, timeout="500ms")
        point = a_command(at, response={"topic": ANSWER})
        with Peer(broker.port) as machine:
            answering(machine, lambda _: {"id": "another", "status": "ok"})
            machine.listen("plant/d/set")
            async with followed(at, point) as link:
                with pytest.raises(NoResponse, match="did not answer the command"):
                    await link.link.write(point, True)

    asyncio.run(body())


def test_a_device_known_to_be_offline_gets_no_command(broker: Mosquitto) -> None:
    async def body() -> None:
        at = connection(broker.port, availability={"topic": "plant/{device}/status"})
        point = a_command(at)
        with Peer(broker.port) as machine:
            machine.listen("plant/d/set")
            async with followed(at, point) as link:
                await link.loses("d", "has not said")
                machine.say("plant/d/status", "offline")
                await link.loses("d", "said offline")
                with pytest.raises(NoResponse, match="said offline"):
                    await link.link.write(point, True)
                machine.say("plant/d/status", "online")
                await link.until(lambda: "d" not in link.lost)
                await link.link.write(point, True)
                await link.until(lambda: machine.heard)
        assert len(machine.heard) == 1

    asyncio.run(body())


def test_a_value_that_has_no_text_is_rejected_and_nothing_is_sent(broker: Mosquitto) -> None:
    async def body() -> None:
        at = connection(broker.port)
        point = a_command(at, ValueType.STRING, payload="raw", values={"auto": "A"})
        async with followed(at, point) as link:
            with pytest.raises(WriteRejected, match=r"command\.values has nothing for manual"):
                await link.link.write(point, "manual")

    asyncio.run(body())


def test_a_scaled_value_goes_out_as_the_device_counts(broker: Mosquitto) -> None:
    async def body() -> None:
        at = connection(broker.port)
        point = a_command(at, ValueType.FLOAT, scale=0.1)
        with Peer(broker.port) as machine:
            machine.listen("plant/d/set")
            async with followed(at, point) as link:
                await link.link.write(point, 12.3)
                await link.until(lambda: machine.heard)
        assert orjson.loads(machine.heard[0].payload)["value"] == 123

    asyncio.run(body())
