"""Server-Sent Events (WHATWG HTML, 9.2): the live view of twins, alarms and connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from twinbridge.app.events import EventLog, LoggedEvent
from twinbridge.ports import FellBehind

HEARTBEAT = 15.0
"""Seconds between comments on a quiet stream."""
STALLED = 30.0
"""Seconds after which a client that takes nothing is dropped."""


def parts(batch: Sequence[LoggedEvent], device: str | None, now: int) -> bytes:
    """A batch as it goes to the client; a comment when there is nothing for it."""
    wanted = [e for e in batch if device is None or e.device == device]
    if not wanted:
        return f"id: {batch[-1].id}\n\n".encode() if batch else b": \n\n"
    return b"".join(_part(event, now) for event in wanted)


def _part(event: LoggedEvent, now: int) -> bytes:
    head = f"event: {event.kind}\nid: {event.id}\ndata: ".encode()
    return head + orjson.dumps(event.view(now)) + b"\n\n"


def _start_anew(log: EventLog, why: str) -> bytes:
    told = orjson.dumps({"reason": why})
    return f"event: reset\nid: {log.last_id}\ndata: ".encode() + told + b"\n\n"


class EventStream(Response):
    """An endless answer. It ends when the client goes, stalls, or the log is closed."""

    media_type = "text/event-stream"

    def __init__(
        self, log: EventLog, now: Callable[[], int], *, device: str | None, after: str | None
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._log = log
        self._now = now
        self._device = device
        self._after = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        async with asyncio.TaskGroup() as tasks:
            gone = tasks.create_task(_until_gone(receive), name="events client")
            sending = tasks.create_task(self._stream(send), name="events stream")
            await asyncio.wait((gone, sending), return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            sending.cancel()

    async def _stream(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        with suppress(TimeoutError):
            async with aclosing(self._chunks()) as chunks:
                async for chunk in chunks:
                    async with asyncio.timeout(STALLED):
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        after = self._after
        if after is not None and not self._log.resumable(after):
            yield _start_anew(self._log, "what came after Last-Event-ID is gone; read again")
            after = None
        first = self._log.last_id if after is None else after
        yield f"retry: 2000\nid: {first}\n\n".encode()
        try:
            async with aclosing(self._log.follow(first, HEARTBEAT)) as batches:
                async for batch in batches:
                    yield parts(batch, self._device, self._now())
        except FellBehind:
            yield _start_anew(self._log, "this client was too slow; read again")


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
