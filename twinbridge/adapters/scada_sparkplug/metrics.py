"""What the face counts, in the library's own registry."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

CONNECTED = Gauge("twinbridge_scada_sparkplug_connected", "1 while the broker is there.")
CONNECTIONS = Counter(
    "twinbridge_scada_sparkplug_connections", "Times that the broker was reached."
)
MESSAGES = Counter(
    "twinbridge_scada_sparkplug_messages", "Messages that the face has sent, by verb.", ["verb"]
)
SAMPLES = Counter(
    "twinbridge_scada_sparkplug_samples",
    "Samples sent: live, or historical after an outage.",
    ["kind"],
)
KEPT = Gauge(
    "twinbridge_scada_sparkplug_kept_samples", "Samples that wait to be sent as historical."
)
LOST = Counter(
    "twinbridge_scada_sparkplug_lost_samples",
    "Samples that were not sent: the oldest, since no more are kept, or of what is gone.",
)
UNSHOWN = Counter(
    "twinbridge_scada_sparkplug_unshown_values",
    "Values shown as null, since they fit no Sparkplug type.",
)
REBIRTHS = Counter(
    "twinbridge_scada_sparkplug_rebirths", "Births anew within a session.", ["cause"]
)
REBIRTHS_DEFERRED = Counter(
    "twinbridge_scada_sparkplug_rebirth_requests_deferred",
    "Requests for a rebirth that wait for one due later, since the last was a moment ago.",
)
COMMANDS = Counter(
    "twinbridge_scada_sparkplug_commands", "Commands heard, by outcome.", ["outcome"]
)
STATES_IGNORED = Counter(
    "twinbridge_scada_sparkplug_states_ignored", "STATE messages that were garbage or outdated."
)
