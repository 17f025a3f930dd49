"""Records as messages: topic and JSON. Pure. Timestamps of samples are ms since 1970 in UTC."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import Final

import orjson

from twinbridge.api.wire import Json
from twinbridge.core.model import MILLISECOND, Reason, Sample
from twinbridge.ports import OutboxBatch, OutboxRecord

SAMPLES_EACH: Final = 200
"""In one message: about 20 kB, which every broker takes."""
_PLURALS: Final = {"alarm": "alarms", "gap": "gaps"}
_SEPARATORS: Final = str.maketrans("/+#", "___")
"""What would be another level of a topic."""


def messages(batch: OutboxBatch, prefix: str, node: str) -> Iterator[tuple[str, bytes]]:
    """Each with (node, outbox, seq), which names it for ever: who has it already drops it."""
    for record in batch.records:
        common: Json = {
            "node": node,
            "outbox": batch.outbox,
            "live": batch.live,
            "boot": record.boot,
            "clockSynced": record.clock_synced,
        }
        place = "/".join((prefix, _PLURALS.get(record.kind, record.kind)))
        if record.device:
            common["device"] = record.device
            place += f"/{record.device.translate(_SEPARATORS)}"
        for seq, content in _contents(record):
            yield place, _encode({**common, "seq": seq, **content})


def _contents(record: OutboxRecord) -> Iterator[tuple[int, Json]]:
    if record.kind != "samples":
        yield record.seq, dict(record.body)
        return
    for first in range(0, len(record.samples), SAMPLES_EACH):
        part = record.samples[first : first + SAMPLES_EACH]
        yield record.seq + first, {"samples": list(_samples(part))}


def _samples(samples: Iterable[tuple[str, Sample]]) -> Iterator[Json]:
    for name, (value, quality, reason, source_time, _, detail) in samples:
        finite = not isinstance(value, float) or math.isfinite(value)
        view: Json = {
            "property": name,
            "value": value if finite else None,
            "quality": quality.value,
            "timestamp": source_time // MILLISECOND,
        }
        if reason is not Reason.NONE:
            view["reason"] = reason.value
        if detail:
            view["message"] = detail
        yield view


def _encode(content: Json) -> bytes:
    try:
        return orjson.dumps(content)
    except TypeError:  # an integer beyond 64 bits, or half of a surrogate pair
        return json.dumps(content, separators=(",", ":")).encode()
