"""Machines with physics, by the name that a Device's annotation gives."""
