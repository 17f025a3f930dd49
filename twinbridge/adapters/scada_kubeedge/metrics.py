"""What the face counts, in the library's own registry."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

CONNECTED = Gauge("twinbridge_scada_kubeedge_connected", "1 while the broker is there.")
MESSAGES = Counter("twinbridge_scada_kubeedge_messages", "Messages that the face has sent.")
COALESCED = Counter(
    "twinbridge_scada_kubeedge_coalesced_samples",
    "Samples replaced by a newer one before they were sent; history has them.",
)
RESYNCS = Counter(
    "twinbridge_scada_kubeedge_resyncs",
    "Times that the face was so far behind that it read all twins anew.",
)
REQUESTS = Counter("twinbridge_scada_kubeedge_requests", "Requests answered.", ["code"])
DROPPED = Counter(
    "twinbridge_scada_kubeedge_dropped_requests", "Requests let go unanswered.", ["reason"]
)
UNSENT = Counter(
    "twinbridge_scada_kubeedge_unsent_messages",
    "Messages that the broker was not there to take, or has refused.",
)
