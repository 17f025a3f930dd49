"""Requests to the hub over one pool of connections, and its watches."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import orjson
import structlog
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.rest import RESTResponse

from twinbridge.adapters.hub_kube.credentials import HubAddress, Token, configuration, identity
from twinbridge.adapters.hub_kube.failures import failure, seconds
from twinbridge.adapters.hub_kube.limits import Limits
from twinbridge.adapters.hub_kube.metrics import BYTES, REQUESTS
from twinbridge.adapters.hub_kube.transport import opened
from twinbridge.core.model import SECOND
from twinbridge.errors import HubUnavailable

log = structlog.get_logger()

JSON: Final = "application/json"
APPLY: Final = "application/apply-patch+yaml; charset=utf-8"
"""With a parameter the client library takes bytes for it; its own JSON is a seventh longer."""
REQUEST_HEADERS: Final = 370
ANSWER_HEADERS: Final = 170
"""Bytes, about, without a token."""
SKEW: Final = 5 * SECOND
"""By so much clocks may differ, an answer being on its way among it."""
LONGEST_LINE: Final = 16 * 2**20
"""Bytes of one event of a watch; etcd takes 1.5 MiB."""
_BAD, _UNAUTHORIZED = 400, 401


@dataclass(slots=True, eq=False)
class _Pool:
    api: ApiClient
    who: tuple[object, ...]
    users: int = 0
    replaced: bool = False


class Client:
    """Opened on the first request, and anew when other credentials are there."""

    def __init__(self, address: HubAddress, limits: Limits | None = None) -> None:
        self.address = address
        self.limits = limits or Limits()
        self.last_contact = 0
        """UTC ns."""
        self.heard = time.monotonic()
        self._date = ""
        self._hub_clock: int | None = None
        """ns by which it is ahead of the monotonic one, which nobody sets."""
        self._differed = False
        self.traffic = 0
        """Bytes both ways, with about what headers take."""
        self._pool: _Pool | None = None
        self._opening = asyncio.Lock()
        self._token = Token(address.token_file)

    @property
    def ahead(self) -> int:
        """By so many ns the hub's clock is ahead of ours now; 0 for less than `SKEW`."""
        if self._hub_clock is None:
            return 0
        ahead = self._hub_clock + time.monotonic_ns() - time.time_ns()
        return ahead if abs(ahead) > SKEW else 0

    async def close(self) -> None:
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.api.close()

    async def ask(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: object = None,
        *,
        content: str = JSON,
        accept: str = JSON,
    ) -> dict[str, Any]:
        """Raises HubUnavailable, NotFound, Conflicting, Gone, or HubRefused."""
        limits = self.limits
        timeout = aiohttp.ClientTimeout(
            total=limits.whole, sock_connect=limits.connect, sock_read=limits.request
        )
        if content == APPLY:
            body = orjson.dumps(body, default=str)
        for again in (True, False):
            async with self._sent(verb, path, query, body, content, accept, timeout) as answer:
                raw = await answer.read()
            self._note(len(raw) + ANSWER_HEADERS, _length(body) + REQUEST_HEADERS)
            if answer.status == _UNAUTHORIZED and again:
                await self._look_for_credentials()
                continue
            break
        self._raise_for(answer, raw, verb, path)
        REQUESTS.labels(verb, "ok").inc()
        return self._json(raw, f"{verb} {path}")

    @asynccontextmanager
    async def watch(
        self, path: str, query: Mapping[str, str], accept: str
    ) -> AsyncIterator[AsyncIterator[list[dict[str, Any]]]]:
        """The events of a watch, all that are there now at a time. Ends with the connection;
        raises HubUnavailable after `silence` seconds without a byte.
        """
        limits = self.limits
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=limits.connect, sock_read=limits.silence
        )
        async with self._sent("GET", path, query, None, JSON, accept, timeout) as answer:
            self._note(ANSWER_HEADERS, REQUEST_HEADERS)
            if answer.status != 200:  # noqa: PLR2004 - HTTP
                raw = await answer.read()
                if answer.status == _UNAUTHORIZED:
                    await self._look_for_credentials()
                self._raise_for(answer, raw, "WATCH", path)
            REQUESTS.labels("WATCH", "ok").inc()
            yield self._events(answer, path)

    async def _events(self, answer: RESTResponse, path: str) -> AsyncIterator[list[dict[str, Any]]]:
        rest = b""
        async for chunk in answer.response.content.iter_any():
            self._note(len(chunk), 0)
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > LONGEST_LINE:
                raise HubUnavailable(f"{self.address}: watch {path}: a line without an end")
            if events := [self._json(line, f"watch {path}") for line in lines if line.strip()]:
                yield events

    @asynccontextmanager
    async def _sent(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str] | None,
        body: object,
        content: str,
        accept: str,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the library's own limits
    ) -> AsyncIterator[RESTResponse]:
        pool = await self._opened()
        url = f"{pool.api.configuration.host}{path}{'?' if query else ''}{urlencode(query or {})}"
        headers = {"Accept": accept, "Content-Type": content, "User-Agent": "twinbridge"}
        if token := self._token.header() or _bearer(pool.api):
            headers["Authorization"] = token
        answer: RESTResponse | None = None
        pool.users += 1
        try:
            answer = await pool.api.rest_client.request(
                verb, url, headers=headers, body=body, _request_timeout=timeout
            )
            self._compare_clocks(answer.headers.get("Date") or "")
            yield answer
        except (aiohttp.ClientError, OSError, ValueError) as error:
            REQUESTS.labels(verb, "unreachable").inc()
            said = str(error) or "no answer in time"
            raise HubUnavailable(f"{self.address}: {verb} {path}: {said}") from error
        finally:
            pool.users -= 1
            if answer is not None:
                answer.response.close()  # what was read to its end has its connection back before
            if pool.replaced and not pool.users:
                await pool.api.close()

    async def _opened(self) -> _Pool:
        async with self._opening:
            if self._pool is None:
                found = await configuration(self.address)
                try:
                    self._pool = _Pool(opened(found), identity(found))
                except (OSError, ssl.SSLError) as error:
                    raise HubUnavailable(f"{self.address}: {error}") from error
            return self._pool

    async def _look_for_credentials(self) -> None:
        """Those that we have are not taken; the watches that still run keep theirs."""
        self._token.forget()
        if self.address.kubeconfig is None:
            return
        found = await configuration(self.address)
        async with self._opening:
            pool = self._pool
            if pool is not None and pool.who != identity(found):
                self._pool, pool.replaced = None, True
                if not pool.users:
                    await pool.api.close()

    def _raise_for(self, answer: RESTResponse, raw: bytes, verb: str, path: str) -> None:
        if 200 <= answer.status < 300:  # noqa: PLR2004 - HTTP
            return
        REQUESTS.labels(verb, str(answer.status)).inc()
        try:
            found = self._json(raw, path)
        except HubUnavailable:
            found = {"message": raw[:200].decode(errors="replace")}
        after = seconds(answer.headers.get("Retry-After"), self.limits)
        raise failure(answer.status, found, f"{verb} {path}", self.limits, after)

    def _compare_clocks(self, date: str) -> None:
        """By the header `Date`, which tells seconds."""
        if date == self._date:
            return
        self._date = date
        try:
            told = round(parsedate_to_datetime(date).timestamp() * SECOND)
        except (ValueError, OverflowError):
            return
        self._hub_clock = told - time.monotonic_ns()
        ahead = self.ahead
        if bool(ahead) != self._differed:
            log.warning("the hub's clock is not ours", ahead_seconds=round(ahead / SECOND))
        self._differed = bool(ahead)

    def _json(self, raw: bytes, what: str) -> dict[str, Any]:
        try:
            found = orjson.loads(raw)
        except orjson.JSONDecodeError:
            found = None
        if not isinstance(found, dict):
            start = raw[:80].decode(errors="replace")
            raise HubUnavailable(f"{self.address}: {what}: no Kubernetes API answers so: {start!r}")
        return found

    def _note(self, came: int, went: int) -> None:
        """Bytes that came and went with a sign of life."""
        self.last_contact, self.heard = time.time_ns(), time.monotonic()
        self.traffic += came + went
        BYTES.labels("in").inc(came)
        BYTES.labels("out").inc(went)


def _length(body: object) -> int:
    if isinstance(body, bytes):
        return len(body)
    return 0 if body is None else len(orjson.dumps(body, default=str))


def _bearer(api: ApiClient) -> str:
    return str(api.configuration.api_key.get("BearerToken", ""))
