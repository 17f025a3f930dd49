"""Simulated machines that speak real protocols."""
