"""The MQTT device driver."""

from twinbridge_mqtt.driver import driver

__all__ = ["driver"]
