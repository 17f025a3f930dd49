"""The YAML files that a process runs from, and noticing when somebody edits them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

Fingerprint: TypeAlias = frozenset[tuple[str, int, int]]

LOOK_EVERY = 1.0
"""Seconds between looks; an edit counts once two looks in a row saw the same."""


async def edits(paths: Sequence[str], wake: asyncio.Event) -> AsyncIterator[None]:
    """Yield after each settled edit of the files, and whenever `wake` is set (SIGHUP)."""
    known = await asyncio.to_thread(fingerprint, paths)
    before = known
    while True:
        asked = await _wait(wake)
        now = await asyncio.to_thread(fingerprint, paths)
        settled = now == before
        before = now
        if asked or (settled and now != known):
            known = now
            yield


async def _wait(wake: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(LOOK_EVERY):
            await wake.wait()
    except TimeoutError:
        return False
    wake.clear()
    return True


def fingerprint(paths: Sequence[str]) -> Fingerprint:
    """Name, size and time of every file; a file that vanishes meanwhile is left out."""
    return frozenset(_stats(paths))


def _stats(paths: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    for given in paths:
        path = Path(given)
        files = sorted(path.rglob("*.y*ml")) if path.is_dir() else [path]
        for file in files:
            try:
                stat = file.stat()
            except OSError:
                continue
            yield str(file), stat.st_mtime_ns, stat.st_size
