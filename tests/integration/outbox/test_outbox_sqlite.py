"""What the outbox keeps, for whom, and what it tells of what it could not keep."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from twinbridge.adapters.outbox_sqlite import SqliteOutbox, open_outbox, tables
from twinbridge.adapters.outbox_sqlite.blocks import Waiting, sample_blocks
from twinbridge.core.messages import Audit
from twinbridge.core.model import SECOND, Quality, Reason, Sample

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from twinbridge.core.model import Value
    from twinbridge.ports import OutboxRecord

ROUNDS = 8
A = {"a": 0.0}

WRITER = """
import asyncio, sys
from pathlib import Path
from twinbridge.adapters.outbox_sqlite import open_outbox
from twinbridge.core.messages import Audit
from twinbridge.core.model import Quality, Reason, Sample

async def main():
    async with open_outbox(Path(sys.argv[1]), sinks={"a": 0}) as outbox:
        n = await outbox.journaled()
        while True:
            n += 1
            outbox.put_samples("press", [("p", Sample(n, Quality.GOOD, Reason.NONE, n, n))])
            await outbox.put_journal([(n, Audit("alarm", "press", "rule", {}, n, n))])
            print(n, flush=True)

asyncio.run(main())
"""


def alarm(number: int = 1) -> tuple[int, Audit]:
    return number, Audit("alarm", f"hot:press:{number}", "rule", {"n": number}, 12, 1)


def sample(value: Value | None, time: int = 1) -> Sample:
    return Sample(value, Quality.GOOD, Reason.NONE, time, 1)


def last_seq(record: OutboxRecord) -> int:
    return record.seq + max(1, len(record.samples)) - 1


async def everything(outbox: SqliteOutbox, sink: str) -> list[OutboxRecord]:
    """Read and acknowledge until nothing is left."""
    found: list[OutboxRecord] = []
    while (batch := await outbox.read(sink, 1_000)) is not None:
        found += batch.records
        await outbox.ack(sink, batch.records[0].seq, last_seq(batch.records[-1]))
    return found


def values(records: Sequence[OutboxRecord]) -> list[Value | None]:
    return [sample.value for record in records for _, sample in record.samples]


def test_a_kill_at_any_moment_loses_nothing_acknowledged_and_repeats_no_seq(
    tmp_path: Path,
) -> None:
    async def rest() -> list[OutboxRecord]:
        async with open_outbox(tmp_path, sinks=A) as outbox:
            return await everything(outbox, "a")

    chance, newest = random.Random(5), 0
    for _ in range(ROUNDS):
        told = killed_writer(tmp_path, chance.randrange(1, 60))
        records = asyncio.run(rest())
        numbers = [record.body["number"] for record in records if record.kind == "alarm"]
        assert set(numbers).issuperset(told)
        assert len(numbers) == len(set(numbers)), "each once"
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
        async with open_outbox(tmp_path, sinks=A) as outbox:
            outbox.put_samples("press", given)
            assert outbox.depth == 5
            await outbox.settle()
            await outbox.put_journal([alarm(7)])
            batch = await outbox.read("a", 100)
            assert batch is not None
            first, second = batch.records
            assert (first.seq, first.kind, first.device) == (1, "samples", "press")
            assert list(first.samples) == given
            assert (second.seq, second.kind, second.device) == (6, "alarm", "press")
            assert (second.body["number"], second.body["detail"]) == (7, {"n": 7})
            assert second.boot == first.boot != ""
            assert batch.live
            assert (outbox.depth, outbox.oldest) == (6, first.at)
            assert outbox.size > 0
            await outbox.ack("a", 1, 6)
            assert (outbox.depth, outbox.oldest) == (0, 0)
            assert await outbox.read("a", 100) is None

    asyncio.run(scenario())


def test_a_part_of_a_record_can_be_acknowledged(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_outbox(tmp_path, sinks=A) as outbox:
            outbox.put_samples("press", [("p", sample(n)) for n in range(10)])
            await outbox.settle()
            await outbox.read("a", 100)
            await outbox.ack("a", 1, 4)
            rest = await everything(outbox, "a")
            assert rest[0].seq == 5
            assert values(rest) == list(range(4, 10))

    asyncio.run(scenario())


def test_what_a_slow_sink_has_not_got_is_kept_over_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_outbox(tmp_path, sinks={"fast": 0, "slow": 0}) as outbox:
            outbox.put_samples("press", [("p", sample(n)) for n in range(6_000)])
            await outbox.settle()
            assert len(values(await everything(outbox, "fast"))) == 6_000
            assert outbox.depth == 6_000
        async with open_outbox(tmp_path, sinks={"fast": 0, "slow": 0}) as outbox:
            assert await outbox.read("fast", 10) is None
            assert values(await everything(outbox, "slow")) == list(range(6_000))
            assert outbox.depth == 0

    asyncio.run(scenario())


def test_a_sink_that_is_gone_holds_nothing_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_outbox(tmp_path, sinks={"a": 0, "gone": 0}) as outbox:
            await outbox.put_journal([alarm()])
            await everything(outbox, "a")
            assert outbox.depth == 1
        async with open_outbox(tmp_path, sinks=A) as outbox:
            await outbox.settle()
            assert outbox.depth == 0

    asyncio.run(scenario())


def test_the_oldest_samples_go_when_it_is_full_and_a_gap_says_so(tmp_path: Path) -> None:
    chance = random.Random(1)

    async def scenario() -> None:
        async with open_outbox(tmp_path, limit_bytes=200_000, sinks=A) as outbox:
            await outbox.put_journal([alarm()])
            for _ in range(60):
                outbox.put_samples("press", [("p", sample(chance.random())) for _ in range(1_000)])
                await outbox.settle()
            records = await everything(outbox, "a")
            assert (records[0].seq, records[0].kind) == (1, "alarm")
            kept = len(values(records))
            gaps = [record.body for record in records if record.kind == "gap"]
            lost = [gap["records"] for gap in gaps]
            assert 0 < kept < 60_000
            assert kept + sum(n for n in lost if isinstance(n, int)) == 60_000
            assert outbox.loss.samples == 60_000 - kept

    asyncio.run(scenario())


def test_samples_that_are_too_old_go_and_a_gap_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_outbox(tmp_path, max_age=1, sinks=A) as outbox:
            outbox.put_samples("press", [("p", sample(1)), ("p", sample(2))])
            await outbox.settle()
            await outbox.settle()
            (gap,) = await everything(outbox, "a")
            assert gap.kind == "gap"
            assert gap.body["records"] == 2
            assert outbox.depth == 0
            assert outbox.loss.samples == 2

    asyncio.run(scenario())


@pytest.mark.parametrize("garbage", [b"this is no database" * 500])
def test_a_damaged_file_is_set_aside_and_a_new_life_begins_with_a_gap(
    tmp_path: Path, garbage: bytes
) -> None:
    async def life() -> str:
        async with open_outbox(tmp_path, max_age=SECOND * 3600, sinks=A) as outbox:
            await outbox.put_journal([alarm()])
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
        async with open_outbox(tmp_path, sinks=A) as outbox:
            await outbox.put_journal([alarm()])
            batch = await outbox.read("a", 100)
            assert batch is not None
            outbox._lives["a"] = "another"
            await outbox.ack("a", 1, 1)
            assert outbox.depth == 1
            assert await outbox.read("a", 100) == batch

    asyncio.run(scenario())


def test_the_journal_goes_in_once_however_often_it_is_offered(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_outbox(tmp_path, sinks=A) as outbox:
            await outbox.put_journal([alarm(3), alarm(4)])
            await outbox.put_journal([alarm(4), alarm(9)])
        async with open_outbox(tmp_path, sinks=A) as outbox:
            assert await outbox.journaled() == 9
            await outbox.put_journal([alarm(9)])
            found = await everything(outbox, "a")
            assert [record.body["number"] for record in found] == [3, 4, 9]

    asyncio.run(scenario())


def test_what_is_of_now_can_go_before_what_waits_and_all_goes_once(tmp_path: Path) -> None:
    async def put(outbox: SqliteOutbox, *numbers: int) -> None:
        outbox.put_samples("press", [("p", sample(n)) for n in numbers])
        await outbox.settle()

    async def scenario() -> None:
        async with open_outbox(tmp_path, sinks=A) as outbox:
            await put(outbox, *range(100))
            edge = await outbox.newest()
            assert edge == 100
            await put(outbox, *range(100, 110))
            batch = await outbox.read("a", 1_000, edge)
            assert batch is not None
            assert values(batch.records) == list(range(100, 110))
            await outbox.ack("a", 101, 110)
            assert outbox.depth == 100
        async with open_outbox(tmp_path, sinks=A) as outbox:
            await put(outbox, 110)
            assert values(await everything(outbox, "a")) == [*range(100), 110]
            assert outbox.depth == 0

    asyncio.run(scenario())


def test_a_sink_that_lost_its_connection_gets_the_last_seconds_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_outbox(tmp_path, sinks={"a": 60.0, "b": 0.0}) as outbox:
            outbox.put_samples("press", [("p", sample(n)) for n in range(10)])
            await outbox.settle()
            for sink in ("a", "b"):
                assert values(await everything(outbox, sink)) == list(range(10))
            assert outbox.depth == 0
            await outbox.rewind("a")
            await outbox.rewind("b")
            assert outbox.depth == 10
            assert values(await everything(outbox, "a")) == list(range(10))
            assert await outbox.read("b", 100) is None

    asyncio.run(scenario())


def test_a_wall_clock_that_is_set_right_makes_nothing_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time_ns

    async def scenario() -> None:
        async with open_outbox(tmp_path, max_age=3600 * SECOND, sinks=A) as outbox:
            monkeypatch.setattr(time, "time_ns", lambda: 5 * SECOND)  # a box without a battery
            outbox.put_samples("press", [("p", sample(1))])
            await outbox.settle()
            monkeypatch.setattr(time, "time_ns", real)
            await outbox.settle()
            batch = await outbox.read("a", 10)
            assert batch is not None
            assert (batch.live, values(batch.records)) == (True, [1])

    asyncio.run(scenario())


def test_on_a_disk_that_is_nearly_full_it_stops_growing_and_keeps_alarms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nearly = shutil.disk_usage(tmp_path)._replace(total=1_000_000, free=90_000)

    async def put(outbox: SqliteOutbox, times: int) -> None:
        for _ in range(times):
            outbox.put_samples("press", [("p", sample(random.random())) for _ in range(1_000)])
            await outbox.settle()

    async def scenario() -> None:
        async with open_outbox(tmp_path, sinks=A) as outbox:
            await outbox.put_journal([alarm()])
            await put(outbox, 40)
            size = outbox.size
            monkeypatch.setattr(shutil, "disk_usage", lambda _: nearly)
            await put(outbox, 40)
            assert outbox.size <= size * 1.1
            found = await everything(outbox, "a")
            assert {"alarm", "gap", "samples"} == {record.kind for record in found}
            lost = sum(int(str(r.body["records"])) for r in found if r.kind == "gap")
            assert lost + len(values(found)) == 80_000

    asyncio.run(scenario())


def test_a_file_of_the_first_schema_keeps_what_it_holds(tmp_path: Path) -> None:
    file = sqlite3.connect(tmp_path / "outbox.db")
    file.executescript(tables.MIGRATIONS[0])
    waiting = [Waiting("press", [("p", sample(n)) for n in range(10)], 1, 1)]
    (block,) = sample_blocks(waiting)
    row = (1, block.length, *block[:4], block.body)
    file.execute("INSERT INTO block VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    file.executescript(
        "UPDATE life SET next = 11, depth = 10; INSERT INTO cursor VALUES ('a', 4);"
        "PRAGMA user_version = 1"
    )
    file.close()

    async def scenario() -> None:
        async with open_outbox(tmp_path, max_age=2**62, sinks=A) as outbox:
            assert outbox.depth == 6
            assert values(await everything(outbox, "a")) == list(range(4, 10))

    asyncio.run(scenario())


def test_what_a_sink_refuses_is_kept_for_an_expert_the_newest_of_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_outbox(tmp_path, sinks=A) as outbox:
            outbox.put_samples("press", [("p", sample(n)) for n in range(5)])
            await outbox.put_journal([alarm()])
            await outbox.settle()
            batch = await outbox.read("a", 10)
            assert batch is not None
            for _ in range(tables.REFUSED_KEPT):
                await outbox.set_aside("a", batch.records, "out of bounds")

    asyncio.run(scenario())
    with closing(sqlite3.connect(tmp_path / "outbox.db")) as file:
        kept = file.execute("SELECT kind, device, why, content FROM refused ORDER BY id").fetchall()
    assert len(kept) == tables.REFUSED_KEPT
    assert {row[0] for row in kept} == {"samples", "alarm"}
    assert kept[0][1:3] == ("press", "out of bounds")
