"""Random schedules of outages, lost answers, refusals and kill -9 between the outbox and a sink.

What was on disk comes out once by its (outbox, seq), with one content for ever, and in order: what
is told late and what is told live, each for itself. TWINBRIDGE_SCHEDULES sets how many schedules.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

SCHEDULES = int(os.environ.get("TWINBRIDGE_SCHEDULES", "3"))
LIVES = 3

EDGE = """
import asyncio, json, os, random, sys, time
from pathlib import Path
from twinbridge.adapters.outbox_sqlite import open_outbox, outbox as module
from twinbridge.app.forwarding import Forwarder
from twinbridge.core.model import Quality, Reason, Sample
from twinbridge.errors import HubRefused, HubUnavailable

folder, seed, first, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4] == "last"
chance = random.Random(seed)
module.LIVE = int(chance.choice([0.05, 0.5, 5.0]) * 1e9)  # so that some is of an outage

class Sink:
    name, kinds, connection = "a", frozenset({"samples"}), 0

    def __init__(self):
        self.log = (folder / "told").open("a")
        self.away = 0

    async def takes_late(self, since):
        return chance.random() < 0.8

    async def send(self, batch):
        await asyncio.sleep(chance.random() * 0.01)
        if not last and self.away == 0 and chance.random() < 0.2:
            self.away = chance.randrange(1, 6)
        if self.away:
            self.away -= 1
            raise HubUnavailable("away")
        values = [s.value for r in batch.records for _, s in r.samples]
        if any(value % 97 == 0 for value in values):
            raise HubRefused("poison", for_good=chance.random() < 0.5)
        for record in batch.records:
            for n, (_, sample) in enumerate(record.samples):
                said = [batch.outbox, record.seq + n, record.device, sample.value, batch.live]
                self.log.write(json.dumps(said) + "\\n")
        self.log.flush()
        if not last and chance.random() < 0.1:
            raise HubUnavailable("the answer is lost")

async def main():
    async with open_outbox(folder, sinks={"a": 0}) as outbox:
        task = asyncio.create_task(Forwarder(outbox, Sink(), first_backoff=0.01).run())
        number = first
        for _ in range(chance.randrange(3, 25)):
            for device in range(3):
                many = chance.choice([1, 3, 40])
                now = time.time_ns()
                samples = [("p", Sample(number + n, Quality.GOOD, Reason.NONE, now, 1))
                           for n in range(many)]
                outbox.put_samples(f"d{device}", samples)
                number += many
            await outbox.settle()
            print("kept", number, flush=True)
        while last and outbox.depth:
            await asyncio.sleep(0.01)
        if not last:
            await asyncio.sleep(chance.random() * 0.2)
            os.kill(os.getpid(), 9)
        task.cancel()

asyncio.run(main())
"""


def live(folder: Path, seed: str, first: int, *, last: bool) -> int:
    """One life of the edge; the number after the last that was on disk."""
    command = [
        sys.executable,
        "-c",
        EDGE,
        str(folder),
        seed,
        str(first),
        "last" if last else "more",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == (0 if last else -9), done.stderr
    return max(int(n) for n in re.findall(r"^kept (\d+)$", done.stdout, re.MULTILINE))


@pytest.mark.parametrize("schedule", range(SCHEDULES))
def test_what_was_kept_comes_out_once_and_in_order(tmp_path: Path, schedule: int) -> None:
    chance = random.Random(schedule)
    kept: set[int] = set()
    number = 1
    for turn in range(LIVES):
        end = live(tmp_path, f"{schedule}.{turn}", number, last=turn == LIVES - 1)
        kept |= set(range(number, end))
        number = end + chance.randrange(3)
    told = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    content: dict[tuple[str, int], tuple[str, int]] = {}
    lanes: defaultdict[tuple[str, bool], list[int]] = defaultdict(list)
    for outbox, seq, device, value, is_live in told:
        is_new = (outbox, seq) not in content
        assert content.setdefault((outbox, seq), (device, value)) == (device, value)
        if is_new:
            lanes[device, is_live].append(value)
    for lane, values in lanes.items():
        assert values == sorted(values), lane
    came = [value for _, value in content.values()]
    assert len(came) == len(set(came))
    assert {value for value in kept if value % 97} <= set(came)
