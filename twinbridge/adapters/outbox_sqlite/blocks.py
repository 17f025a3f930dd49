"""Records as rows: the samples of one device and flush are one row, a column for each field."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from twinbridge.adapters.state_rows import dumps, loads
from twinbridge.core.model import Quality, Reason, Sample

SAMPLES: Final = "samples"
ALARM: Final = "alarm"
AUDIT: Final = "audit"
GAP: Final = "gap"

BLOCK_SAMPLES: Final = 2_500
"""No row has more, so that a reader's limit means something."""

Named: TypeAlias = Sequence[tuple[str, Sample]]


class Waiting(NamedTuple):
    """Samples of one device, in memory until the next flush; times as of OutboxRecord."""

    device: str
    samples: Named
    at: int
    monotonic: int


class Block(NamedTuple):
    kind: str
    device: str
    at: int
    monotonic: int
    length: int
    body: bytes


def sample_blocks(waiting: Iterable[Waiting]) -> Iterator[Block]:
    """One for each device, of the time of its first sample; more if there are many samples."""
    devices: dict[str, tuple[int, int, list[tuple[str, Sample]]]] = {}
    for device, samples, at, monotonic in waiting:
        devices.setdefault(device, (at, monotonic, []))[2].extend(samples)
    for device, (at, monotonic, samples) in devices.items():
        for first in range(0, len(samples), BLOCK_SAMPLES):
            part = samples[first : first + BLOCK_SAMPLES]
            yield Block(SAMPLES, device, at, monotonic, len(part), pack_samples(part))


def record_block(
    kind: str, device: str, body: Mapping[str, object], at: int, monotonic: int
) -> Block:
    return Block(kind, device, at, monotonic, 1, zlib.compress(dumps(body), 1))


def pack_samples(samples: Named) -> bytes:
    """Columns of like things deflate well: about 10 bytes a sample."""
    names, readings = zip(*samples, strict=True)
    return zlib.compress(dumps([names, *zip(*readings, strict=True)]), 1)


def unpack_samples(body: bytes) -> Named:
    names, values, qualities, reasons, times, seqs, details = loads(zlib.decompress(body))
    readings = map(
        Sample, values, map(Quality, qualities), map(Reason, reasons), times, seqs, details
    )
    return list(zip(names, readings, strict=True))


def unpack_record(body: bytes) -> Mapping[str, object]:
    record: dict[str, object] = loads(zlib.decompress(body))
    return record
