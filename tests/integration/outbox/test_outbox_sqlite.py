"""What the outbox keeps, for whom, and what it tells of what it could not keep."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from twinbridge.adapters.outbox_sqlite import SqliteOutbox, open_outbox
from twinbridge.core.model import SECOND, Quality, Reason, Sample

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from twinbridge.core.model import Value
    from twinbridge.ports import OutboxRecord

ROUNDS = 8

WRITER = """
import asyncio, sys
from pathlib import Path
from twinbridge.adapters.outbox_sqlite import open_outbox
from twinbridge.core.model import Quality, Reason, Sample

async def main():
    async with open_outbox(Path(sys.argv[1]), sinks=["a"]) as outbox:
        n = 0
        while True:
            outbox.put_samples("press", [("p", Sample(n, Quality.GOOD, Reason.NONE, n, n))])
            print(await outbox.put("alarm", "press", {"n": n}, n), flush=True)
            n += 1

asyncio.run(main())
"""


def sample(value: Value | None, time: int = 1) -> Sample:
    return Sample(value, Quality.GOOD, Reason.NONE, time, 1)


def last_seq(record: OutboxRecord) -> int:
    return record.seq + max(1, len(record.samples)) - 1


async def everything(outbox: SqliteOutbox, sink: str) -> list[OutboxRecord]:
    """Read and acknowledge until nothing is left."""
    found: list[OutboxRecord] = []
    while (batch := await outbox.read(sink, 1_000)) is not None:
        found += batch.records
        await outbox.ack(sink, last_seq(batch.records[-1]))
    return found


def values(records: Sequence[OutboxRecord]) -> list[Value | None]:
    return [sample.value for record in records for _, sample in record.samples]


def test_a_kill_at_any_moment_loses_nothing_acknowledged_and_repeats_no_seq(
    tmp_path: Path,
) -> None:
    async def rest() -> list[OutboxRecord]:
        async with open_outbox(tmp_path, sinks=["a"]) as outbox:
            return await everything(outbox, "a")

    chance, newest = random.Random(5), 0
    for _ in range(ROUNDS):
        told = killed_writer(tmp_path, chance.randrange(1, 60))
        records = asyncio.run(rest())
        assert {r.seq for r in records if r.kind == "alarm"}.issuperset(told)
        for record in records:
            assert record.seq > newest
            newest = last_seq(record)


def killed_writer(folder: Path, lines: int) -> list[int]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(lines)]
    process.kill()
    with process.stdout:
        told += process.stdout.read().splitlines(keepends=True)
    process.wait(30)
    return [int(line) for line in told if line.endswith("\n")]


def test_what_goes_in_comes_out_as_it_was_and_in_order(tmp_path: Path) -> None:
    given = [
        ("p", sample(True)),
        ("q", sample(-3, 7)),
        ("p", Sample(1.5, Quality.BAD, Reason.COMM_LOST, 9, 4, "gone")),
        ("s", sample("on")),
        ("s", sample(None)),
    ]

    async def scenario() -> None:
        async with open_outbox(tmp_path, sinks=["a"]) as outbox:
            outbox.put_samples("press", given)
            assert outbox.depth == 5
            await outbox.settle()
            seq = await outbox.put("audit", "press", {"who": "me"}, 12)
            batch = await outbox.read("a", 100)
            assert batch is not None
            first, second = batch.records
            assert (first.seq, first.kind, first.device) == (1, "samples", "press")
            assert list(first.samples) == given
            assert (second.seq, second.at, second.body) == (seq, 12, {"who": "me"})
            assert batch.live
            assert (outbox.depth, outbox.oldest) == (6, first.at)
            assert outbox.size > 0
            await outbox.ack("a", seq)
            assert (outbox.depth, outbox.oldest) == (0, 0)
            assert await outbox.read("a", 100) is None

    asyncio.run(scenario())


def test_a_part_of_a_record_can_be_acknowledged(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_outbox(tmp_path, sinks=["a"]) as outbox:
            outbox.put_samples("press", [("p", sample(n)) for n in range(10)])
            await outbox.settle()
            await outbox.read("a", 100)
            await outbox.ack("a", 4)
            rest = await everything(outbox, "a")
            assert rest[0].seq == 5
            assert values(rest) == list(range(4, 10))

    asyncio.run(scenario())


def test_what_a_slow_sink_has_not_got_is_kept_over_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_outbox(tmp_path, sinks=["fast", "slow"]) as outbox:
            outbox.put_samples("press", [("p", sample(n)) for n in range(6_000)])
            await outbox.settle()
            assert len(values(await everything(outbox, "fast"))) == 6_000
            assert outbox.depth == 6_000
        async with open_outbox(tmp_path, sinks=["fast", "slow"]) as outbox:
            assert await outbox.read("fast", 10) is None
            assert values(await everything(outbox, "slow")) == list(range(6_000))
            assert outbox.depth == 0

    asyncio.run(scenario())


def test_a_sink_that_is_gone_holds_nothing_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_outbox(tmp_path, sinks=["a", "gone"]) as outbox:
            await outbox.put("alarm", "press", {}, 1)
            await everything(outbox, "a")
            assert outbox.depth == 1
        async with open_outbox(tmp_path, sinks=["a"]) as outbox:
            await outbox.settle()
            assert outbox.depth == 0

    asyncio.run(scenario())


def test_the_oldest_samples_go_when_it_is_full_and_a_gap_says_so(tmp_path: Path) -> None:
    chance = random.Random(1)

    async def scenario() -> None:
        async with open_outbox(tmp_path, limit_bytes=200_000, sinks=["a"]) as outbox:
            alarm = await outbox.put("alarm", "press", {"id": "trip"}, 1)
            for _ in range(60):
                outbox.put_samples("press", [("p", sample(chance.random())) for _ in range(1_000)])
                await outbox.settle()
            records = await everything(outbox, "a")
            assert records[0].seq == alarm
            kept = len(values(records))
            gaps = [record.body for record in records if record.kind == "gap"]
            lost = [gap["records"] for gap in gaps]
            assert 0 < kept < 60_000
            assert kept + sum(n for n in lost if isinstance(n, int)) == 60_000

    asyncio.run(scenario())


def test_samples_that_are_too_old_go_and_a_gap_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_outbox(tmp_path, max_age=1, sinks=["a"]) as outbox:
            outbox.put_samples("press", [("p", sample(1)), ("p", sample(2))])
            await outbox.settle()
            await outbox.settle()
            (gap,) = await everything(outbox, "a")
            assert gap.kind == "gap"
            assert gap.body["records"] == 2
            assert outbox.depth == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("garbage", [b"this is no database" * 500])
def test_a_damaged_file_is_set_aside_and_a_new_life_begins_with_a_gap(
    tmp_path: Path, garbage: bytes
) -> None:
    async def life() -> str:
        async with open_outbox(tmp_path, max_age=SECOND * 3600, sinks=["a"]) as outbox:
            await outbox.put("alarm", "press", {}, 1)
            await outbox.settle()
            batch = await outbox.read("a", 100)
            assert batch is not None
            kinds = {record.kind for record in batch.records}
            assert kinds == ({"alarm", "gap"} if set_aside() else {"alarm"})
            return batch.outbox

    def set_aside() -> list[Path]:
        return list(tmp_path.glob("outbox.db.damaged-*"))

    before = asyncio.run(life())
    (tmp_path / "outbox.db").write_bytes(garbage)
    assert asyncio.run(life()) != before
    assert set_aside()


def test_an_acknowledgement_of_an_earlier_life_takes_nothing_from_the_next(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_outbox(tmp_path, sinks=["a"]) as outbox:
            await outbox.put("alarm", "press", {}, 1)
            batch = await outbox.read("a", 100)
            assert batch is not None
            outbox._lives["a"] = "another"
            await outbox.ack("a", 1)
            assert outbox.depth == 1
            assert await outbox.read("a", 100) == batch

    asyncio.run(scenario())
