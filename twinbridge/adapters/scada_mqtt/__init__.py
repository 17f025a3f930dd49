"""Plain MQTT for SCADA, Node-RED and Telegraf: twins as JSON on topics, and commands by topic."""

from twinbridge.adapters.scada_mqtt.face import PlainFace

__all__ = ["PlainFace"]
