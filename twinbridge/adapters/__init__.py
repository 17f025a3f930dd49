"""What fills the ports: buses, stores, hubs, SCADA faces."""
