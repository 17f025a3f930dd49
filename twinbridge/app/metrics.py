"""What `/metrics` shows of the machines' side. One registry per process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

_FAST = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

POLL_SECONDS = Histogram(
    "twinbridge_poll_duration_seconds",
    "From sending a read request to having its answer.",
    buckets=_FAST,
    registry=REGISTRY,
)
POLLS = Counter("twinbridge_polls_total", "Read requests done.", registry=REGISTRY)
POLLS_LATE = Counter(
    "twinbridge_polls_late_total",
    "Polls that began more than 10 % of their interval, and at least 20 ms, late.",
    registry=REGISTRY,
)
POLLS_SKIPPED = Counter(
    "twinbridge_polls_skipped_total",
    "Polls left out because the one before took longer than the interval.",
    registry=REGISTRY,
)
ERRORS = Counter(
    "twinbridge_poll_errors_total", "Failed requests by kind.", ["kind"], registry=REGISTRY
)
SAMPLES = Counter("twinbridge_samples_total", "Changed samples.", registry=REGISTRY)
SAMPLES_LATE = Counter(
    "twinbridge_samples_late_total",
    "Readings dropped because the device had given a newer one before.",
    registry=REGISTRY,
)
SAMPLES_COALESCED = Counter(
    "twinbridge_samples_coalesced_total",
    "Samples of a storm that were replaced by a newer one before they were told.",
    registry=REGISTRY,
)
DETECT_TO_WRITE = Histogram(
    "twinbridge_trip_detect_to_write_seconds",
    "From the sample that fires a trip to its write being handed to the socket.",
    buckets=_FAST,
    registry=REGISTRY,
)
DETECT_TO_ACK = Histogram(
    "twinbridge_trip_detect_to_ack_seconds",
    "From the sample that fires a trip to the device's acknowledgement.",
    buckets=_FAST,
    registry=REGISTRY,
)
DETECT_TO_VERIFIED = Histogram(
    "twinbridge_trip_detect_to_verified_seconds",
    "From the sample that fires a trip to the machine seen stopped.",
    buckets=_FAST,
    registry=REGISTRY,
)
TRIPS = Counter("twinbridge_trips_total", "Trips by outcome.", ["outcome"], registry=REGISTRY)
CONNECTED = Gauge("twinbridge_devices_connected", "Devices that answer.", registry=REGISTRY)
DEVICES = Gauge("twinbridge_devices", "Devices served.", registry=REGISTRY)
MAILBOX = Gauge(
    "twinbridge_mailbox_depth", "Writes that wait for a link.", ["link"], registry=REGISTRY
)
RESTARTS = Counter(
    "twinbridge_task_restarts_total",
    "Tasks that failed and were started again.",
    ["task"],
    registry=REGISTRY,
)
JOURNAL_WAITING = Gauge(
    "twinbridge_journal_waiting", "Records that the disk has not taken yet.", registry=REGISTRY
)
DROPS = Counter(
    "twinbridge_drops_total",
    "Things let go because a queue was full.",
    ["queue"],
    registry=REGISTRY,
)
HUB_WRITES = Counter(
    "twinbridge_hub_status_writes_total",
    "Statuses by what the hub did with them.",
    ["outcome"],
    registry=REGISTRY,
)
HUB_CYCLE = Gauge(
    "twinbridge_hub_cycle_seconds",
    "Time between two statuses of one resource that changes all the time.",
    registry=REGISTRY,
)
HUB_EVENTS = Counter(
    "twinbridge_hub_events_total",
    "Kubernetes Events by what the hub did with them.",
    ["outcome"],
    registry=REGISTRY,
)
HUB_RIVAL = Gauge(
    "twinbridge_hub_rival",
    "1 while another process holds the Lease of this node, and nothing is taken or told.",
    registry=REGISTRY,
)
