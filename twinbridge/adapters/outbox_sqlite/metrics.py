"""What the outbox counts, in the library's own registry."""

from __future__ import annotations

from prometheus_client import Counter

DROPPED = Counter(
    "twinbridge_outbox_dropped_samples",
    "Samples let go before every sink had them: the outbox was full, or they were too old.",
)
