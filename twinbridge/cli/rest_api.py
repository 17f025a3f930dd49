"""The REST API of a process, with its metrics, for as long as it runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from prometheus_client import REGISTRY as LIBRARY_REGISTRY
from prometheus_client.registry import Collector

from twinbridge.app.metrics import REGISTRY
from twinbridge.app.service import TwinService
from twinbridge.rest.app import create_app
from twinbridge.rest.probes import Health
from twinbridge.rest.server import serve
from twinbridge.rest.tokens import Tokens


class Address(Protocol):
    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...

    @property
    def token_file(self) -> Path | None: ...


@dataclass(frozen=True, slots=True)
class Served:
    service: TwinService
    health: Health
    metrics: Sequence[Collector]


@asynccontextmanager
async def rest_running(served: Served, at: Address) -> AsyncIterator[str]:
    """Gives the URL. Raises InvalidInput when it cannot listen there."""
    tokens = Tokens(at.token_file) if at.token_file else None
    # Drivers and faces count in the library's own registry, which shows the process as well.
    parts = (*served.metrics, LIBRARY_REGISTRY)
    for part in parts:
        REGISTRY.register(part)
    try:
        app = create_app(served.service, tokens=tokens, metrics=REGISTRY, health=served.health)
        async with serve(app, at.host, at.port) as address:
            yield str(address)
    finally:
        for part in parts:
            REGISTRY.unregister(part)
