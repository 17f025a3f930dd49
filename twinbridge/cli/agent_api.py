"""The client's side of the REST twin API: where it is, who asks, and what went wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from twinbridge.errors import (
    Conflict,
    InvalidInput,
    TwinBridgeError,
    UnknownName,
    Unreachable,
)

DEFAULT_API = "http://127.0.0.1:8470"

_KIND: dict[int, type[TwinBridgeError]] = {404: UnknownName, 409: Conflict, 412: Conflict}


@dataclass(frozen=True, slots=True)
class AgentApi:
    """Calls a running agent. Raises Unreachable, or what the agent's problem details say."""

    url: str = DEFAULT_API
    token_file: Path | None = None

    def get(self, path: str, **params: str | int) -> Any:  # noqa: ANN401 - JSON
        return self._call("GET", path, params=params)

    def patch(self, path: str, body: object) -> Any:  # noqa: ANN401 - JSON
        return self._call("PATCH", path, json=body)

    def post(self, path: str, body: object) -> Any:  # noqa: ANN401 - JSON
        return self._call("POST", path, json=body)

    def items(self, path: str, **params: str | int) -> list[Any]:
        """All pages of a list."""
        found: list[Any] = []
        token: str | None = ""
        while token is not None:
            more = {"continue": token} if token else {}
            page = self.get(path, **params, **more)
            found += page["items"]
            token = page.get("continue")
        return found

    @contextmanager
    def stream(self, path: str, headers: dict[str, str], **params: str) -> Iterator[Iterator[str]]:
        """The lines of an endless answer. A silence of 45 s counts as unreachable."""
        patience = httpx.Timeout(10.0, read=45.0)
        with self._reached(), self._client(patience) as client:
            sent = client.stream("GET", f"/api/v1{path}", params=params, headers=headers)
            with sent as response:
                if response.is_error:
                    response.read()
                    raise _problem(response)
                yield response.iter_lines()

    def _call(self, method: str, path: str, **request: Any) -> Any:  # noqa: ANN401 - JSON
        with self._reached(), self._client(httpx.Timeout(10.0)) as client:
            response = client.request(method, f"/api/v1{path}", **request)
        if response.is_error:
            raise _problem(response)
        if not response.content:
            return None
        try:
            return response.json()
        except json.JSONDecodeError:
            raise Unreachable(f"{self.url} answers, but is no TwinBridge agent") from None

    def _client(self, timeout: httpx.Timeout) -> httpx.Client:
        token = _token(self.token_file) if self.token_file else ""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # An agent on this machine or in this plant is never behind a proxy of the environment.
        return httpx.Client(base_url=self.url, headers=headers, timeout=timeout, trust_env=False)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise InvalidInput(f"--api {self.url}: {error}; write it as {DEFAULT_API}") from None
        except httpx.TransportError as error:
            raise Unreachable(
                f"no agent answers at {self.url} ({error}); is `twinbridge run` running there? "
                "Name another place with --api or TWINBRIDGE_API"
            ) from None


def _token(path: Path) -> str:
    """The first word of the first line that says something: a token, or `token role name`."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise InvalidInput(f"--token-file {path}: cannot be read") from None
    for line in lines:
        words = line.split()
        if words and not words[0].startswith("#"):
            return words[0]
    raise InvalidInput(f"--token-file {path}: holds no token")


def _problem(response: httpx.Response) -> TwinBridgeError:
    try:
        told = response.json()
        detail = str(told["detail"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return Unreachable(f"{response.url} answers {response.status_code}: no TwinBridge agent?")
    if told.get("allowed") and str(told["allowed"]) not in detail:
        detail += f"; allowed: {told['allowed']}"
    if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        return Unreachable(detail)
    return _KIND.get(response.status_code, InvalidInput)(detail)
