"""What the face counts, in the library's own registry."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

MESSAGES = Counter("twinbridge_scada_mqtt_messages", "Messages that the face has sent.", ["kind"])
COALESCED = Counter(
    "twinbridge_scada_mqtt_coalesced_samples",
    "Samples replaced by a newer one before they were sent; history has them.",
)
RESYNCS = Counter(
    "twinbridge_scada_mqtt_resyncs",
    "Times that the face was so far behind that it read all twins anew.",
)
COMMANDS = Counter("twinbridge_scada_mqtt_commands", "Commands heard.", ["outcome"])
ANSWERS_LOST = Counter(
    "twinbridge_scada_mqtt_answers_lost", "Answers to commands that the broker did not take."
)
CONNECTIONS = Counter("twinbridge_scada_mqtt_connections", "Times that the broker was reached.")
CONNECTED = Gauge("twinbridge_scada_mqtt_connected", "1 while the broker is there.")
HIDDEN = Gauge(
    "twinbridge_scada_mqtt_hidden",
    "Devices and properties without topics, since their topics are another's.",
)
LATE = Counter(
    "twinbridge_scada_mqtt_history_samples", "Samples of outages sent later from history."
)
