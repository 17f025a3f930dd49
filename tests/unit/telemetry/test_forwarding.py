"""How records go from the outbox to a sink: lanes, outages, refusals, breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from twinbridge.adapters.outbox_sqlite.told import Range, holes, joined
from twinbridge.app.forwarding import FEW, SUSPICIOUS, Forwarder
from twinbridge.core.model import Quality, Reason, Sample
from twinbridge.errors import HubRefused, HubUnavailable
from twinbridge.ports import OutboxBatch, OutboxRecord


def record(seq: int, kind: str = "samples", count: int = 1) -> OutboxRecord:
    samples = [("p", Sample(n, Quality.GOOD, Reason.NONE, n, n)) for n in range(seq, seq + count)]
    return OutboxRecord(seq, kind, "press", 1, 1, samples if kind == "samples" else ())


class Memory:
    """An outbox of single samples 1 to `end`; those up to `old` wait since an outage."""

    def __init__(self, end: int = 9, old: int = 0, alarm: int = 9) -> None:
        self.end, self.old, self.alarm = end, old, alarm
        self.told: list[Range] = []
        self.rewound = 0
        self.refused: list[int] = []
        self.news = asyncio.Event()

    async def read(self, sink: str, limit: int, after: int = 0) -> OutboxBatch | None:
        open_ = [n for a, b in holes(self.told, after, self.end) for n in range(a, b + 1)][:limit]
        if not open_:
            return None
        records = [record(n, "alarm" if n == self.alarm else "samples") for n in open_]
        return OutboxBatch("o", records, live=open_[0] > self.old)

    async def newest(self) -> int:
        return self.end

    async def ack(self, sink: str, first: int, last: int) -> None:
        self.told = joined([*self.told, (first, last)])

    async def set_aside(self, sink: str, records: Sequence[OutboxRecord], why: str) -> None:
        self.refused += [record.seq for record in records]

    async def rewind(self, sink: str) -> None:
        self.rewound += 1

    async def changed(self) -> None:
        await self.news.wait()
        self.news.clear()

    def add(self, count: int) -> None:
        self.end += count
        self.news.set()

    @property
    def all_told(self) -> bool:
        return self.told == [(1, self.end)]


class Scripted:
    name = "scripted"
    connection = 0

    def __init__(
        self, judge: Callable[[list[int]], None] = lambda _: None, *kinds: str, late: bool = True
    ) -> None:
        self.judge = judge
        self.kinds = frozenset(kinds or ("samples", "alarm"))
        self.late = late
        self.asked = 0
        self.got: list[int] = []

    async def takes_late(self, since: int) -> bool:
        self.asked += 1
        return self.late

    async def send(self, batch: OutboxBatch) -> None:
        seqs = [r.seq + n for r in batch.records for n in range(max(1, len(r.samples)))]
        self.judge(seqs)
        self.got += seqs


def forward(
    memory: Memory,
    sink: Scripted,
    act: Callable[[Forwarder], Coroutine[Any, Any, None]] | None = None,
) -> Forwarder:
    """Until all is told, or `act` is through."""

    async def scenario() -> Forwarder:
        forwarder = Forwarder(memory, sink, first_backoff=0.001)
        task = asyncio.create_task(forwarder.run())
        async with asyncio.timeout(20):
            if act is not None:
                await act(forwarder)
            else:
                await until(lambda: memory.all_told)
        task.cancel()
        await asyncio.wait([task])
        return forwarder

    return asyncio.run(scenario())


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - neither the outbox nor a sink has an event for it
        await asyncio.sleep(0.001)


def test_all_is_sent_again_until_the_sink_is_back() -> None:
    answers = iter([HubUnavailable("away"), HubUnavailable("busy", retry_after=0.01)])

    def judge(_: list[int]) -> None:
        for error in answers:
            raise error

    sink = Scripted(judge)
    assert forward(Memory(), sink).trouble == ""
    assert sink.got == list(range(1, 10))


def test_only_the_sample_that_is_refused_is_set_aside_after_five_tries() -> None:
    alone = 0

    def judge(seqs: list[int]) -> None:
        nonlocal alone
        if 6 in seqs:
            alone += seqs == [6]
            raise HubRefused("not this one")

    sink, memory = Scripted(judge), Memory()
    forward(memory, sink)
    assert sink.got == [1, 2, 3, 4, 5, 7, 8, 9]
    assert (alone, memory.refused) == (5, [6])


def test_what_is_refused_for_good_is_asked_once() -> None:
    alone = 0

    def judge(seqs: list[int]) -> None:
        nonlocal alone
        if 6 in seqs:
            alone += seqs == [6]
            raise HubRefused("out of bounds", for_good=True)

    sink = Scripted(judge)
    forward(Memory(), sink)
    assert sink.got == [1, 2, 3, 4, 5, 7, 8, 9]
    assert alone == 1


def test_thousands_refused_for_good_do_not_cost_thousands_of_requests() -> None:
    requests = 0

    def judge(seqs: list[int]) -> None:
        nonlocal requests
        requests += 1
        if seqs[0] <= 4_000:
            raise HubRefused("too old", for_good=True)

    sink = Scripted(judge)
    forward(Memory(end=5_000), sink)
    assert sink.got[-1] == 5_000
    assert len(sink.got) > 1_000 - FEW
    assert requests < 400


def test_a_sink_that_refuses_everything_loses_little_until_it_is_mended() -> None:
    mended = False

    def judge(_: list[int]) -> None:
        if not mended:
            raise HubRefused("no such tenant")

    sink, memory = Scripted(judge), Memory(end=1_000)

    async def act(forwarder: Forwarder) -> None:
        nonlocal mended
        await until(lambda: "everything" in forwarder.trouble)
        mended = True
        await until(lambda: memory.all_told)
        assert forwarder.trouble == ""

    forward(memory, sink, act)
    assert sink.got == list(range(SUSPICIOUS + 1, 1_001))


def test_what_is_of_now_goes_before_what_waits() -> None:
    memory = Memory(end=20_000, old=20_000)
    sink = Scripted()

    async def act(_: Forwarder) -> None:
        await until(lambda: bool(sink.got))
        memory.add(10)
        await until(lambda: memory.all_told)

    forward(memory, sink, act)
    assert sorted(sink.got) == list(range(1, 20_011))
    fresh = [place for place, seq in enumerate(sink.got) if seq > 20_000]
    assert fresh[-1] < len(sink.got) - 1_000, "before the end of what waited"
    waited = [seq for seq in sink.got if seq <= 20_000]
    assert waited == sorted(waited)


def test_a_sink_that_takes_no_late_samples_gets_all_in_order() -> None:
    memory = Memory(end=20_000, old=20_000)
    sink = Scripted(late=False)

    async def act(_: Forwarder) -> None:
        await until(lambda: bool(sink.got))
        memory.add(10)
        await until(lambda: memory.all_told)

    forward(memory, sink, act)
    assert sink.got == list(range(1, 20_011))
    assert sink.asked == 1


def test_after_a_new_connection_the_last_seconds_are_wanted_again() -> None:
    memory, sink = Memory(), Scripted()
    sink.connection = 1

    async def act(_: Forwarder) -> None:
        await until(lambda: memory.all_told)
        assert memory.rewound == 0
        sink.connection = 2
        memory.add(1)
        await until(lambda: memory.all_told)
        assert memory.rewound == 1

    forward(memory, sink, act)


def test_a_sink_gets_only_the_kinds_that_it_takes() -> None:
    sink = Scripted(lambda _: None, "alarm")
    forward(Memory(), sink)
    assert sink.got == [9]


def test_nothing_is_sent_while_it_is_held() -> None:
    memory, sink = Memory(), Scripted(lambda _: None, "samples")

    async def act(forwarder: Forwarder) -> None:
        forwarder.hold()
        for _ in range(20):
            await asyncio.sleep(0)
        assert (sink.got, memory.told) == ([], [])
        forwarder.release()
        await until(lambda: memory.all_told)

    forward(memory, sink, act)
    assert sink.got == list(range(1, 9))
