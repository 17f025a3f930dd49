"""What `/metrics` shows of the adapters, which count for themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from twinbridge.adapters.store_sqlite import SqliteStore


class Coalescing(Protocol):
    @property
    def coalesced(self) -> int: ...


class EdgeCollector(Collector):
    """Reads the counters whenever somebody asks for the metrics."""

    def __init__(self, store: SqliteStore, bus: Coalescing) -> None:
        self._store = store
        self._bus = bus

    @override
    def collect(self) -> Iterator[Metric]:
        store = self._store
        yield GaugeMetricFamily(
            "twinbridge_store_trouble",
            "1 while the disk does not take what must be kept.",
            value=float(bool(store.trouble)),
        )
        yield GaugeMetricFamily(
            "twinbridge_store_queue_depth", "Writes that wait for the disk.", store.queue_depth
        )
        yield GaugeMetricFamily(
            "twinbridge_store_commit_seconds",
            "How long the last commit took.",
            store.last_commit_seconds,
        )
        yield CounterMetricFamily("twinbridge_store_commits", "Commits.", store.commits)
        yield CounterMetricFamily(
            "twinbridge_history_dropped",
            "Samples that history lost because the disk did not keep up.",
            store.dropped_history,
        )
        yield CounterMetricFamily(
            "twinbridge_bus_coalesced",
            "Samples that the agent never saw, since a newer one came.",
            self._bus.coalesced,
        )
