"""What the bus counts, in the library's own registry."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

FRAMES = Counter("twinbridge_bus_frames", "Messages with samples.", ["direction"])
FRAMES_IN, FRAMES_OUT = FRAMES.labels("in"), FRAMES.labels("out")
REFUSED = Counter(
    "twinbridge_bus_refused", "Messages on the bus that were not taken, by why.", ["why"]
)
GAPS = Counter(
    "twinbridge_bus_gaps", "Times that frames of a driver were lost, so that it told all again."
)
RECORDS = Counter(
    "twinbridge_bus_records", "Alarms, audit records and outcomes handed over.", ["direction"]
)
REPEATED = Counter("twinbridge_bus_repeated", "Records and requests that came again.", ["what"])
UNKEPT_LOST = Counter(
    "twinbridge_bus_unkept",
    "Records lost because a disk that takes nothing left more than memory may hold.",
)
WAITING = Gauge("twinbridge_bus_records_waiting", "Records that the agent does not have yet.")
HOP = Histogram(
    "twinbridge_bus_hop_seconds",
    "From the machines' word in a driver to the agent's twin, the first of each message.",
    buckets=(0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1, 5),
)
CONNECTED = Gauge("twinbridge_bus_connected", "1 while the bus' broker is there.")
