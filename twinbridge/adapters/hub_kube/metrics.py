"""What the hub client counts, in the process's default registry."""

from prometheus_client import Counter, Gauge

REQUESTS = Counter(
    "twinbridge_hub_client_requests_total", "Requests to the hub.", ["verb", "outcome"]
)
BYTES = Counter(
    "twinbridge_hub_client_bytes_total",
    "Bytes of bodies to and from the hub, before compression.",
    ["direction"],
)
LISTS = Counter("twinbridge_hub_client_lists_total", "Times that a kind was listed anew.", ["kind"])
WATCHES = Counter(
    "twinbridge_hub_client_watches_total", "Times that a kind's watch was begun.", ["kind"]
)
CONNECTED = Gauge(
    "twinbridge_hub_client_connected", "1 while every kind that the hub knows is followed."
)
