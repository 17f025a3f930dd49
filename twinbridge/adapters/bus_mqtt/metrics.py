"""What the bus counts, in the library's own registry."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

FRAMES = Counter("twinbridge_bus_frames", "Messages with samples.", ["direction"])
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
WAITING = Gauge("twinbridge_bus_records_waiting", "Records that the agent does not have yet.")
CONNECTED = Gauge("twinbridge_bus_connected", "1 while the bus' broker is there.")
