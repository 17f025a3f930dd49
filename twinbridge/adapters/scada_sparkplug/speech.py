"""Messages as they are said: numbered, with their metrics in the order of time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from twinbridge.adapters.scada_sparkplug.device import ShownDevice
from twinbridge.adapters.scada_sparkplug.metrics import MESSAGES
from twinbridge.adapters.scada_sparkplug.payload import DataType, Metric, Payload, encode
from twinbridge.adapters.scada_sparkplug.topics import Topics, Verb
from twinbridge.adapters.scada_sparkplug.values import pack
from twinbridge.core.model import Sample, Value

BD_SEQ: Final = "bdSeq"
_SEQS: Final = 256
_LONGEST: Final = 1000
"""Metrics in one message of data."""


class Outgoing(NamedTuple):
    topic: str
    payload: bytes


class Speech:
    """One sequence of numbers over the node and its devices (tck-id-payloads-sequence-num)."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._seq = 0

    def begin(self, now: int, metrics: Sequence[Metric]) -> Outgoing:
        """NBIRTH: the numbers begin at 0. `now`, here and below: UTC ms."""
        self._seq = _SEQS - 1
        return self.of_node(Verb.NBIRTH, now, metrics)

    def of_node(self, verb: Verb, now: int, metrics: Sequence[Metric]) -> Outgoing:
        return self._numbered(verb, self._topics.of_node(verb), now, metrics)

    def of_device(
        self, verb: Verb, device: ShownDevice, now: int, metrics: Sequence[Metric] = ()
    ) -> Outgoing:
        return self._numbered(verb, self._topics.of_device(verb, device.id), now, metrics)

    def _numbered(self, verb: Verb, topic: str, now: int, metrics: Sequence[Metric]) -> Outgoing:
        self._seq = (self._seq + 1) % _SEQS
        MESSAGES.labels(verb).inc()
        return Outgoing(topic, encode(Payload(now, tuple(metrics), self._seq)))

    def death(self, bd_seq: int, now: int) -> Outgoing:
        """NDEATH: the will of a CONNECT, and the good-bye; it has no number."""
        payload = encode(Payload(now, (bd_seq_metric(bd_seq, now),)))
        return Outgoing(self._topics.of_node(Verb.NDEATH), payload)


def bd_seq_metric(bd_seq: int, now: int) -> Metric:
    return born(BD_SEQ, DataType.INT64, bd_seq, now)


def born(name: str, kind: DataType, value: Value, now: int, alias: int | None = None) -> Metric:
    """A metric of the node as its birth has it."""
    field, raw = pack(kind, value)
    return Metric(name, alias, now, kind, raw, field)


def in_order(
    device: ShownDevice, samples: Iterable[tuple[str, Sample]], now: int, *, historical: bool
) -> Iterator[Sequence[Metric]]:
    """Samples as the metrics of as few messages as may be.

    A metric is in a message twice only with a later timestamp, and the metrics stand in the
    order of time (5.9): a value that says otherwise, as after a clock was set back, begins
    another message.
    """
    metrics: list[Metric] = []
    latest: dict[int | None, int] = {}
    for name, sample in samples:
        metric = device.changed(name, sample, now, historical=historical)
        if metric is None:
            continue  # a property that the definition, as we know it, does not have
        at = metric.timestamp or 0
        if at <= latest.get(metric.alias, -1) or len(metrics) >= _LONGEST:
            yield sorted(metrics, key=_time)
            metrics, latest = [], {}
        metrics.append(metric)
        latest[metric.alias] = at
    if metrics:
        yield sorted(metrics, key=_time)


def _time(metric: Metric) -> int:
    return metric.timestamp or 0
