"""Recorded samples as chunks: one per device and flush, a column of numbers per property."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from twinbridge.adapters.state_rows import dumps, loads
from twinbridge.core.model import Quality, Sample, Value
from twinbridge.ports import HistoryRow

Batch: TypeAlias = tuple[str, Sequence[tuple[str, Sample]]]

_QUALITIES = tuple(Quality)
_CODES = {quality: code for code, quality in enumerate(_QUALITIES)}


class Chunk(NamedTuple):
    device: str
    first: int
    last: int
    body: bytes
    samples: int


def chunks(batches: Iterable[Batch]) -> Iterator[Chunk]:
    """Group samples by device and property.

    The body is {name: [t, value, quality, t, value, quality, …]}, t in ns after the chunk's
    first, as JSON, deflated: about 10 bytes a sample.
    """
    devices: dict[str, list[tuple[str, Sample]]] = {}
    for device, samples in batches:
        devices.setdefault(device, []).extend(samples)
    for device, recorded in devices.items():
        times = [sample[3] for _, sample in recorded]
        first, last = min(times), max(times)
        columns: dict[str, list[object]] = {}
        for (name, sample), time in zip(recorded, times, strict=True):
            column = columns.get(name)
            if column is None:
                column = columns[name] = []
            column += (time - first, sample[0], _CODES[sample[1]])
        body = zlib.compress(dumps(columns), 1)
        yield Chunk(device, first, last, body, len(recorded))


def rows(first: int, body: bytes, name: str) -> Iterator[HistoryRow]:
    """One property's samples out of a chunk, in the order of recording."""
    column = loads(zlib.decompress(body)).get(name, ())
    triples = zip(column[0::3], column[1::3], column[2::3], strict=True)
    for offset, value, code in triples:
        number = _number(value)
        quality = _QUALITIES[code]
        yield HistoryRow(first + offset, value, quality, number, number, number)


def steps(recorded: Iterable[HistoryRow], start: int, step: int) -> list[HistoryRow]:
    """One row per step that has samples, stamped with the step's beginning.

    The value is the last one, the quality the worst; minimum, average and maximum are of the
    numbers that are not bad; `samples` counts all. `recorded` must be in order of time.
    """
    by_step: dict[int, list[HistoryRow]] = {}
    for row in recorded:
        by_step.setdefault((row.timestamp - start) // step, []).append(row)
    return [_step(start + number * step, members) for number, members in by_step.items()]


def _step(timestamp: int, members: Sequence[HistoryRow]) -> HistoryRow:
    numbers = [
        row.average for row in members if row.average is not None and row.quality != Quality.BAD
    ]
    worst = max((row.quality for row in members), key=lambda quality: _CODES[Quality(quality)])
    return HistoryRow(
        timestamp,
        members[-1].value,
        worst,
        min(numbers, default=None),
        sum(numbers) / len(numbers) if numbers else None,
        max(numbers, default=None),
        len(members),
    )


def _number(value: Value | None) -> float | None:
    return None if value is None or isinstance(value, bool | str) else float(value)
