"""What the outbox holds, as JSON on the topics of a broker upstream."""

from __future__ import annotations

from twinbridge.adapters.sink_mqtt.sink import MqttUpstream, open_mqtt_upstream

__all__ = ["MqttUpstream", "open_mqtt_upstream"]
