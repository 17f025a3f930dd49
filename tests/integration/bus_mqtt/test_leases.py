"""Leases over a real broker: it crashes, holders die, lines are cut, others talk nonsense."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

import orjson
import pytest
from mosquitto import Mosquitto

from twinbridge.adapters.bus_mqtt import lease
from twinbridge.adapters.bus_mqtt.lease import Leases
from twinbridge.adapters.bus_mqtt.topics import Topics
from twinbridge.api.broker import parse_url
from twinbridge.core.lease import MOST_KEYS
from twinbridge.errors import InvalidInput, Unreachable
from twinbridge.mqtt.connection import Connection, Message, connected, stay_connected
from twinbridge.testing.proxy import FaultProxy

TOPICS = Topics("edge-1")
KEY = "tcp://10.0.0.1:502"
WAIT = 20.0


class Owner:
    """A driver as far as leases go. `changes` is what it was told, in order."""

    def __init__(self, name: str, url: str, keys: tuple[str, ...] = (KEY,)) -> None:
        self.changes: list[frozenset[str]] = []
        self.leases = Leases(TOPICS, "modbus", name, self._changed)
        self.leases.want(keys)
        self.connection: Connection | None = None
        self._broker = parse_url(f"{url}?clientId={name}")  # several in one process
        self._name = name

    def _changed(self) -> None:
        self.changes.append(self.leases.held)

    async def run(self) -> NoReturn:
        await stay_connected(self._name, self._serve, longest=0.5)

    async def _serve(self) -> None:
        async with connected(self._broker, self._heard) as connection:
            self.connection = connection
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(connection.until_lost(), name="until lost")
                tasks.create_task(serve(self.leases, connection), name="leases")

    def _heard(self, message: Message) -> None:
        self.leases.heard(message)

    @property
    def sure(self) -> bool:
        return KEY in self.leases.held and not self.leases.doubt

    async def release(self) -> None:
        assert self.connection is not None
        await self.leases.release(self.connection)


async def serve(leases: Leases, connection: Connection) -> None:
    await leases.serve(connection)


@asynccontextmanager
async def running(*owners: Owner) -> AsyncIterator[list[asyncio.Task[None]]]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_run(owner), name="owner") for owner in owners]
        try:
            yield tasks
        finally:
            for task in tasks:
                task.cancel()


async def _run(owner: Owner) -> None:
    await owner.run()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT):
        while not holds():  # noqa: ASYNC110 - the broker rings no bell here
            await asyncio.sleep(0.01)


def with_broker(folder: Path, play: Callable[[Mosquitto], Coroutine[None, None, None]]) -> None:
    with Mosquitto(folder) as broker:
        asyncio.run(play(broker))


def test_a_standby_takes_over_from_one_who_dies_and_at_once_from_one_who_leaves(
    tmp_path: Path,
) -> None:
    async def play(broker: Mosquitto) -> None:
        a, b, c = (Owner(name, broker.url) for name in "abc")
        async with running(a) as (task_a,):
            await until(lambda: a.sure)
            async with running(b) as (task_b,):
                await until(lambda: a.leases.rivals == {KEY})
                assert b.leases.waiting == {KEY}
                task_a.cancel()  # without a word, as far as leases go
                await until(lambda: b.sure)
                async with running(c):
                    await until(lambda: b.leases.rivals == {KEY})
                    await b.release()
                    task_b.cancel()
                    await until(lambda: c.sure)

    with_broker(tmp_path, play)


def test_a_broker_that_crashes_and_forgets_changes_no_holder(tmp_path: Path) -> None:
    async def play(broker: Mosquitto) -> None:
        a = Owner("a", broker.url)
        async with running(a):
            await until(lambda: a.sure)
            b = Owner("b", broker.url)
            async with running(b):
                await until(lambda: a.leases.rivals == {KEY})
                await asyncio.to_thread(broker.kill)
                await until(lambda: a.leases.doubt)
                assert a.leases.rivals == {KEY}
                await asyncio.to_thread(broker.start)
                await until(lambda: a.sure and a.leases.rivals == {KEY})
                assert b.changes == []

    with_broker(tmp_path, play)


def test_who_comes_back_from_a_cut_line_gives_way_to_who_took_over(tmp_path: Path) -> None:
    async def play(broker: Mosquitto) -> None:
        async with FaultProxy("127.0.0.1", broker.port) as line:
            a = Owner("a", f"mqtt://127.0.0.1:{line.port}")
            async with running(a):
                await until(lambda: a.sure)
                b = Owner("b", broker.url)
                async with running(b):
                    await until(lambda: a.leases.rivals == {KEY})
                    line.faults.half_open = True
                    await until(lambda: b.sure)
                    assert a.leases.held == {KEY}
                    assert a.leases.doubt
                    line.faults.half_open = False
                    line.cut()
                    await until(lambda: not a.leases.held)
                    assert b.sure
                    assert a.changes[-1] == frozenset()

    with_broker(tmp_path, play)


def test_nonsense_on_the_lease_topics_is_counted_and_changes_nothing(tmp_path: Path) -> None:
    async def play(broker: Mosquitto) -> None:
        a, before = Owner("a", broker.url), lease.REFUSED._value.get()
        own, other = TOPICS.lease("modbus", "a"), TOPICS.lease("modbus", "x")
        good = {"boot": "b", "n": 1, "claims": [], "holds": [KEY]}
        nonsense: list[tuple[str, bytes]] = [
            (other, b"\xff\x00"),
            (other, b"[" * 100_000),
            (other, orjson.dumps(good | {"n": "1"})),
            (other, orjson.dumps(good | {"holds": [1]})),
            (other, orjson.dumps(good | {"holds": ["k"] * (MOST_KEYS + 1)})),
            (other, b" " * (lease.LARGEST + 1)),
            (own, b""),
            (own, b"mine"),
        ]
        async with running(a), connected(parse_url(broker.url), lambda _: None) as stranger:
            await until(lambda: a.sure)
            for topic, payload in nonsense:
                await stranger.publish(topic, payload, retain=True)
            await until(lambda: lease.REFUSED._value.get() >= before + len(nonsense))
            assert a.sure
            assert a.changes == [{KEY}]

    with_broker(tmp_path, play)


def test_a_driver_holds_a_thousand_endpoints_and_more_than_are_allowed_are_refused(
    tmp_path: Path,
) -> None:
    keys = tuple(f"tcp://10.0.{n // 250}.{n % 250}:502" for n in range(1000))

    async def play(broker: Mosquitto) -> None:
        a = Owner("a", broker.url, keys)
        async with running(a):
            await until(lambda: a.leases.held == set(keys))
            with pytest.raises(InvalidInput, match="give it a share"):
                a.leases.want(str(n) for n in range(MOST_KEYS + 1))
            assert len(a.leases.held) == 1000

    with_broker(tmp_path, play)


def test_a_key_let_go_goes_to_the_next_once_its_link_has_stopped(tmp_path: Path) -> None:
    async def play(broker: Mosquitto) -> None:
        a = Owner("a", broker.url)
        async with running(a):
            await until(lambda: a.sure)
            b = Owner("b", broker.url)
            async with running(b):
                await until(lambda: a.leases.rivals == {KEY})
                a.leases.want(())
                assert not a.leases.held
                a.leases.stopped()
                await until(lambda: b.sure)

    with_broker(tmp_path, play)


def test_who_may_not_write_its_lease_says_so_and_serves_nothing(tmp_path: Path) -> None:
    async def play(broker: Mosquitto) -> None:
        a = Owner("a", broker.url)
        async with connected(parse_url(broker.url), lambda _: None) as connection:
            with pytest.raises(Unreachable, match="lease"):
                await a.leases.serve(connection)
        assert not a.leases.held

    with Mosquitto(tmp_path, acl=["topic read #"]) as broker:
        asyncio.run(play(broker))
