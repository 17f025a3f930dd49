"""Samples as time series: one for each property, in the order of their own times."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any, Final

from twinbridge.adapters.sink_remote_write.schema import WriteRequest
from twinbridge.core.model import MILLISECOND, Quality, Sample
from twinbridge.ports import OutboxRecord

METRIC: Final = "twinbridge_reported"
STALE: Final[float] = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
"""Prometheus' marker of a series that has no value now."""


def write_request(records: Iterable[OutboxRecord], labels: Mapping[str, str]) -> Any:  # noqa: ANN401 - a message class made at runtime
    """Numbers and booleans; strings, and what has no value, are not told. Times in ms.

    A bad sample is a stale marker of its own time. Of two samples of one property within a
    millisecond the later one counts.
    """
    columns: dict[tuple[str, str], dict[int, float]] = {}
    for record in records:
        for name, sample in record.samples:
            number = _number(sample)
            if number is not None:
                column = columns.setdefault((record.device, name), {})
                column[sample.source_time // MILLISECOND] = number
    request = WriteRequest()
    for (device, name), column in columns.items():
        own = {"__name__": METRIC, "device": device, "property": name}
        _add(request, {**labels, **own}, sorted(column.items()))
    return request


def probe(name: str, at: int, labels: Mapping[str, str]) -> Any:  # noqa: ANN401 - as above
    """One sample of a series of that name, UTC ns."""
    request = WriteRequest()
    _add(request, {**labels, "__name__": name}, [(at // MILLISECOND, 0.0)])
    return request


def _add(request: Any, labels: Mapping[str, str], samples: Iterable[tuple[int, float]]) -> None:  # noqa: ANN401 - as above
    series = request.timeseries.add()
    for label, text in sorted(labels.items()):
        series.labels.add(name=label, value=text)
    for timestamp, number in samples:
        series.samples.add(value=number, timestamp=timestamp)


def _number(sample: Sample) -> float | None:
    if sample.value is None or isinstance(sample.value, str):
        return None
    if sample.quality is Quality.BAD:
        return STALE
    try:
        return float(sample.value)
    except OverflowError:  # an integer beyond a double's range
        return None
