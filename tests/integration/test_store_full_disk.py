"""A disk that takes no more: writers are refused with the reason, and it recovers by itself.

The fault is real: a file size limit of the process (`RLIMIT_FSIZE`), and as root a tmpfs of 1 MiB.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCENARIO = """
import asyncio, resource, sys
from dataclasses import replace
from pathlib import Path
from twinbridge.adapters.store_sqlite import open_store
from twinbridge.errors import StoreUnavailable
from twinbridge.testing.store_contract import DESIRED, LATCH, audit, good

folder, way = Path(sys.argv[1]), sys.argv[2]
UNLIMITED = resource.getrlimit(resource.RLIMIT_FSIZE)

def fill():
    if way == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, UNLIMITED[1]))
        return
    with open(folder / "ballast", "wb", buffering=0) as ballast:
        try:
            while ballast.write(bytes(512)):
                pass
        except OSError:
            pass

def relieve():
    if way == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, UNLIMITED)
    else:
        (folder / "ballast").unlink()

async def until(holds):
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.02)

async def write_until_refused(store):
    for n in range(10_000):
        try:
            await store.append_audit(audit(f"n{n}", padding="x" * 2000))
        except StoreUnavailable as error:
            return n, str(error)
    raise AssertionError("the disk never filled")

async def main():
    async with open_store(folder) as store:
        await store.load()
        await store.save_alarm(LATCH)
        fill()
        count, why = await write_until_refused(store)
        assert store.trouble, "trouble says why"
        assert "state.db" in why, why
        print("refused:", why)
        relieve()
        await until(lambda: not store.trouble)
        fill()
        count += (await write_until_refused(store))[0]
        store.record_history("pump-1", [("t", good(1.0, 1))])
        store.record_reported("pump-1", [("t", good(1.0, 1))])
        records = await store.audit(limit=10_000)
        assert len(records) == count, "reading works, and what was acknowledged is there"
        relieve()
        await until(lambda: not store.trouble)
        await store.save_alarm(replace(LATCH, id="a-2"))
    async with open_store(folder) as store:
        state = await store.load()
        assert [alarm.id for alarm in state.alarms] == ["a-1", "a-2"], state
        assert state.readable
        assert len(await store.audit(limit=10_000)) == count
        assert state.reported["pump-1"]["t"] == good(1.0, 1)
        assert len(await store.history("pump-1", "t", 0, 9)) == 1
        fill()
        await write_until_refused(store)
    async with open_store(folder) as store:
        state = await store.load()
        assert [alarm.id for alarm in state.alarms] == ["a-1", "a-2"], "a start on a full disk"
        assert state.readable
    print("done")

asyncio.run(main())
"""

LEFT_OPEN = """
import asyncio, os, sys
from pathlib import Path
from twinbridge.adapters.store_sqlite import open_store
from twinbridge.testing.store_contract import DESIRED, LATCH

async def main():
    async with open_store(Path(sys.argv[1])) as store:
        await store.load()
        await store.save_alarm(LATCH)
        await store.save_desired(DESIRED)
        print("done", flush=True)
        os._exit(0)

asyncio.run(main())
"""

NOT_ONE_BYTE = """
import asyncio, resource, sys
from pathlib import Path
from twinbridge.adapters.store_sqlite import open_store
from twinbridge.errors import StoreUnavailable
from twinbridge.testing.store_contract import DESIRED, LATCH

async def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    async with open_store(Path(sys.argv[1])) as store:
        state = await store.load()
        print("readable", state.readable)
        print("alarms", list(state.alarms) == [LATCH], "desired", list(state.desired) == [DESIRED])
        assert store.trouble
        try:
            await store.save_desired(DESIRED)
        except StoreUnavailable:
            print("done")

asyncio.run(main())
"""

HISTORY_WAITS = """
import asyncio, resource, sys
from pathlib import Path
from twinbridge.adapters.store_sqlite import open_store
from twinbridge.errors import StoreUnavailable
from twinbridge.testing.store_contract import good

UNLIMITED = resource.getrlimit(resource.RLIMIT_FSIZE)

async def values(store):
    try:
        return [row.value for row in await store.history("pump-1", "t", 0, 9)]
    except StoreUnavailable:
        return []

async def main():
    async with open_store(Path(sys.argv[1])) as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, UNLIMITED[1]))
        for at in (1, 2):
            store.record_history("pump-1", [("t", good(at, at))])
            assert await values(store) == [], "not on disk"
            assert store.waiting_history == at
            assert "history.db" in store.trouble
        resource.setrlimit(resource.RLIMIT_FSIZE, UNLIMITED)
        assert await values(store) == [1, 2]
        assert (store.waiting_history, store.dropped_history, store.trouble) == (0, 0, "")
    print("done")

asyncio.run(main())
"""


def play(folder: Path, way: str, story: str = SCENARIO) -> str:
    result = subprocess.run(
        [sys.executable, "-c", story, str(folder), way],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.stdout.endswith("done\n"), result.stdout + result.stderr
    return result.stdout


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of 1 MiB, where this process may make one."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        raise PermissionError
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_file_that_may_not_grow_refuses_writers_and_recovers(tmp_path: Path) -> None:
    assert "refused: " in play(tmp_path, "limit")


def test_a_full_disk_refuses_writers_and_recovers(tmp_path: Path) -> None:
    try:
        with small_disk(tmp_path):
            assert "disk full" in play(tmp_path, "ballast")
    except PermissionError:  # without root, a file size limit makes the same fault
        assert "refused: " in play(tmp_path, "limit")


def test_history_waits_for_the_disk_and_keeps_its_order(tmp_path: Path) -> None:
    play(tmp_path, "", HISTORY_WAITS)


def test_a_start_on_a_disk_that_takes_no_byte_finds_what_a_killed_process_left(
    tmp_path: Path,
) -> None:
    play(tmp_path, "", LEFT_OPEN)
    assert (tmp_path / "state.db-wal").stat().st_size > 0
    said = play(tmp_path, "", NOT_ONE_BYTE)
    assert {"readable True", "alarms True desired True"} <= set(said.splitlines())


def test_a_damaged_file_on_a_disk_that_takes_no_byte_is_said_to_be_unreadable(
    tmp_path: Path,
) -> None:
    (tmp_path / "state.db").write_bytes(b"\xff" * 8192)
    assert play(tmp_path, "", NOT_ONE_BYTE).count("\nreadable False\n") == 1
