"""Simulated machines behind OPC UA servers."""
