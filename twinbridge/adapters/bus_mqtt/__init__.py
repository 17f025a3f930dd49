"""The bus between driver pods and agent, over an MQTT broker on the edge node."""
