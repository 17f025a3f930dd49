"""The bus under what breaks it: brokers, processes, disks, and messages that are none of ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest
from bus_rig import NODE, Ends, agent_end, both_ends, driver_end, greeted, until
from mosquitto import Mosquitto
from prometheus_client import REGISTRY

from twinbridge.adapters.bus_memory import MemoryBus
from twinbridge.adapters.bus_mqtt.encoding import Asked, encode_asked
from twinbridge.adapters.bus_mqtt.topics import Topics
from twinbridge.api.broker import parse_url
from twinbridge.core.messages import (
    Audit,
    Desire,
    DesiredState,
    Event,
    Outcome,
    Request,
    ResetTrip,
    Samples,
    TellAll,
)
from twinbridge.errors import StoreUnavailable, Unreachable
from twinbridge.mqtt.connection import connected
from twinbridge.testing.bus_contract import NEVER_LOST, lasting, numbered, received, samples
from twinbridge.testing.proxy import FaultProxy

TOPICS = Topics(NODE)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as mosquitto:
        yield mosquitto


def records(start: int, number: int) -> list[Event]:
    kinds = [event for event in NEVER_LOST if event in lasting(NEVER_LOST)]
    return [numbered(kinds[at % len(kinds)], at) for at in range(start, start + number)]


def test_records_of_a_dead_broker_and_a_dead_driver_come_once_and_in_order(
    broker: Mosquitto, tmp_path: Path
) -> None:
    async def body() -> None:
        ends = Ends(MemoryBus())
        told = records(0, 90)
        async with agent_end(tmp_path / "agent", broker.url, ends) as agent:
            reader = agent.subscribe()
            async with driver_end(tmp_path / "driver", broker.url, ends):
                for event in told[:30]:
                    ends.publish(event)
                await received(reader, told[29])
                broker.kill()
                for event in told[30:60]:
                    ends.publish(event)
                await until(lambda: not ends.machines.coalesced)
                await kept(ends, 30)
            ends.machines = MemoryBus()  # the process has died; the next one starts afresh
            broker.start()
            async with driver_end(tmp_path / "driver", broker.url, ends):
                for event in told[60:]:
                    ends.publish(event)
                assert lasting(await received(reader, told[-1])) == told[30:]

    asyncio.run(body())


async def kept(ends: Ends, number: int) -> None:
    async with asyncio.timeout(20):
        while len(await ends.kept.records(0, 1000)) < number:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)


def test_an_agent_that_dies_between_disk_and_word_takes_nothing_twice(
    broker: Mosquitto, tmp_path: Path
) -> None:
    async def body() -> None:
        ends = Ends(MemoryBus())
        told = [event for event in records(0, 30) if isinstance(event, Audit)]
        async with driver_end(tmp_path / "driver", broker.url, ends):
            for event in told:
                ends.publish(event)
            await kept(ends, len(told))
            rows = await ends.kept.records(0, 100)
            async with agent_end(tmp_path / "agent", broker.url, ends):
                # On the agent's disk, but its driver never heard of it.
                taken = [(row.id, event) for row, event in zip(rows[:4], told, strict=False)]
                await ends.taken.take_over(await ends.kept.identity(), taken)
                await until_empty(ends)
                assert list(reversed(await ends.taken.audit(limit=100))) == told

    asyncio.run(body())


async def until_empty(ends: Ends) -> None:
    async with asyncio.timeout(20):
        while await ends.kept.records(0, 1):  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)


def test_an_agent_whose_disk_is_full_tells_once_and_takes_later(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with both_ends(tmp_path, broker.url) as ends:
            real = ends.taken.take_over

            async def full(*_: object) -> Sequence[Event]:
                raise StoreUnavailable("disk full")

            monkeypatch.setattr(ends.taken, "take_over", full)
            reader = ends.subscribe()
            told = records(0, 3)
            for event in told:
                ends.publish(event)
            assert lasting(await received(reader, *told)) == told
            assert len(await ends.kept.records(0, 100)) == 3
            monkeypatch.setattr(ends.taken, "take_over", real)
            await until_empty(ends)
            last = records(3, 1)[0]
            ends.publish(last)
            assert lasting(await received(reader, last)) == [last]

    asyncio.run(body())


def test_after_an_outage_the_newest_samples_come(broker: Mosquitto, tmp_path: Path) -> None:
    async def body() -> None:
        async with both_ends(tmp_path, broker.url) as ends:
            ends.tells_again = True
            reader = ends.subscribe()
            broker.kill()
            for at in range(100):
                ends.publish(samples(at))
            broker.start()
            assert samples(99) in await received(reader, samples(99))

    asyncio.run(body())


def test_a_half_open_connection_is_noticed_and_its_driver_is_lost(
    broker: Mosquitto, tmp_path: Path
) -> None:
    async def body() -> None:
        async with FaultProxy("127.0.0.1", broker.port) as proxy:
            ends = Ends(MemoryBus())
            async with (
                driver_end(tmp_path / "driver", f"mqtt://127.0.0.1:{proxy.port}", ends),
                agent_end(tmp_path / "agent", broker.url, ends) as agent,
            ):
                await greeted(agent)
                proxy.faults.half_open = True
                await until(lambda: all(owner.lost for owner in agent.owners.values()))
                assert "silent" in ends.lost[-1][1] or "ended" in ends.lost[-1][1]
                proxy.faults.half_open = False
                await greeted(agent)

    asyncio.run(body())


GARBAGE = [
    b"",
    b"\0\xff garbage",
    b"[]",
    b"{}",
    b"[1]",
    b'[2,"boot",1,[]]',
    b'[1,"boot",1,[["pump-1",[["t",{"a":1},0,0,1,1]]]]]',
    b'[1,"boot","x",[[]]]',
    b'[1,[[1,["nothing"]]]]',
    b'[1,[["x",["alarm",{}]]]]',
    b"[" * 5000,
]


def test_what_is_none_of_ours_is_counted_and_changes_nothing(
    broker: Mosquitto, tmp_path: Path
) -> None:
    async def body() -> None:
        async with both_ends(tmp_path, broker.url) as ends:
            done: list[Request] = []
            ends.serve(_noting(done))
            before = refused()
            async with connected(parse_url(broker.url), lambda _: None) as stranger:
                for body in GARBAGE:
                    for topic in (
                        TOPICS.samples("x"),
                        TOPICS.records("x"),
                        TOPICS.status("x"),
                        TOPICS.requests,
                        TOPICS.agent,
                        TOPICS.replies(await ends.taken.identity()),
                        TOPICS.taken(await ends.kept.identity()),
                    ):
                        await stranger.publish(topic, body)
                reader = ends.subscribe()
                await ends.request(ResetTrip("a-1", "anna", "mended"))
                ends.publish(samples(7))
                assert await received(reader, samples(7)) == [samples(7)]
            assert len(done) == 1
            assert refused() > before
            assert not lasting([event async for event in _waiting(reader)])

    asyncio.run(body())


def _noting(done: list[Request]) -> Callable[[Request], Awaitable[None]]:
    async def handle(request: Request) -> None:
        done.append(request)

    return handle


async def _waiting(reader: AsyncIterator[Sequence[Event]]) -> AsyncIterator[Event]:
    try:
        async with asyncio.timeout(0.3):
            async for batch in reader:
                for event in batch:
                    yield event
    except TimeoutError:
        return


def refused() -> float:
    family = next(f for f in REGISTRY.collect() if f.name == "twinbridge_bus_refused")
    return sum(s.value for s in family.samples if s.name.endswith("_total"))


def test_a_request_is_done_once_however_often_it_comes(broker: Mosquitto, tmp_path: Path) -> None:
    async def body() -> None:
        async with both_ends(tmp_path, broker.url) as ends:
            done: list[Request] = []
            heard: list[bytes] = []
            ends.serve(_noting(done))
            async with connected(
                parse_url(broker.url), lambda message: heard.append(message.payload)
            ) as eavesdropper:
                await eavesdropper.subscribe((TOPICS.requests, 1))
                await ends.request(ResetTrip("a-1", "anna", "mended"))
                await until(lambda: heard)
                for told in 5 * tuple(heard):
                    await eavesdropper.publish(TOPICS.requests, told)
                await ends.request(ResetTrip("a-2", "anna", "mended"))
            assert done == [
                ResetTrip("a-1", "anna", "mended"),
                ResetTrip("a-2", "anna", "mended"),
            ]

    asyncio.run(body())


def test_a_request_of_another_start_of_the_agent_is_refused(
    broker: Mosquitto, tmp_path: Path
) -> None:
    async def body() -> None:
        async with both_ends(tmp_path, broker.url) as ends:
            done: list[Request] = []
            ends.serve(_noting(done))
            forged = Asked("x", "another boot", 1, Desire("p", "run", True, 1, "x", 1), "")
            async with connected(parse_url(broker.url), lambda _: None) as stranger:
                await stranger.publish(TOPICS.requests, encode_asked(forged))
            await ends.request(ResetTrip("a-1", "anna", "mended"))
            assert done == [ResetTrip("a-1", "anna", "mended")]

    asyncio.run(body())


def test_with_no_driver_a_request_says_so(broker: Mosquitto, tmp_path: Path) -> None:
    async def body() -> None:
        ends = Ends(MemoryBus())
        async with agent_end(tmp_path / "agent", broker.url, ends) as agent:
            await asyncio.wait_for(agent.connected.wait(), 10)
            with pytest.raises(Unreachable, match="no driver"):
                await ends.request(ResetTrip("a-1", "anna", "mended"))

    asyncio.run(body())


def test_lost_frames_make_the_driver_tell_all(broker: Mosquitto, tmp_path: Path) -> None:
    async def body() -> None:
        async with both_ends(tmp_path, broker.url) as ends:
            asked: list[Request] = []

            async def handle(request: Request) -> None:
                asked.append(request)

            ends.machines.serve(handle)
            before = len(asked)
            reader = ends.subscribe()
            ends.driver._frames += 5  # they were sent, and never came
            ends.publish(samples(1))
            await received(reader, samples(1))
            await until(lambda: len(asked) > before)
            assert asked[-1] == TellAll()

    asyncio.run(body())


def test_samples_of_devices_that_are_not_defined_are_passed_over(
    broker: Mosquitto, tmp_path: Path
) -> None:
    async def body() -> None:
        async with both_ends(tmp_path, broker.url) as ends:
            reader = ends.subscribe()
            ends.publish(samples(1, device="unknown-1"))
            ends.publish(samples(2))
            came = await received(reader, samples(2))
            assert [e for e in came if isinstance(e, Samples)] == [samples(2)]

    asyncio.run(body())


def test_an_outcome_that_the_agent_forgot_is_told_again(broker: Mosquitto, tmp_path: Path) -> None:
    async def body() -> None:
        async with both_ends(tmp_path, broker.url) as ends:
            reader = ends.subscribe()
            outcome = Outcome("pump-1", "run", 3, DesiredState.APPLIED, "", 2, "epoch")
            said = {"outcome": "applied", "message": "", "version": 3, "epoch": "epoch", "at": 2}
            record = Audit("write", "pump-1/run", "rest", said, 5, 6)
            await ends.kept.append_audit(record)
            ends.publish(outcome)
            assert lasting(await received(reader, record, outcome)) == [record, outcome]
            await until_empty(ends)
            again = outcome._replace(at=9)
            ends.publish(outcome)
            ends.publish(again)
            assert lasting(await received(reader, again)) == [again]

    asyncio.run(body())


def test_a_disk_that_hangs_holds_up_no_value(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with both_ends(tmp_path, broker.url) as ends:
            hung, real = asyncio.Event(), ends.kept.record

            async def record(*records: Event) -> None:
                await hung.wait()
                await real(*records)  # type: ignore[arg-type]  # they are records

            monkeypatch.setattr(ends.kept, "record", record)
            reader = ends.subscribe()
            told = records(0, 3)
            for event in told:
                ends.publish(event)
            ends.publish(samples(1))
            assert await received(reader, samples(1)) == [samples(1)]
            hung.set()
            assert lasting(await received(reader, *told)) == told

    asyncio.run(body())
