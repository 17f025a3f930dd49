"""What every long-running command needs: signals, errors in one line, a bounded farewell."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager

import structlog

from twinbridge.errors import StoreUnavailable, TwinBridgeError

log = structlog.get_logger()

STOP_WITHIN = 1.5
"""Seconds; with the links and clients that hang, all of a stop takes 5 at most."""
YOUNG_OBJECTS = 10_000
"""Allocations between two looks of the collector; samples live long or not at all."""


def stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    return stop


@contextmanager
def known_errors_alone() -> Iterator[None]:
    """A task group wraps whatever ends it; an error that has one line is raised as itself."""
    try:
        yield
    except ExceptionGroup as group:
        known, others = group.split(TwinBridgeError)
        if known is None or others is not None:
            raise
        first: BaseException = known
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


async def kept(drained: Awaitable[None]) -> None:
    """On a stop, put on disk what is not yet there; not for ever."""
    try:
        async with asyncio.timeout(STOP_WITHIN):
            await drained
    except (StoreUnavailable, TimeoutError) as error:
        log.error("not everything could be kept on disk", why=str(error))  # noqa: TRY400


def settle_memory() -> None:
    """The definitions live as long as the process: the collector need not look at them again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
