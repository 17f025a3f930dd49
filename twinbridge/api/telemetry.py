"""Where the history of the twins goes: the `telemetry` block of an EdgeNode."""

from __future__ import annotations

import re
from typing import Annotated, Final, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator

from twinbridge.api.base import Model
from twinbridge.api.scada import BROKER, BrokerUrl, NodePrefix

_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OURS: Final = frozenset({"device", "property", "edge_id", "edge_location"})


def _http_url(text: str) -> str:
    try:
        url = urlsplit(text)
        sound = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise ValueError("not a URL of an engine; allowed: http[s]://host[:port]/path")
    if "@" in url.netloc:
        raise ValueError("a password has no place in a resource; give the token in `tokenFile`")
    return text


HttpUrl: TypeAlias = Annotated[str, AfterValidator(_http_url)]


class Prometheus(Model):
    """Remote write 1.0, which Prometheus, VictoriaMetrics, Mimir and others take."""

    url: HttpUrl = Field(
        max_length=2048,
        description="Where to write: http[s]://host[:port]/api/v1/write; Prometheus takes it when"
        " started with --web.enable-remote-write-receiver.",
    )
    token_file: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="A file with the bearer token; read anew for each request.",
    )
    ca_file: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="PEM certificates to trust in place of the system's.",
    )
    labels: dict[str, str] = Field(
        default_factory=dict, max_length=32, description="Labels of each series, beside ours."
    )

    @field_validator("labels")
    @classmethod
    def _names(cls, labels: dict[str, str]) -> dict[str, str]:
        for name in labels:
            if not _LABEL.fullmatch(name) or name.startswith("__"):
                raise ValueError(
                    f"{name!r} is no label; allowed: letters, digits and _, no __ first"
                )
            if name in _OURS:
                raise ValueError(f"{name} is TwinBridge's own label; allowed: any other name")
        return labels


class MqttUpstream(Model):
    """Samples, alarms, audit and gaps as JSON on the topics of a broker upstream, with QoS 1."""

    broker: BrokerUrl = Field(max_length=2048, description=BROKER)
    prefix: NodePrefix = Field(
        default="twinbridge/upstream/v1/{node}",
        description="Where all topics begin; {node} stands for this edge node.",
    )


class Telemetry(Model):
    """Each engine is served if its block is."""

    prometheus: Prometheus | None = Field(default=None, description="Prometheus remote write.")
    mqtt: MqttUpstream | None = Field(default=None, description="A broker upstream.")
