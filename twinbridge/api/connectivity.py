"""How an edge node stands to its hub: a block of its EdgeNode, or a file beside the box.

The file has the form that edge operators know: the same fields in snake_case, `1GB` and `10s`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema
from pydantic.alias_generators import to_camel, to_snake

from twinbridge.api.base import Model
from twinbridge.api.durations import Duration
from twinbridge.api.problems import Problem, complaints
from twinbridge.api.yaml_source import Document, load_paths
from twinbridge.core.model import SECOND
from twinbridge.errors import InvalidDefinition

_SIZE: Final = r"^[0-9]+(\.[0-9]+)?(kB|MB|GB|TB|KiB|MiB|GiB|TiB|B)$"
_UNITS: Final = {
    "B": 1,
    **{f"{k}B": 1000**n for n, k in enumerate(("k", "M", "G", "T"), 1)},
    **{f"{k}iB": 1024**n for n, k in enumerate(("K", "M", "G", "T"), 1)},
}


def parse_size(text: object) -> int:
    """`1GB` → 1_000_000_000 bytes. Raises ValueError; a number without a unit is refused."""
    matched = re.fullmatch(_SIZE, text) if isinstance(text, str) else None
    if matched is None or not isinstance(text, str):
        raise ValueError(f"{text!r} is no size; write a number and its unit, e.g. 500MB or 1GiB")
    return int(float(text.removesuffix(matched[2])) * _UNITS[matched[2]])


Size: TypeAlias = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"type": "string", "pattern": _SIZE}),
]


def _snake(step: object) -> object:
    return to_snake(step) if isinstance(step, str) else step


def _steps(*names: str) -> dict[str, object]:
    return {"type": "string", "enum": [to_camel(name) for name in names]}


OnDisconnect: TypeAlias = Annotated[
    Literal["save_state", "buffer_queue", "local_mode"],
    BeforeValidator(_snake),
    WithJsonSchema(_steps("save_state", "buffer_queue", "local_mode")),
]
OnReconnect: TypeAlias = Annotated[
    Literal["sync_buffered_data", "fetch_missed_updates", "resume_cloud_sync"],
    BeforeValidator(_snake),
    WithJsonSchema(_steps("sync_buffered_data", "fetch_missed_updates", "resume_cloud_sync")),
]


class Online(Model):
    """While there is a connection."""

    sync_interval: Duration = Field(
        default="10s",
        validate_default=True,
        ge=SECOND,
        description="A Device's status goes up at most so often; conditions and trips at once.",
    )
    send_telemetry: bool = Field(default=True, description="Whether samples go to the sinks.")
    fetch_updates: bool = Field(
        default=True, description="Whether definitions and desired values are taken from the hub."
    )
    writes_per_second: float = Field(
        default=20.0,
        ge=0.1,
        le=1000,
        description="Status writes of all resources of this node together; above it the interval"
        " stretches.",
    )
    bytes_per_second: Size = Field(
        default="45kB",
        validate_default=True,
        ge=500,
        description="Bytes to and from the hub, above which values that merely move wait; 4kB are"
        " half of a line of 64 kbit/s. Conditions, trips and desired values never wait.",
    )


class Offline(Model):
    """While there is none."""

    buffer_data: bool = Field(default=True, description="Whether samples wait on disk.")
    buffer_max_size: Size = Field(
        default="1GB",
        validate_default=True,
        ge=1_000_000,
        description="Bytes that wait at most; the oldest samples go first, alarms and audit never.",
    )
    buffer_max_age: Duration = Field(
        default="168h",
        validate_default=True,
        gt=0,
        description="Samples wait for so long at most.",
    )
    local_processing_only: bool = Field(
        default=True, description="Rules, trips and local desired values go on; always so."
    )


class Connectivity(Model):
    """How the node stands to its hub."""

    mode: Literal["hybrid", "online", "offline"] = Field(
        default="hybrid",
        description="hybrid: with the hub when it is there, alone when not. online: the same, and"
        " the time alone is an error that readiness tells. offline: the hub is never asked.",
    )
    online: Online = Field(default_factory=Online, description="While there is a connection.")
    offline: Offline = Field(default_factory=Offline, description="While there is none.")
    on_disconnect: list[OnDisconnect] = Field(
        default=["save_state", "buffer_queue", "local_mode"],
        max_length=3,
        description="What happens then. saveState and localMode always do; without bufferQueue"
        " samples of the outage are not kept.",
    )
    on_reconnect: list[OnReconnect] = Field(
        default=["sync_buffered_data", "fetch_missed_updates", "resume_cloud_sync"],
        max_length=3,
        description="What happens then, in the order definitions, alarms, status, buffered data"
        " whatever the order here. Without syncBufferedData samples of an outage stay on disk"
        " until it is given; without fetchMissedUpdates nothing is taken from the hub.",
    )

    @property
    def buffers(self) -> bool:
        """Whether samples wait for a sink that is away."""
        return self.offline.buffer_data and "buffer_queue" in self.on_disconnect

    @property
    def fetches(self) -> bool:
        return self.online.fetch_updates and "fetch_missed_updates" in self.on_reconnect


def load_connectivity(path: Path) -> Connectivity:
    """Of a file; both spellings are taken. Raises InvalidDefinition with file, line and field."""
    documents, problems = load_paths([path])
    if problems:
        raise InvalidDefinition("; ".join(map(str, problems)))
    if len(documents) != 1 or not isinstance(documents[0].content, dict):
        raise InvalidDefinition(f"{path}: give one mapping with mode, online, offline")
    document = documents[0]
    content: object = document.content
    place: tuple[str, ...] = ()
    if isinstance(content, dict) and set(content) == {"connectivity"}:
        content, place = content["connectivity"], ("connectivity",)
    try:
        return Connectivity.model_validate(_camel(content))
    except ValidationError as error:
        raise InvalidDefinition(_said(error, document, content, place)) from None


def _camel(content: object) -> object:
    if isinstance(content, Mapping):
        return {_camel_word(key): _camel(value) for key, value in content.items()}
    return content


def _said(
    error: ValidationError, document: Document, content: object, place: tuple[str, ...]
) -> str:
    found = []
    for path, message in complaints(error, Connectivity):
        written = (*place, *_as_written(path, content))
        field = ".".join(map(str, written))
        found.append(Problem(document.file, document.line(written), "", field, message))
    return "; ".join(map(str, found))


def _as_written(path: Iterable[str | int], content: object) -> Iterator[str | int]:
    """The path in the spelling of the file."""
    for step in path:
        found: str | int = step
        if isinstance(content, Mapping):
            found = next((key for key in content if _camel_word(key) == step), step)
            content = content.get(found)
        yield found


def _camel_word(key: object) -> object:
    return to_camel(key) if isinstance(key, str) and "_" in key else key
