"""Which sinks an EdgeNode names, and how each is opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from twinbridge.api.broker import parse_url
from twinbridge.api.telemetry import MqttUpstream, Prometheus, Telemetry
from twinbridge.ports import Sink

MQTT_REWIND_SECONDS = 60.0
"""Two keep-alives of the connection upstream: a broker may be gone so long before it is missed."""


@dataclass(frozen=True, slots=True)
class Target:
    """A sink to be opened; raises OSError, or ModuleNotFoundError where an extra is missing.

    `rewind`: seconds of what it acknowledged that are kept for it. `journal`: whether it takes
    alarms and audit.
    """

    name: str
    url: str
    open: Callable[[], AbstractAsyncContextManager[Sink]]
    rewind: float = 0.0
    journal: bool = False


def targets_of(telemetry: Telemetry, node: str, site: str) -> Sequence[Target]:
    found: list[Target] = []
    if (engine := telemetry.prometheus) is not None:
        labels = {"edge_id": node, "edge_location": site, **engine.labels}
        found.append(Target("prometheus", engine.url, lambda: _prometheus(engine, labels)))
    if (broker := telemetry.mqtt) is not None:
        url = parse_url(broker.broker).endpoint
        mqtt = Target("mqtt", url, lambda: _mqtt(broker, node), MQTT_REWIND_SECONDS, journal=True)
        found.append(mqtt)
    return found


def cannot_open(error: ModuleNotFoundError | OSError) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is missing: pip install 'twinbridge[telemetry]'"
    return str(error)


@asynccontextmanager
async def _prometheus(engine: Prometheus, labels: dict[str, str]) -> AsyncIterator[Sink]:
    from twinbridge.adapters.sink_remote_write import open_remote_write

    async with open_remote_write(
        engine.url, labels, token_file=_path(engine.token_file), ca_file=_path(engine.ca_file)
    ) as sink:
        yield sink


@asynccontextmanager
async def _mqtt(upstream: MqttUpstream, node: str) -> AsyncIterator[Sink]:
    from twinbridge.adapters.sink_mqtt import open_mqtt_upstream

    prefix = upstream.prefix.replace("{node}", node)
    async with open_mqtt_upstream(parse_url(upstream.broker), prefix, node) as sink:
        yield sink


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
