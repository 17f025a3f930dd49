"""What the hub client counts."""

from prometheus_client import Counter, Gauge

REQUESTS = Counter("twinbridge_hub_requests", "Requests to the hub.", ["verb", "outcome"])
BYTES = Counter("twinbridge_hub_bytes", "Bytes of bodies to and from the hub.", ["direction"])
LISTS = Counter("twinbridge_hub_lists", "Times that a kind was listed anew.", ["kind"])
WATCHES = Counter("twinbridge_hub_watches", "Times that a kind's watch was begun.", ["kind"])
CONNECTED = Gauge("twinbridge_hub_connected", "1 while every kind is listed and watched.")
