"""The MQTT device driver."""
