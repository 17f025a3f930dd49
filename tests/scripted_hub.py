"""A hub of a few pages that lists, watches and misbehaves on command."""

from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web
from hub_stage import API_VERSION, PLURALS

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable

KINDS = {plural: kind for kind, plural in PLURALS.items()}


@dataclass
class Asked:
    verb: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any = None

    @property
    def plural(self) -> str:
        return self.path.split("/")[6] if self.path.startswith("/apis/devices") else ""

    @property
    def is_watch(self) -> bool:
        return "watch" in self.query

    @property
    def is_list(self) -> bool:
        return self.verb == "GET" and not self.is_watch and self.path.endswith(self.plural)


def status(code: int, message: str = "", **more: Any) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "code": code, "message": message} | more
    return web.json_response(body, status=code)


@dataclass
class ScriptedHub:
    """`fault` answers in place of the hub where it returns something."""

    fault: Callable[[Asked], web.Response | None] = lambda _: None
    delay: float = 0.0
    watch_for: float = 60.0
    """Seconds after which every watch is closed, whatever was asked for."""
    mute: str = ""
    """The kind whose watch says nothing, and does not end."""
    oldest: int = 0
    """Watches from before are told 410 by an event."""
    asked: list[Asked] = field(default_factory=list)
    url: str = ""
    _resources: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    _told: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))
    _version: int = 0
    _bell: asyncio.Event = field(default_factory=asyncio.Event)

    # What a person does.

    def put(self, document: dict[str, Any], *, generation: bool = True) -> None:
        key = (PLURALS[document["kind"]], document["metadata"]["name"])
        old = self._resources.get(
            key, {"metadata": {"generation": 0, "uid": f"u{len(self._told)}"}}
        )
        self._version = next(self._numbers)
        metadata = {
            "generation": old["metadata"]["generation"] + generation,
            "uid": old["metadata"]["uid"],
            "resourceVersion": str(self._version),
            "managedFields": [{"manager": "someone"}],
        }
        found = {**document, "metadata": {**document["metadata"], **metadata}, "status": {"a": 1}}
        kind = "MODIFIED" if key in self._resources else "ADDED"
        self._resources[key] = found
        self._tell(kind, found)

    def delete(self, kind: str, name: str) -> None:
        found = self._resources.pop((PLURALS[kind], name))
        self._version = next(self._numbers)
        self._tell("DELETED", found)

    def forget_history(self) -> None:
        self._version = next(self._numbers)
        self.oldest = self._version

    def _tell(self, kind: str, found: dict[str, Any]) -> None:
        self._told.append((self._version, kind, found))
        self._bell.set()
        self._bell = asyncio.Event()

    # What tests look at.

    def count(self, holds: Callable[[Asked], bool]) -> int:
        return sum(holds(one) for one in self.asked)

    # What the hub does.

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.text() or "null")
        asked = Asked(
            request.method, request.path, dict(request.query), dict(request.headers), body
        )
        self.asked.append(asked)
        if self.delay:
            await asyncio.sleep(self.delay)
        if (odd := self.fault(asked)) is not None:
            return odd
        if not asked.plural:
            return web.json_response(body or {})
        if asked.is_watch:
            return await self._watch(request, asked)
        if asked.is_list:
            return self._list(asked)
        found = self._resources.get((asked.plural, asked.path.split("/")[7]))
        return status(404, "not found") if found is None else web.json_response(found)

    def _list(self, asked: Asked) -> web.Response:
        items = [one for (plural, _), one in self._resources.items() if plural == asked.plural]
        start, limit = int(asked.query.get("continue", 0)), int(asked.query["limit"])
        metadata = {"resourceVersion": str(self._version)}
        if start + limit < len(items):
            metadata["continue"] = str(start + limit)
        page = {"kind": f"{KINDS[asked.plural]}List", "metadata": metadata}
        return web.json_response(page | {"items": items[start : start + limit]})

    async def _watch(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        since = int(asked.query["resourceVersion"])
        if since < self.oldest:
            gone = {"kind": "Status", "code": 410, "message": "too old resource version"}
            await answer.write(_line("ERROR", gone))
            return answer
        loop = asyncio.get_running_loop()
        while self.mute == asked.plural:  # noqa: ASYNC110 - the test changes it
            await asyncio.sleep(0.01)
        ends = loop.time() + min(self.watch_for, float(asked.query["timeoutSeconds"]))
        while loop.time() < ends:
            bell = self._bell
            news = [one for one in self._told if one[0] > since]
            for version, kind, found in news:
                since = version
                if PLURALS[found["kind"]] == asked.plural:
                    await answer.write(_line(kind, _metadata_of(found)))
            try:
                async with asyncio.timeout_at(ends):
                    await bell.wait()
            except TimeoutError:
                break
        return answer

    @asynccontextmanager
    async def serving(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedHub]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


def _line(kind: str, found: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": found}).encode() + b"\n"


def _metadata_of(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "meta.k8s.io/v1",
        "kind": "PartialObjectMetadata",
        "metadata": found["metadata"],
    }


__all__ = ["API_VERSION", "Asked", "ScriptedHub", "status"]
