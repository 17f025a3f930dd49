"""Probes and metrics of a process that serves no API: a driver pod.

They answer as those of the agent do, over the little of HTTP/1.1 that a kubelet and Prometheus
speak: one request per connection, bounded in size, time and number. A web framework and its
server would cost such a process 20 MiB of memory, this costs 1 (measured).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple, TypeAlias

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from twinbridge.api.wire import Json
from twinbridge.errors import InvalidInput

HEAD_LIMIT = 8192
"""Bytes of a request's head."""
WITHIN = 5.0
"""Seconds in which a client gives its request, and takes the answer."""
CONNECTIONS = 32
"""At once; who comes above that is sent away."""

Verdict: TypeAlias = tuple[bool, Json]
"""Whether it is so, and what there is to say."""


@dataclass(frozen=True, slots=True)
class Health:
    """What the probes ask. They ask from a thread of their own: it only looks, and never waits."""

    live: Callable[[], Verdict]
    """Whether the process works; if not, it is better started anew."""
    ready: Callable[[], Verdict]
    """Whether it serves, and whether what must be kept can be kept."""


class Answer(NamedTuple):
    status: HTTPStatus
    media_type: str
    body: bytes


def verdict(found: Verdict) -> Answer:
    good, view = found
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    return Answer(status, "application/json", orjson.dumps(view))


def answer(health: Health, metrics: CollectorRegistry, path: str) -> Answer:
    """What `GET path` gives, at the root and under `/api/v1` alike."""
    match path.removeprefix("/api/v1"):
        case "/healthz":
            return verdict(health.live())
        case "/readyz":
            return verdict(health.ready())
        case "/metrics":
            return Answer(HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(metrics))
    return problem(HTTPStatus.NOT_FOUND, "allowed: /healthz, /readyz, /metrics")


def problem(status: HTTPStatus, detail: str) -> Answer:
    """RFC 9457."""
    view = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail}
    return Answer(status, "application/problem+json", orjson.dumps(view))


@asynccontextmanager
async def serve_probes(
    health: Health, metrics: CollectorRegistry, host: str, port: int
) -> AsyncIterator[str]:
    """At `host`:`port` (0: any free port) while the context lasts; gives the URL.

    On the running loop, which should be none of those that `health` judges. Raises InvalidInput
    when it cannot listen there.
    """
    probes = _Probes(health, metrics)
    try:
        server = await asyncio.start_server(probes.serve, host, port, limit=HEAD_LIMIT)
    except OSError as error:
        why = error.strerror or str(error)
        raise InvalidInput(f"--probes {host}:{port}: cannot listen there: {why}") from None
    try:
        there = server.sockets[0].getsockname()[1]
        yield f"http://[{host}]:{there}" if ":" in host else f"http://{host}:{there}"
    finally:
        server.close()


class _Probes:
    def __init__(self, health: Health, metrics: CollectorRegistry) -> None:
        self._health = health
        self._metrics = metrics
        self._connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= CONNECTIONS:
                with suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
                    async with asyncio.timeout(WITHIN):
                        await self._serve(reader, writer)
        finally:
            self._connections -= 1
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            most = f"at most {HEAD_LIMIT} bytes"
            said = problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, most)
            writer.write(_message(said, body=True))
        else:
            method, said = self._answer(head)
            writer.write(_message(said, body=method != "HEAD"))
        writer.write_eof()
        await writer.drain()
        await reader.read(HEAD_LIMIT)  # what the client still says, so that it sees no reset

    def _answer(self, head: bytes) -> tuple[str, Answer]:
        """The method that was asked, and what is said to it (RFC 9112, 3)."""
        line = head.partition(b"\r\n")[0].decode("ascii", "replace").split(" ")
        if len(line) != 3 or not line[2].startswith("HTTP/1."):  # noqa: PLR2004 - its three words
            return "", problem(HTTPStatus.BAD_REQUEST, "no request line of HTTP/1.1")
        method, target, _ = line
        if method not in ("GET", "HEAD"):
            return method, problem(HTTPStatus.METHOD_NOT_ALLOWED, "allowed: GET, HEAD")
        return method, answer(self._health, self._metrics, target.partition("?")[0])


def _message(said: Answer, *, body: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {said.status.value} {said.status.phrase}",
        f"Content-Type: {said.media_type}",
        f"Content-Length: {len(said.body)}",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    if said.status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD")
    head = "\r\n".join([*lines, "", ""]).encode()
    return head + said.body if body else head
