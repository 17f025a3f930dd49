"""What the driver counts beside the app's own metrics, in the process's default registry."""

from __future__ import annotations

from prometheus_client import Counter

DROPPED = Counter(
    "twinbridge_mqtt_dropped_messages_total",
    "Messages let go because the queue was full; the latest of each topic was kept.",
)
EXPIRED = Counter(
    "twinbridge_mqtt_expired_messages_total", "Messages whose expiry was over before they counted."
)
LATE = Counter(
    "twinbridge_mqtt_late_values_total", "Values that were older than the last of their property."
)
AHEAD = Counter(
    "twinbridge_mqtt_future_timestamps_total",
    "Timestamps from the future; the time of receipt was taken instead.",
)
UNREADABLE = Counter(
    "twinbridge_mqtt_unreadable_values_total", "Values that a payload did not give as it should."
)
