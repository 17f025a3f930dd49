"""How records go from the outbox to a sink that is away, refuses, or is held."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from twinbridge.app.forwarding import Forwarder
from twinbridge.core.model import Quality, Reason, Sample
from twinbridge.errors import HubRefused, HubUnavailable
from twinbridge.ports import OutboxBatch, OutboxRecord

RECORDS = [
    OutboxRecord(
        1,
        "samples",
        "press",
        1,
        1,
        [("p", Sample(n, Quality.GOOD, Reason.NONE, n, n)) for n in range(8)],
    ),
    OutboxRecord(9, "alarm", "press", 1, 1),
]


class Memory:
    """An outbox of these records; `done` once the last is acknowledged."""

    def __init__(self) -> None:
        self.acked = 0
        self.done = asyncio.Event()

    async def read(self, sink: str, limit: int) -> OutboxBatch | None:
        return None if self.done.is_set() else OutboxBatch("o", RECORDS, live=True)

    async def ack(self, sink: str, seq: int) -> None:
        assert seq >= self.acked
        self.acked = seq
        if seq == 9:
            self.done.set()

    async def changed(self) -> None:
        await asyncio.Event().wait()


class Scripted:
    name = "scripted"

    def __init__(self, judge: Callable[[list[int]], None], *kinds: str) -> None:
        self.judge = judge
        self.kinds = frozenset(kinds)
        self.got: list[int] = []

    async def send(self, batch: OutboxBatch) -> None:
        seqs = [r.seq + n for r in batch.records for n in range(max(1, len(r.samples)))]
        self.judge(seqs)
        self.got += seqs


def forward(sink: Scripted) -> None:
    async def scenario() -> None:
        memory = Memory()
        task = asyncio.create_task(Forwarder(memory, [sink], first_backoff=0.001).run())
        async with asyncio.timeout(20):
            await memory.done.wait()
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(scenario())


def test_all_is_sent_again_until_the_sink_is_back() -> None:
    answers = iter([HubUnavailable("away"), HubUnavailable("busy", retry_after=0.01)])

    def judge(_: list[int]) -> None:
        for error in answers:
            raise error

    sink = Scripted(judge, "samples", "alarm")
    forward(sink)
    assert sink.got == list(range(1, 10))


def test_only_the_sample_that_is_refused_is_set_aside_after_five_tries() -> None:
    alone = 0

    def judge(seqs: list[int]) -> None:
        nonlocal alone
        if 6 in seqs:
            alone += seqs == [6]
            raise HubRefused("out of bounds")

    sink = Scripted(judge, "samples", "alarm")
    forward(sink)
    assert sink.got == [1, 2, 3, 4, 5, 7, 8, 9]
    assert alone == 5


def test_a_sink_gets_only_the_kinds_that_it_takes() -> None:
    sink = Scripted(lambda _: None, "alarm")
    forward(sink)
    assert sink.got == [9]


def test_nothing_is_sent_while_it_is_held() -> None:
    async def scenario() -> None:
        memory, sink = Memory(), Scripted(lambda _: None, "samples")
        forwarder = Forwarder(memory, [sink])
        forwarder.hold()
        task = asyncio.create_task(forwarder.run())
        for _ in range(20):
            await asyncio.sleep(0)
        assert (sink.got, memory.acked) == ([], 0)
        forwarder.release()
        async with asyncio.timeout(20):
            await memory.done.wait()
        assert sink.got == list(range(1, 9))
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(scenario())
