"""`kill -9` at any moment loses nothing acknowledged (DESIGN §5)."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from twinbridge.adapters.store_sqlite import open_store
from twinbridge.errors import StoreUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from twinbridge.core.messages import Audit
    from twinbridge.ports import StoredState

ROUNDS = 20

WRITER = """
import asyncio, sys
from pathlib import Path
from dataclasses import replace
from twinbridge.adapters.store_sqlite import open_store
from twinbridge.testing.store_contract import DESIRED, LATCH, audit

async def write(store, worker, first):
    for n in range(first, first + 1_000_000):
        await store.save_desired(replace(DESIRED, property=f"p{worker}", version=n))
        latch = replace(LATCH, id=f"a{worker}", since=n)
        await store.save_alarm(latch, audit(f"s{worker}", n=n))
        print(worker, n, flush=True)

async def main():
    async with open_store(Path(sys.argv[1])) as store, asyncio.TaskGroup() as tasks:
        await store.load()
        print("ready", flush=True)
        for worker in range(3):
            tasks.create_task(write(store, worker, int(sys.argv[2])), name=f"writer {worker}")

asyncio.run(main())
"""


def start(folder: Path, first: int = 0) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(first)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill_after(process: subprocess.Popen[str], lines: int) -> dict[int, int]:
    """The last number that each writer was told is on disk."""
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(lines)]
    process.kill()
    with process.stdout:  # `communicate` would lose what is buffered already
        rest = process.stdout.read()
    process.wait(30)
    whole = [line for line in [*told, *rest.splitlines(keepends=True)] if line.endswith("\n")]
    return {int(worker): int(n) for worker, n in (line.split() for line in whole)}


async def found(folder: Path) -> tuple[StoredState, list[Audit]]:
    async with open_store(folder) as store:
        return await store.load(), list(await store.audit(limit=1_000_000))


def test_a_kill_at_any_moment_loses_nothing_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(7)
    for round_ in range(ROUNDS):
        first = round_ * 1_000_000
        told = kill_after(start(tmp_path, first), chance.randrange(1, 40))
        state, audit = asyncio.run(found(tmp_path))
        assert state.readable
        versions = {int(desired.property[1:]): desired.version for desired in state.desired}
        latches = {int(alarm.id[1:]): alarm.since for alarm in state.alarms}
        for worker, n in told.items():
            assert versions[worker] >= n
            assert latches[worker] >= n
            kept = {record.detail["n"] for record in audit if record.subject == f"s{worker}"}
            assert kept.issuperset(range(first, n + 1))


def test_a_second_process_on_one_state_directory_is_refused(tmp_path: Path) -> None:
    async def second() -> None:
        async with open_store(tmp_path):
            pass

    process = start(tmp_path)
    try:
        with pytest.raises(StoreUnavailable, match="in use by another TwinBridge"):
            asyncio.run(second())
    finally:
        process.kill()
        process.communicate(timeout=30)
    asyncio.run(second())
