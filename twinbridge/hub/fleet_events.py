"""Server-Sent Events of a fleet (WHATWG HTML, 9.2): each change of a Device as its twin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing, suppress
from typing import Final

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from twinbridge.hub.refusals import Refused
from twinbridge.hub.store import HubStore
from twinbridge.hub.stored import Change, Stored
from twinbridge.hub.watch import Said, Selection, Watchers

HEARTBEAT: Final = 15.0
"""Seconds between comments on a quiet stream."""
STALLED: Final = 30.0
"""Seconds after which a client that takes nothing is dropped."""

View = Callable[[Stored], object]


class FleetEvents(Response):
    """An endless answer. It ends when the client goes or stalls, or the hub stops."""

    media_type = "text/event-stream"

    def __init__(
        self,
        store: HubStore,
        watchers: Watchers,
        chosen: Selection,
        view: View,
        after: str | None,
    ) -> None:
        """`after`: the id of the last event that the client saw."""
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._store = store
        self._watchers = watchers
        self._chosen = chosen
        self._view = view
        self._after = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        async with asyncio.TaskGroup() as tasks:
            gone = tasks.create_task(_until_gone(receive), name="fleet events client")
            sending = tasks.create_task(self._stream(send), name="fleet events stream")
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
        missed, lost = self._missed()
        watcher = self._watchers.open(self._chosen, self._store.version, missed)
        try:
            if lost:
                told = orjson.dumps({"reason": "what came after Last-Event-ID is gone; read again"})
                yield b"event: reset\ndata: " + told + b"\n\n"
            first = self._store.version if lost or self._after is None else self._after
            yield f"retry: 2000\nid: {first}\n\n".encode()
            while not watcher.closed:
                taken = await watcher.take(HEARTBEAT)
                yield b"".join(map(self._part, taken)) or b": \n\n"
        finally:
            self._watchers.leave(watcher)

    def _missed(self) -> tuple[Iterable[Change], bool]:
        """What the client has not seen, and whether that cannot be told."""
        if self._after is None:
            return (), False
        if not self._after.isdecimal() or int(self._after) > self._store.version:
            return (), True
        try:
            return list(self._store.changes_since(int(self._after))), False
        except Refused:
            return (), True

    def _part(self, said: Said) -> bytes:
        item = said.change.item
        head = f"event: {'gone' if said.kind == 'DELETED' else 'twin'}\nid: {item.version}\ndata: "
        key = item.key
        shown = (
            {"name": key.name, "namespace": key.namespace}
            if said.kind == "DELETED"
            else self._view(item)
        )
        return head.encode() + orjson.dumps(shown) + b"\n\n"


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
