"""Between the agent and the hub: definitions and desired values down, status and events up."""
