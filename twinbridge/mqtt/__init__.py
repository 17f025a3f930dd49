"""MQTT as a client, for whoever needs a broker: devices behind one, the bus, SCADA faces."""
