"""Samples, alarms and audit on the topics of a real broker that comes and goes."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from mosquitto import Mosquitto
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from test_engines import emptied, forwarding

from twinbridge.adapters.outbox_sqlite import open_outbox
from twinbridge.adapters.sink_mqtt import open_mqtt_upstream
from twinbridge.adapters.sink_mqtt.sink import KEEPALIVE
from twinbridge.api.broker import Broker
from twinbridge.cli.sinks import MQTT_REWIND_SECONDS
from twinbridge.core.messages import Audit
from twinbridge.core.model import SECOND, Quality, Reason, Sample
from twinbridge.testing.proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from twinbridge.adapters.outbox_sqlite import SqliteOutbox
    from twinbridge.core.model import Value

PREFIX = "up/edge-1"


class Historian:
    """Who takes it upstream: an ordinary client with a session that the broker keeps."""

    def __init__(self, port: int) -> None:
        self.heard: list[tuple[str, dict[str, Any]]] = []
        client = self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id="historian",
            clean_session=False,
            protocol=MQTTProtocolVersion.MQTTv311,
        )
        client.on_message = lambda _c, _u, m: self.heard.append((m.topic, json.loads(m.payload)))
        listening = threading.Event()
        client.on_connect = lambda c, *_: c.subscribe(f"{PREFIX}/#", 1)
        client.on_subscribe = lambda *_: listening.set()
        client.reconnect_delay_set(1, 1)
        client.connect("127.0.0.1", port)
        client.loop_start()
        assert listening.wait(10)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def values(self) -> list[object]:
        """In the order of their first coming: (outbox, seq) tells what came twice."""
        found: dict[tuple[str, int], object] = {}
        for topic, body in list(self.heard):
            if topic.startswith(f"{PREFIX}/samples/"):
                for n, sample in enumerate(body["samples"]):
                    found.setdefault((body["outbox"], body["seq"] + n), sample["value"])
        return list(found.values())


def good(value: Value) -> tuple[str, Sample]:
    return "p", Sample(value, Quality.GOOD, Reason.NONE, time.time_ns(), 1)


async def put(outbox: SqliteOutbox, values: Sequence[Value]) -> None:
    outbox.put_samples("press", [good(value) for value in values])
    await outbox.settle()


async def until(holds: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(40):
            while not holds():  # noqa: ASYNC110 - polls a thread's list
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"never: {what}") from None


@asynccontextmanager
async def upstream(folder: Path, port: int) -> AsyncIterator[SqliteOutbox]:
    async with (
        open_outbox(folder, sinks={"mqtt": MQTT_REWIND_SECONDS}) as outbox,
        open_mqtt_upstream(Broker("127.0.0.1", port), PREFIX, "edge-1") as sink,
        forwarding(outbox, sink),
    ):
        yield outbox


def test_all_kinds_come_with_what_names_them(tmp_path: Path) -> None:
    trip = Audit("trip", "hot:press:17", "rule", {"message": "91 > 85"}, 17 * SECOND, 1)
    login = Audit("token", "boss", "rest", {}, 18 * SECOND, 2)

    async def scenario() -> None:
        with Mosquitto(tmp_path / "broker") as broker:
            historian = Historian(broker.port)
            async with upstream(tmp_path / "outbox", broker.port) as outbox:
                bad = ("q", Sample(float("nan"), Quality.BAD, Reason.STALE, SECOND, 1, "old"))
                outbox.put_samples("press", [good(1.5), bad])
                await outbox.settle()
                await outbox.put_journal([(1, trip), (2, login)])
                await until(lambda: len(historian.heard) >= 3, "three messages")
            historian.close()
            heard = dict(historian.heard)
            samples = heard[f"{PREFIX}/samples/press"]
            assert (samples["node"], samples["device"], samples["live"]) == (
                "edge-1",
                "press",
                True,
            )
            assert [one["value"] for one in samples["samples"]] == [1.5, None]
            assert samples["samples"][1] == {
                "property": "q",
                "value": None,
                "quality": "bad",
                "timestamp": 1000,
                "reason": "stale",
                "message": "old",
            }
            alarm = heard[f"{PREFIX}/alarms/press"]
            assert (alarm["kind"], alarm["number"], alarm["seq"]) == ("trip", 1, 3)
            assert alarm["detail"] == {"message": "91 > 85"}
            assert heard[f"{PREFIX}/audit/boss"]["kind"] == "token"
            assert len({body["outbox"] for body in heard.values()}) == 1

    asyncio.run(scenario())


def test_what_was_recorded_while_the_broker_was_away_comes_in_order(tmp_path: Path) -> None:
    async def scenario() -> None:
        with Mosquitto(tmp_path / "broker", persistence=True) as broker:
            historian = Historian(broker.port)
            async with upstream(tmp_path / "outbox", broker.port) as outbox:
                await put(outbox, range(100))
                await until(lambda: len(historian.values()) == 100, "those of before")
                broker.kill()
                for first in range(100, 1_000, 100):
                    await put(outbox, range(first, first + 100))
                assert outbox.depth >= 900
                broker.start()
                await until(lambda: len(historian.values()) >= 1_000, "those of the outage")
                assert historian.values() == list(range(1_000))
            historian.close()

    asyncio.run(scenario())


def test_nothing_is_sent_to_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        with Mosquitto(tmp_path / "broker") as broker:
            async with upstream(tmp_path / "outbox", broker.port) as outbox:
                await put(outbox, range(5))
                await asyncio.sleep(0.5)
                assert outbox.depth == 5
                historian = Historian(broker.port)
                await until(lambda: len(historian.values()) == 5, "all of it")
            historian.close()

    asyncio.run(scenario())


def test_the_seconds_before_a_break_are_sent_again(tmp_path: Path) -> None:
    """The broker that acknowledged them may have died with them."""

    async def scenario() -> None:
        with Mosquitto(tmp_path / "broker") as broker:
            historian = Historian(broker.port)
            async with (
                FaultProxy("127.0.0.1", broker.port) as way,
                upstream(tmp_path / "outbox", way.port) as outbox,
            ):
                await put(outbox, range(10))
                await emptied(outbox)
                way.cut()
                before = len(historian.heard)
                await put(outbox, range(10, 20))
                await until(lambda: len(historian.heard) >= before + 2, "both again")
                assert historian.values() == list(range(20))
                firsts = [body["seq"] for _, body in historian.heard]
                assert firsts.count(1) >= 2
            historian.close()

    asyncio.run(scenario())


def test_a_broker_that_does_not_let_us_publish_gets_all_once_it_does(tmp_path: Path) -> None:
    closed, open_ = ["topic read #"], ["topic readwrite #"]

    async def scenario() -> None:
        with Mosquitto(tmp_path / "broker", acl=closed) as broker:
            async with upstream(tmp_path / "outbox", broker.port) as outbox:
                await put(outbox, range(5))
                await asyncio.sleep(1)
                assert outbox.depth == 5
                (tmp_path / "broker" / "acl").write_text("\n".join(open_) + "\n")
                broker.stop()
                broker.start()
                historian = Historian(broker.port)
                await until(lambda: len(historian.values()) == 5, "all of it")
            historian.close()

    asyncio.run(scenario())


def test_enough_is_kept_to_be_sent_again() -> None:
    assert MQTT_REWIND_SECONDS * SECOND >= 2 * KEEPALIVE
