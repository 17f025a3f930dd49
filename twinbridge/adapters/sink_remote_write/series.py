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

    Of two samples of one property within a millisecond the later one counts.
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
        series = request.timeseries.add()
        own = {**labels, "__name__": METRIC, "device": device, "property": name}
        for label, text in sorted(own.items()):
            series.labels.add(name=label, value=text)
        for timestamp, number in sorted(column.items()):
            series.samples.add(value=number, timestamp=timestamp)
    return request


def _number(sample: Sample) -> float | None:
    if sample.value is None or isinstance(sample.value, str):
        return None
    if sample.quality is Quality.BAD:
        return STALE
    try:
        return float(sample.value)
    except OverflowError:  # an integer beyond a double's range
        return None
