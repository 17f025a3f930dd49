"""A watch as it goes to its client: lines of JSON, for as long as both want it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing, suppress
from typing import Final

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from twinbridge.hub import asked, formats, refusals
from twinbridge.hub.asked import Target
from twinbridge.hub.formats import Format
from twinbridge.hub.refusals import Cause, Refused
from twinbridge.hub.store import HubStore
from twinbridge.hub.stored import Change, Stored
from twinbridge.hub.watch import Selection, Watcher, Watchers

BOOKMARKS: Final = 30.0
"""Seconds between bookmarks on a watch, for clients that ask for them."""
STALLED: Final = 30.0
"""Seconds after which a client that takes nothing is dropped."""
SHORTEST: Final = 1800
"""Seconds that a watch lasts if its client does not say; up to twice that, by chance, so that
clients that came together do not come back together."""
_FIRST_LINES: Final = 200
"""Objects that are encoded in one go."""


class Start:
    """Where a watch begins: what there is (`initial`), or what changed after a version."""

    def __init__(self, store: HubStore, chosen: Selection, query: Mapping[str, str]) -> None:
        """Raises Refused: 422 for options that do not go together, 410 for a version too old."""
        wanted = asked.version_of(query)
        send = query.get("sendInitialEvents")
        self.marks_end = send is not None and asked.flag(query, "sendInitialEvents")
        _check_options(query, send)
        bookmarks = asked.flag(query, "allowWatchBookmarks")
        self.marks_end = self.marks_end and bookmarks
        from_now = not wanted
        if send is not None:
            from_now = asked.flag(query, "sendInitialEvents")
        self.initial: list[Stored] = []
        self.missed: Iterable[Change] = ()
        self.version = store.version
        if wanted and wanted > store.version:
            told = f"Too large resource version: {wanted}, current: {store.version}"
            raise refusals.expired(told)
        if from_now:
            items = store.items(chosen.resource).values()
            self.initial = sorted(filter(chosen.has, items), key=lambda item: item.key)
        elif wanted:
            self.version = wanted
            self.missed = store.changes_since(wanted)


def _check_options(query: Mapping[str, str], send: str | None) -> None:
    match = query.get("resourceVersionMatch", "")
    told = ""
    if send is not None and match != "NotOlderThan":
        told = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
    if send is None and match:
        told = (
            "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is "
            "provided"
        )
    if told:
        cause = Cause("resourceVersionMatch", "FieldValueForbidden", told)
        raise refusals.invalid_options("ListOptions", [cause])


class WatchStream(Response):
    """Ends when its time is over, the client goes or stalls, or the hub stops."""

    media_type = "application/json"

    def __init__(
        self,
        store: HubStore,
        watchers: Watchers,
        target: Target,
        chosen: Selection,
        query: Mapping[str, str],
        form: Format,
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-cache, private"})
        del self.headers["content-length"]
        self._store = store
        self._watchers = watchers
        self._kind = target.kind
        self._chosen = chosen
        self._form = form
        self._bookmarks = asked.flag(query, "allowWatchBookmarks")
        self._seconds = asked.seconds_of(query) or SHORTEST * (1 + random.random())  # noqa: S311 - no secret
        self._query = query

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        async with asyncio.TaskGroup() as tasks:
            gone = tasks.create_task(_until_gone(receive), name="watch client")
            sending = tasks.create_task(self._stream(send), name="watch stream")
            await asyncio.wait((gone, sending), return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            sending.cancel()

    async def _stream(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        with suppress(TimeoutError):
            async with aclosing(self._lines()) as lines:
                async for line in lines:
                    async with asyncio.timeout(STALLED):
                        await send({"type": "http.response.body", "body": line, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _lines(self) -> AsyncGenerator[bytes, None]:
        try:
            start = Start(self._store, self._chosen, self._query)
        except Refused as refused:
            yield orjson.dumps({"type": "ERROR", "object": refused.status}) + b"\n"
            return
        watcher = self._watchers.open(self._chosen, start.version, start.missed)
        try:
            yield b""  # the head of the answer goes at once
            async for line in self._initial(start):
                yield line
            async for line in self._changes(watcher):
                yield line
        finally:
            self._watchers.leave(watcher)

    async def _initial(self, start: Start) -> AsyncGenerator[bytes, None]:
        for first in range(0, len(start.initial), _FIRST_LINES):
            some = start.initial[first : first + _FIRST_LINES]
            yield b"".join(formats.event(self._kind, "ADDED", i, self._form) for i in some)
        if start.marks_end:
            yield formats.bookmark(self._kind, start.version, self._form, initial_end=True)

    async def _changes(self, watcher: Watcher) -> AsyncGenerator[bytes, None]:
        clock = asyncio.get_running_loop().time
        end = clock() + self._seconds
        mark = clock() + BOOKMARKS
        while (left := end - clock()) > 0:
            # What is published is in every watcher's queue at once: an empty one has seen all.
            version = self._store.version if not watcher.waiting else 0
            if version and self._bookmarks and clock() >= mark:
                mark = clock() + BOOKMARKS
                yield formats.bookmark(self._kind, version, self._form)
            taken = await watcher.take(min(left, BOOKMARKS))
            if taken:
                yield b"".join(
                    formats.changed(self._kind, said, change, self._form) for said, change in taken
                )
            elif watcher.closed:
                return


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
