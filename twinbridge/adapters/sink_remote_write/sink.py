"""The sink: one POST for each batch."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import cramjam
import httpx
from typing_extensions import override

from twinbridge.adapters.sink_remote_write.series import probe, write_request
from twinbridge.errors import HubRefused, HubUnavailable
from twinbridge.ports import OutboxBatch, OutboxRecord, Sink

TIMEOUT_SECONDS: Final = 30.0
PROBE: Final = "twinbridge_late_samples_probe"
"""The series that tells whether an engine takes late samples; its value means nothing."""
_NEVER: Final = re.compile(
    r"out.of.(order|bounds)|too.(far.)?(old|behind)|duplicate.(sample|time)", re.IGNORECASE
)
"""How Prometheus and Mimir word that a sample's time is past taking."""
_CONFLICT: Final = 409
"""Thanos' answer to the same."""
_TOLD: Final = 300
"""So many characters of an answer's text are repeated in an error."""
_HEADERS: Final = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
    "User-Agent": "twinbridge",
}


class RemoteWrite(Sink):
    """`labels` come beside `device` and `property`: `edge_id`, `edge_location`, and a person's."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: str,
        labels: Mapping[str, str],
        token_file: Path | None = None,
    ) -> None:
        self._client = client
        self._url = url
        self._labels = {name: text for name, text in labels.items() if text}
        self._token_file = token_file

    @property
    @override
    def name(self) -> str:
        return "prometheus"

    @property
    @override
    def kinds(self) -> frozenset[str]:
        return frozenset({"samples"})

    @property
    @override
    def connection(self) -> int:
        return 0

    @override
    async def takes_late(self, since: int) -> bool:
        try:
            for at in (time.time_ns(), since):
                await self.post(_compressed(probe(PROBE, at, self._labels)))
        except HubRefused:
            return False
        return True

    @override
    async def send(self, batch: OutboxBatch) -> None:
        body = await asyncio.to_thread(encoded, batch.records, self._labels)
        if body:
            await self.post(body)

    async def post(self, body: bytes) -> None:
        """A request as `encoded` makes it. Raises HubUnavailable, HubRefused."""
        try:
            headers = _HEADERS | await asyncio.to_thread(self._authorization)
            answer = await self._client.post(self._url, content=body, headers=headers)
        except (httpx.HTTPError, OSError) as error:
            raise HubUnavailable(f"{self._url}: {error or type(error).__name__}") from error
        _judge(self._url, answer)

    def _authorization(self) -> dict[str, str]:
        """Read each time: tokens are renewed in place."""
        if self._token_file is None:
            return {}
        token = self._token_file.read_text(encoding="utf-8").strip()
        return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def open_remote_write(
    url: str,
    labels: Mapping[str, str],
    *,
    token_file: Path | None = None,
    ca_file: Path | None = None,
) -> AsyncIterator[RemoteWrite]:
    """Raises OSError if the CA file cannot be read."""
    trust = ssl.create_default_context(cafile=ca_file)
    async with httpx.AsyncClient(verify=trust, timeout=TIMEOUT_SECONDS, trust_env=False) as client:
        yield RemoteWrite(client, url, labels, token_file)


def encoded(records: Sequence[OutboxRecord], labels: Mapping[str, str]) -> bytes:
    """Of what an engine of numbers can be told; empty for nothing. Runs in a thread."""
    request = write_request(records, labels)
    return _compressed(request) if request.timeseries else b""


def _compressed(request: Any) -> bytes:  # noqa: ANN401 - a message class made at runtime
    return bytes(cramjam.snappy.compress_raw(request.SerializeToString()))


def _judge(url: str, answer: httpx.Response) -> None:
    """Raises HubUnavailable for what may pass by itself or by a person's new token."""
    if answer.is_success:
        return
    said = f"{url}: {answer.status_code} {answer.text[:_TOLD].strip()}"
    if answer.status_code in {401, 403, 404, 408, 429} or not answer.is_client_error:
        raise HubUnavailable(said, retry_after=_retry_after(answer))
    late = answer.status_code == _CONFLICT or bool(_NEVER.search(answer.text[:_TOLD]))
    raise HubRefused(said, for_good=late)


def _retry_after(answer: httpx.Response) -> float | None:
    """A date is passed over: our clock need not be theirs."""
    given = answer.headers.get("Retry-After", "")
    return float(given) if given.isdecimal() else None
