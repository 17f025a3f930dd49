"""Simulated devices that speak MQTT, and the broker between them and their readers."""
