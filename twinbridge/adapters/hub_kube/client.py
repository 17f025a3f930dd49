"""Requests to the hub, and what each kind of failure means."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import orjson
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.rest import RESTResponse

from twinbridge.adapters.hub_kube.credentials import HubAddress, Token, configuration
from twinbridge.adapters.hub_kube.metrics import BYTES, REQUESTS
from twinbridge.errors import HubRefused, HubUnavailable

TIMEOUT: Final = 15.0
"""Seconds for one request; a slow hub may take 5."""
CONNECT: Final = 5.0
FORBIDDEN_AGAIN: Final = 10.0
"""Seconds before something is asked for again for which we lack the right."""
JSON: Final = "application/json"
APPLY: Final = "application/apply-patch+yaml"
_NOT_FOUND, _CONFLICT, _GONE, _MANY = 404, 409, 410, 429
_UNAUTHORIZED, _FORBIDDEN, _SERVER, _BAD = 401, 403, 500, 400


class NotFound(HubRefused):
    """There is no such thing at the hub."""


class Conflicting(HubRefused):
    """409: `status` is what the hub says of it."""

    def __init__(self, message: str, status: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.status = status


class Gone(HubRefused):
    """410: that resource version is no longer kept."""


class Client:
    """One connection pool; opened on the first request, and anew when credentials change."""

    def __init__(self, address: HubAddress) -> None:
        self.address = address
        self.last_contact = 0
        """UTC ns."""
        self.heard = time.monotonic()
        self._api: ApiClient | None = None
        self._token = Token(address.token_file)

    async def close(self) -> None:
        if self._api is not None:
            api, self._api = self._api, None
            await api.close()

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
        timeout = aiohttp.ClientTimeout(total=TIMEOUT, sock_connect=CONNECT)
        for again in (True, False):
            async with self._sent(verb, path, query, body, content, accept, timeout) as answer:
                raw = await answer.read()
            self._note(raw, body)
            if answer.status == _UNAUTHORIZED and again:
                await self._renew()
                continue
            found: dict[str, Any] = _json(raw)
            raise_for(answer, found, f"{verb} {path}")
            REQUESTS.labels(verb, "ok").inc()
            return found
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def watch(
        self, path: str, query: Mapping[str, str], accept: str, silence: float
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The events of a watch, as lines of JSON; ends with the connection, or after `silence`
        seconds without a byte.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT, sock_read=silence)
        async with self._sent("GET", path, query, None, JSON, accept, timeout) as answer:
            if answer.status != 200:  # noqa: PLR2004 - HTTP
                raw = await answer.read()
                if answer.status == _UNAUTHORIZED:
                    await self._renew()
                raise_for(answer, _json(raw), f"watch {path}")
            self._note(b"", None)
            yield self._lines(answer)

    async def _lines(self, answer: RESTResponse) -> AsyncIterator[dict[str, Any]]:
        try:
            async for line in answer.response.content:
                self._note(line, None)
                if line.strip():
                    yield _json(line)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise HubUnavailable(f"{self.address}: watch: {error or 'silent'}") from error

    @asynccontextmanager
    async def _sent(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str] | None,
        body: object,
        content: str,
        accept: str,
        limits: aiohttp.ClientTimeout,
    ) -> AsyncIterator[RESTResponse]:
        api = await self._client()
        url = f"{api.configuration.host}{path}"
        if query:
            url = f"{url}?{urlencode(query)}"
        headers = {"Accept": accept, "Content-Type": content, "User-Agent": "twinbridge"}
        token = self._token.header() or _bearer(api)
        if token:
            headers["Authorization"] = token
        answer: RESTResponse | None = None
        try:
            answer = await api.rest_client.request(
                verb, url, headers=headers, body=body, _request_timeout=limits
            )
            yield answer
        except (aiohttp.ClientError, TimeoutError, ssl.SSLError, OSError) as error:
            REQUESTS.labels(verb, "unreachable").inc()
            said = str(error) or "no answer in time"
            raise HubUnavailable(f"{self.address}: {verb} {path}: {said}") from error
        finally:
            if answer is not None:
                answer.response.release() if answer.data is not None else answer.response.close()

    async def _client(self) -> ApiClient:
        if self._api is None:
            found = await configuration(self.address)
            found.retries = None
            try:
                self._api = ApiClient(found)
            except (OSError, ssl.SSLError) as error:
                raise HubUnavailable(f"{self.address}: {error}") from error
        return self._api

    async def _renew(self) -> None:
        """Look for other credentials: those that we have are not taken."""
        self._token.forget()
        if self.address.kubeconfig is not None:
            await self.close()

    def _note(self, raw: bytes, body: object) -> None:
        self.last_contact, self.heard = time.time_ns(), time.monotonic()
        BYTES.labels("in").inc(len(raw))
        if body is not None:
            BYTES.labels("out").inc(len(orjson.dumps(body, default=str)))


def raise_for(answer: RESTResponse, status: Mapping[str, Any], what: str) -> None:
    """Of an answer, or of what a watch tells as an ERROR."""
    code = answer.status
    if code < _BAD:
        return
    REQUESTS.labels(what.partition(" ")[0], str(code)).inc()
    raise_code(code, status, what, _seconds(answer.headers.get("Retry-After")))


def raise_code(
    code: int, status: Mapping[str, Any], what: str, retry_after: float | None = None
) -> None:
    said = f"{what}: {code} {status.get('message', '')}".strip()
    if code == _NOT_FOUND:
        raise NotFound(said)
    if code == _CONFLICT:
        raise Conflicting(said, status)
    if code == _GONE:
        raise Gone(said)
    if code in (_UNAUTHORIZED, _FORBIDDEN):
        raise HubUnavailable(said, retry_after=retry_after or FORBIDDEN_AGAIN)
    if code == _MANY or code >= _SERVER:
        raise HubUnavailable(said, retry_after=retry_after)
    raise HubRefused(said)


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isdecimal() else None


def _json(raw: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(raw) if raw else {}
    except orjson.JSONDecodeError:
        return {"message": raw[:200].decode(errors="replace")}
    return found if isinstance(found, dict) else {"message": str(found)[:200]}


def _bearer(api: ApiClient) -> str:
    return str(api.configuration.api_key.get("BearerToken", ""))
