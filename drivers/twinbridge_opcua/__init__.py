"""The OPC UA driver."""

from twinbridge_opcua.driver import driver

__all__ = ["driver"]
