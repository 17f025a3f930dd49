"""Telemetry to whatever takes Prometheus remote write 1.0: Prometheus, VictoriaMetrics, Mimir."""

from __future__ import annotations

from twinbridge.adapters.sink_remote_write.sink import RemoteWrite, open_remote_write

__all__ = ["RemoteWrite", "open_remote_write"]
