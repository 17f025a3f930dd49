"""What devices say on their topics, and what becomes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from mosquitto import Mosquitto
from mqtt_rig import Peer, a_point, connection, followed

from twinbridge.core.model import Quality, Reason, ValueType
from twinbridge.errors import NoResponse
from twinbridge.mqtt.session import NOTHING_MORE, Told
from twinbridge.ports import Reading

STATE = "plant/{device}/state"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture
def peer(broker: Mosquitto) -> Iterator[Peer]:
    with Peer(broker.port) as speaking:
        yield speaking


def numbers(readings: list[Reading]) -> list[int]:
    return [r.value for r in readings if type(r.value) is int]


def unique(name: str) -> str:
    """Each test has devices of its own: retained messages stay on the broker."""
    return f"{name}-{time.monotonic_ns()}"


def test_one_message_gives_all_properties_of_its_topic_in_one_answer(
    broker: Mosquitto, peer: Peer
) -> None:
    async def body() -> None:
        at, device = connection(broker.port), unique("d")
        points = [
            a_point(at, "temp", device=device, topic=STATE, pointer="/t"),
            a_point(at, "count", ValueType.INT, device=device, topic=STATE, path="$.a[1]['n n']"),
            a_point(at, "on", ValueType.BOOL, device=device, topic=STATE, pointer="/on"),
        ]
        async with followed(at, *points) as link:
            assert len(link.requests) == 1
            await link.says(f"{device}/temp", "no message on plant/")
            peer.say(f"plant/{device}/state", {"t": 12.5, "a": [0, {"n n": 7}], "on": True})
            await link.shows(f"{device}/temp", 12.5)
            await link.shows(f"{device}/count", 7)
            await link.shows(f"{device}/on", True)

    asyncio.run(body())


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"", "empty"),
        (b"\xff\xfe", "no JSON"),
        (b"{", "no JSON"),
        (b"NaN", "no JSON"),
        (b"[1]", "nothing at /t in a list of 1"),
        (b'{"u": 1}', "nothing at /t in an object of u"),
        (b'{"t": "12.5"}', "'12.5' is no number"),
        (b'{"t": true}', "true is no number"),
        (b'{"t": null}', "null is no number"),
        (b'{"t": "' + b"x" * 300_000 + b'"}', "more than 262144"),
    ],
)
def test_a_payload_of_wrong_shape_is_bad_in_words_and_the_next_good_one_recovers(
    broker: Mosquitto, peer: Peer, payload: bytes, words: str
) -> None:
    async def body() -> None:
        at, device = connection(broker.port), unique("d")
        name = f"{device}/temp"
        async with followed(at, a_point(at, device=device, topic=STATE, pointer="/t")) as link:
            await link.says(name, "no message")
            peer.say(f"plant/{device}/state", payload)
            reading = await link.says(name, words)
            assert reading.reason is Reason.DEVICE_FAULT
            peer.say(f"plant/{device}/state", {"t": 3})
            await link.shows(name, 3)

    asyncio.run(body())


def test_a_bad_property_is_in_every_answer_until_it_is_good_again(
    broker: Mosquitto, peer: Peer
) -> None:
    async def body() -> None:
        at, device = connection(broker.port), unique("d")
        points = [
            a_point(at, name, device=device, topic=STATE, pointer=f"/{name}") for name in "ab"
        ]
        async with followed(at, *points) as link:
            await link.says(f"{device}/a", "no message")
            peer.say(f"plant/{device}/state", {"a": 1, "b": "x"})
            await link.says(f"{device}/b", "is no number")
            told = len(link.every[f"{device}/b"])
            await link.until(lambda: len(link.every[f"{device}/b"]) >= told + 3)
            assert all(r.quality is Quality.BAD for r in link.every[f"{device}/b"])

    asyncio.run(body())


def test_an_optional_property_keeps_its_value_where_a_message_leaves_it_out(
    broker: Mosquitto, peer: Peer
) -> None:
    async def body() -> None:
        at, device = connection(broker.port), unique("d")
        points = [
            a_point(at, "a", device=device, topic=STATE, pointer="/a", optional=True),
            a_point(at, "b", device=device, topic=STATE, pointer="/b"),
        ]
        async with followed(at, *points) as link:
            await link.says(f"{device}/a", "no message")
            peer.say(f"plant/{device}/state", {"a": 1, "b": 2})
            await link.shows(f"{device}/b", 2)
            peer.say(f"plant/{device}/state", {"b": 3})
            await link.shows(f"{device}/b", 3)
            await link.shows(f"{device}/a", 1)

    asyncio.run(body())


def test_an_unchanged_value_is_confirmed_while_nothing_comes(broker: Mosquitto, peer: Peer) -> None:
    async def body() -> None:
        at, device = connection(broker.port), unique("d")
        async with followed(at, a_point(at, device=device, topic=STATE, pointer="/t")) as link:
            peer.say(f"plant/{device}/state", {"t": 1}, retain=False)
            await link.says(f"{device}/temp", "no message")
            peer.say(f"plant/{device}/state", {"t": 2})
            await link.shows(f"{device}/temp", 2)
            answers, told = link.answers, len(link.every[f"{device}/temp"])
            await link.until(lambda: link.answers >= answers + 3)
            assert len(link.every[f"{device}/temp"]) == told

    asyncio.run(body())


def test_a_value_older_than_its_max_age_is_stale_until_the_next_message(
    broker: Mosquitto, peer: Peer
) -> None:
    async def body() -> None:
        at, device = connection(broker.port, maxAge="400ms"), unique("d")
        async with followed(at, a_point(at, device=device, topic=STATE, pointer="/t")) as link:
            await link.says(f"{device}/temp", "no message")
            peer.say(f"plant/{device}/state", {"t": 1})
            await link.shows(f"{device}/temp", 1)
            stale = await link.says(f"{device}/temp", "longer than maxAge, 400ms")
            assert stale.reason is Reason.STALE
            peer.say(f"plant/{device}/state", {"t": 1})
            await link.shows(f"{device}/temp", 1)

    asyncio.run(body())


def test_a_retained_value_of_last_year_is_stale_and_says_of_when_it_is(
    broker: Mosquitto, peer: Peer
) -> None:
    async def body() -> None:
        at, device = connection(broker.port), unique("d")
        topic = f"plant/{device}/state"
        old = int((time.time() - 365 * 86_400) * 1000)
        peer.say(topic, {"t": 1, "ts": old}, retain=True)
        point = a_point(at, device=device, topic=STATE, pointer="/t", timestamp={"pointer": "/ts"})
        async with followed(at, point) as link:
            stale = await link.says(f"{device}/temp", "older than maxAge, 5m")
            assert stale.reason is Reason.STALE
            now = int(time.time() * 1000)
            peer.say(topic, {"t": 2, "ts": now})
            reading = await link.shows(f"{device}/temp", 2)
            assert reading.source_time == now * 1_000_000

    asyncio.run(body())


def test_a_retained_value_without_a_time_is_uncertain_until_a_live_one_comes(
    broker: Mosquitto, peer: Peer
) -> None:
    async def body() -> None:
        at, device = connection(broker.port), unique("d")
        peer.say(f"plant/{device}/state", {"t": 1}, retain=True)
        async with followed(at, a_point(at, device=device, topic=STATE, pointer="/t")) as link:
            reading = await link.says(f"{device}/temp", "retained on", Quality.UNCERTAIN)
            assert (reading.value, reading.reason) == (1.0, Reason.STALE)
            peer.say(f"plant/{device}/state", {"t": 1})
            await link.shows(f"{device}/temp", 1)

    asyncio.run(body())


def test_a_retained_message_told_again_never_overwrites_a_live_one(
    broker: Mosquitto, peer: Peer
) -> None:
    async def body() -> None:
        at, device = connection(broker.port), unique("d")
        topic = f"plant/{device}/state"
        peer.say(topic, {"t": 1}, retain=True)
        point = a_point(at, device=device, topic=STATE, pointer="/t")
        async with followed(at, point) as link:
            await link.says(f"{device}/temp", "retained on", Quality.UNCERTAIN)
            peer.say(topic, {"t": 2})
            await link.shows(f"{device}/temp", 2)
            link.link.session.subscribe([(topic, 1)])  # the broker repeats what it keeps
            peer.say(topic, {"t": 3})
            await link.shows(f"{device}/temp", 3)
            assert [r.value for r in link.every[f"{device}/temp"]][-2:] == [2, 3]

    asyncio.run(body())


def test_what_comes_late_never_overwrites_what_is_newer(broker: Mosquitto, peer: Peer) -> None:
    async def body() -> None:
        at, device = connection(broker.port), unique("d")
        topic, now = f"plant/{device}/state", int(time.time())
        point = a_point(
            at, device=device, topic=STATE, pointer="/t", timestamp={"pointer": "/ts", "unit": "s"}
        )
        async with followed(at, point) as link:
            await link.says(f"{device}/temp", "no message")
            peer.say(topic, {"t": 2, "ts": now})
            peer.say(topic, {"t": 1, "ts": now - 5})
            peer.say(topic, {"t": 3, "ts": now + 1})
            await link.shows(f"{device}/temp", 3)
            assert 1.0 not in [r.value for r in link.every[f"{device}/temp"]]

    asyncio.run(body())


def test_a_device_with_availability_is_lost_by_its_will_and_back_when_it_says_so(
    broker: Mosquitto, peer: Peer
) -> None:
    async def body() -> None:
        device = unique("d")
        at = connection(broker.port, maxAge="5m", availability={"topic": "plant/{device}/status"})
        status, state = f"plant/{device}/status", f"plant/{device}/state"
        peer.say(state, {"t": 4}, retain=True)
        machine = Peer(broker.port, will=(status, "offline"))
        async with followed(at, a_point(at, device=device, topic=STATE, pointer="/t")) as link:
            await link.loses(device, f"has not said on {status} that it is online")
            with machine:
                machine.say(status, "online", retain=True)
                await link.shows(f"{device}/temp", 4)
                machine.die()
                await link.loses(device, "said offline")
                with pytest.raises(NoResponse, match="said offline"):
                    await link.link.read(link.requests[0])
                link.now.clear()
                peer.say(status, "online", retain=True)
                await link.shows(f"{device}/temp", 4)
                peer.say(status, "asleep", retain=True)
                await link.loses(device, "'asleep'")

    asyncio.run(body())


def test_a_read_gives_what_the_device_last_said_and_never_waits(
    broker: Mosquitto, peer: Peer
) -> None:
    async def body() -> None:
        at, device = connection(broker.port), unique("d")
        async with followed(at, a_point(at, device=device, topic=STATE, pointer="/t")) as link:
            await link.says(f"{device}/temp", "no message")
            (bad,) = (await link.link.read(link.requests[0])).readings
            assert bad.quality is Quality.BAD
            peer.say(f"plant/{device}/state", {"t": 5})
            await link.shows(f"{device}/temp", 5)
            (good,) = (await link.link.read(link.requests[0])).readings
            assert good.value == 5
            assert not (await link.link.read(link.requests[0])).readings

    asyncio.run(body())


def test_planned_anew_a_property_is_told_again_from_the_last_message(
    broker: Mosquitto, peer: Peer
) -> None:
    async def body() -> None:
        at, device = connection(broker.port), unique("d")
        async with followed(at, a_point(at, device=device, topic=STATE, pointer="/t")) as link:
            await link.says(f"{device}/temp", "no message")
            peer.say(f"plant/{device}/state", {"t": 6})
            await link.shows(f"{device}/temp", 6)
            link.now.clear()
            link.follow()
            await link.shows(f"{device}/temp", 6)
            link.link.follow([])
            answers = link.answers
            peer.say(f"plant/{device}/state", {"t": 7})
            await asyncio.sleep(0.2)  # long enough for what must not come
            assert link.answers == answers

    asyncio.run(body())


@pytest.mark.parametrize(
    ("address", "kind", "payload", "value"),
    [
        ({"format": "raw"}, ValueType.FLOAT, b" 12.5\n", 12.5),
        ({"format": "raw"}, ValueType.STRING, "Größe".encode(), "Größe"),
        ({"format": "raw", "labels": {"ON": True, "OFF": False}}, ValueType.BOOL, b"ON", True),
        ({"format": "csv", "column": 1, "separator": ";"}, ValueType.INT, b"a;b\n1;-7\n", -7),
        ({"format": "hex", "encoding": "int16", "scale": 0.1}, ValueType.FLOAT, b"FF 9C", -10.0),
        ({"format": "binary", "encoding": "float32"}, ValueType.FLOAT, b"\x41\x48\0\0", 12.5),
    ],
)
def test_every_format_gives_its_value(
    broker: Mosquitto,
    peer: Peer,
    address: dict[str, Any],
    kind: ValueType,
    payload: bytes,
    value: object,
) -> None:
    async def body() -> None:
        at, device = connection(broker.port), unique("d")
        point = a_point(at, "p", kind, device=device, topic=STATE, **address)
        async with followed(at, point) as link:
            await link.says(f"{device}/p", "no message")
            peer.say(f"plant/{device}/state", payload)
            await link.shows(f"{device}/p", value)  # type: ignore[arg-type]  # as listed above

    asyncio.run(body())


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_messages_of_qos_1_are_acknowledged_and_come_in_order_among_others(
    broker: Mosquitto, peer: Peer, version: str
) -> None:
    async def body() -> None:
        at, device = connection(broker.port, version=version), unique("d")
        point = a_point(at, "n", ValueType.INT, device=device, topic=STATE, pointer="/n", qos=1)
        async with followed(at, point) as link:
            await link.says(f"{device}/n", "no message")
            for number in range(60):
                fill = "x" * (70_000 if number in (30, 41) else number)
                peer.say(f"plant/{device}/state", {"n": number, "fill": fill}, qos=number % 2)
            await link.until(lambda: len(numbers(link.every[f"{device}/n"])) == 60)
            told = numbers(link.every[f"{device}/n"])
            for qos in (0, 1):  # a broker may let one overtake the other
                assert [n for n in told if n % 2 == qos] == list(range(qos, 60, 2))

    asyncio.run(body())


def test_a_message_that_expired_while_it_waited_is_dropped(broker: Mosquitto, peer: Peer) -> None:
    async def body() -> None:
        at, device = connection(broker.port, version="5"), unique("d")
        point = a_point(at, device=device, topic=STATE, pointer="/t")
        async with followed(at, point) as link:
            await link.says(f"{device}/temp", "no message")
            link.link.received(f"plant/{device}/state", b'{"t": 1}', Told(-1), retained=False)
            peer.say(f"plant/{device}/state", {"t": 2})
            await link.shows(f"{device}/temp", 2)
            assert 1.0 not in [r.value for r in link.every[f"{device}/temp"]]

    asyncio.run(body())


def test_a_storm_keeps_the_latest_of_each_topic_and_loses_nothing_else(
    broker: Mosquitto, peer: Peer
) -> None:
    async def body() -> None:
        at, device = connection(broker.port, queueLimit=100), unique("d")
        points = [
            a_point(at, "n", ValueType.INT, device=device, topic=STATE, pointer="/n"),
            a_point(at, "m", ValueType.INT, device=device, topic="plant/{device}/other"),
        ]
        async with followed(at, *points) as link:
            await link.says(f"{device}/m", "no message")
            for number in range(5000):
                said = b'{"n": %d}' % number
                link.link.received(f"plant/{device}/state", said, NOTHING_MORE, retained=False)
                if number == 0:
                    peer.say(f"plant/{device}/other", 7)
            await link.shows(f"{device}/n", 4999)
            await link.shows(f"{device}/m", 7)
            assert link.link._waiting.dropped > 4000

    asyncio.run(body())


def test_a_thousand_devices_share_one_connection(broker: Mosquitto, peer: Peer) -> None:
    async def body() -> None:
        at, stem = connection(broker.port, keepalive="60s"), unique("m")
        devices = [f"{stem}-{n}" for n in range(1000)]
        points = [a_point(at, device=d, topic=STATE, pointer="/t") for d in devices]
        async with followed(at, *points) as link:
            await link.until(lambda: len(link.now) == len(devices))
            for number, device in enumerate(devices):
                peer.say(f"plant/{device}/state", {"t": number}, qos=0)
            await link.until(
                lambda: [link.now[f"{d}/temp"].value for d in devices] == list(range(1000))
            )

    asyncio.run(body())
